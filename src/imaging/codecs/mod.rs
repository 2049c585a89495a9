//! One file or folder per image format: its size without decoding, and its decoder.
//!
//! PNG, WebP, GIF and BMP use the decoders of the `image` crate (`image_crate`). JPEG has its own
//! decoder, which knows of each block that it was decoded from data of its own. The others use
//! their own crates. All check the structure of the file before they decode it; PNG, WebP, GIF and
//! BMP repair it too. HEIC, AVIF and JPEG XL have a cargo feature each; without it, the file is
//! refused by name.
//!
//! Imports the types at the bottom of `imaging` (error, format, header, raster, settings) and the
//! buffer pool.

pub(crate) mod bmp;
mod byte_order;
mod exif;
pub(crate) mod gif;
pub(crate) mod heif;
mod image_crate;
pub(crate) mod jpeg;
#[cfg(feature = "jxl")]
pub(crate) mod jxl;
pub(crate) mod png;
pub(crate) mod signature;
pub(crate) mod tiff;
pub(crate) mod webp;
mod ycbcr;
