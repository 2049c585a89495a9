//! One file or folder per image format: its size without decoding, and its decoder.
//!
//! PNG, WebP, GIF and BMP use the decoders of the `image` crate (`image_crate`), TIFF its own crate.
//! They check and repair the structure of the file first. JPEG has its own decoder, which knows of
//! each block that it was decoded from data of its own.
//!
//! Imports the types at the bottom of `imaging` (error, format, header, raster, settings) and the
//! buffer pool.

pub(crate) mod bmp;
mod byte_order;
mod exif;
pub(crate) mod gif;
mod image_crate;
pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod signature;
pub(crate) mod tiff;
pub(crate) mod webp;
mod ycbcr;
