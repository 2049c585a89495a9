//! Binary masks: run-length encoding, set operations, bounding boxes and the JSON form.
//!
//! Imports no other module of this crate.

mod bounding_box;
mod error;
mod limits;
mod mask;
mod rle;
mod rle_text;
mod run_builder;

pub use bounding_box::BoundingBox;
pub use error::MaskError;
pub use limits::{PIXELS_MAX, RUNS_MAX};
pub use mask::Mask;
pub use rle::Rle;
