//! JPEG: a walk over the markers that finds truncation, and the decoder.
//!
//! The decoder (`zune-jpeg`) fills missing data with grey. A quality score of half a picture would
//! be worse than none, so `structure` walks the markers first. A file without its end-of-image
//! marker counts as truncated, even if only those two bytes are missing. Without them, a complete
//! picture cannot be distinguished from one that lost its last rows. Pillow refuses the same files.
//!
//! Colour follows ITU-T T.872 and the files that Adobe's software writes. Three components are
//! YCbCr unless an Adobe segment or the component names specify RGB. Four are CMYK, or YCCK if the
//! Adobe segment specifies it. An Adobe segment means inverted inks.

mod decoder;
mod markers;
mod structure;

pub(crate) use decoder::decode;
pub(crate) use structure::size;
