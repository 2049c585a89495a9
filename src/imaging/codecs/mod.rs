//! One file or folder per image format: its size without decoding, and its decoder.
//!
//! PNG, WebP, GIF and BMP use the decoders of the `image` crate (`image_crate`). JPEG and TIFF use
//! their own crates, and check the structure of the file before they decode it.
//!
//! Imports the types at the bottom of `imaging` (error, format, header, raster, settings) and the
//! buffer pool.

pub(crate) mod bmp;
mod byte_order;
pub(crate) mod gif;
mod image_crate;
pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod signature;
pub(crate) mod tiff;
pub(crate) mod webp;
mod ycbcr;
