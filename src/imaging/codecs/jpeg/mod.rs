//! JPEG: a decoder that knows of each block that it was decoded from data of its own.
//!
//! Decoders for viewers fill missing or damaged blocks with grey, or with those next to them. A
//! quality score of such a picture would be worse than none. So this decoder refuses what an
//! encoder of 8-bit samples does not write: data that ends before the last block, bits that are no
//! code, blocks with too many coefficients or impossible ones, restart markers out of order, and
//! whole MCUs behind the last one. An end marker is no proof of completeness, and its absence none
//! of the contrary.
//!
//! ```text
//!  markers ─► frame, huffman, metadata          decoder ─► scan ─► sequential, progressive
//!                                                  └─────► render ─► transform, upsample, colour
//! ```
//!
//! Supports baseline, extended sequential and progressive coding with Huffman tables and 8 bits, as
//! browsers do. Samples differ from libjpeg's by rounding at most. There is no `unsafe`: `pulp`
//! gives access to the CPU's instructions.
//!
//! Colour follows libjpeg, ITU-T T.872 and browsers. Three components are YCbCr unless an Adobe
//! segment or the component names specify RGB. Four are CMYK, or YCCK if an Adobe segment specifies
//! it, and stored inverted.

mod bits;
mod coefficients;
mod colour;
mod decoder;
mod fault;
mod frame;
mod huffman;
mod lanes;
mod markers;
mod metadata;
mod progress;
mod progressive;
mod render;
mod scan;
mod sequential;
mod transform;
mod upsample;

pub(crate) use decoder::decode;
pub(crate) use frame::size;
