//! TIFF: the first page, in the sample types of photographs and scans.
//!
//! Supports grey of 1, 2, 4, 8 and 16 bits, palettes, RGB with and without alpha, CMYK, YCbCr, and
//! floating point samples from 0 to 1. Pixels may be in strips, tiles or planes, those of one bit
//! also in the codings of fax machines.

mod decoder;
mod directory;
mod error;
mod fax;
mod jpeg_chunks;
mod rewrite;
mod samples;

pub(crate) use decoder::decode;
pub(crate) use directory::size;
