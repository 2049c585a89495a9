//! TIFF: the first page, in the sample types of photographs and scans.
//!
//! Supports grey of 1, 2, 4, 8 and 16 bits, palettes, RGB with and without alpha, CMYK, YCbCr, and
//! floating point samples from 0 to 1. Pixels may be in strips, tiles or planes.

mod decoder;
mod directory;
mod error;
mod jpeg_chunks;
mod samples;

pub(crate) use decoder::decode;
pub(crate) use directory::size;
