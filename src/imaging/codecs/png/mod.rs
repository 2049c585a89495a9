//! PNG: a walk over the chunks, and the decoder.
//!
//! The decoder does not look at the checksum of the last image data, and wants an end chunk. So
//! `chunks` checks what an image consists of, and completes a file that only lacks its end.

mod chunks;
mod colour;
mod decoder;

pub(crate) use chunks::size;
pub(crate) use decoder::decode;
