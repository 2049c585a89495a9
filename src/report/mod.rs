//! What people look at: a line on the terminal, an annotated picture, a page over many of them.

mod annotate;
mod html;
mod outlines;
mod scale;
pub mod table;

pub use annotate::{AnnotateError, annotate};
pub use html::Page;
pub use outlines::outline_masks;
