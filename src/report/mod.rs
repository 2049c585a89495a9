//! Human-readable output: a line on the terminal, an annotated picture, an HTML page over many
//! events.
//!
//! Imports `event` for the content, and `imaging` and `method` to draw it.

mod annotate;
mod colour_scale;
mod drawing;
mod html;
mod outlines;
pub mod table;

pub use annotate::{AnnotateError, annotate};
pub use html::Page;
pub use outlines::outline_masks;
