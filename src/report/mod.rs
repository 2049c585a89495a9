//! Human-readable output: a line and the reasons on the terminal, an annotated picture, an HTML
//! page over many events.
//!
//! Imports `event` and `evaluation` for the content, and `imaging` and `method` to draw it.

mod annotate;
mod colour_scale;
mod drawing;
mod escape;
mod evaluation_page;
mod html;
mod outlines;
mod reason_group;
mod scatter;
pub mod table;

pub use annotate::{AnnotateError, annotate};
pub use evaluation_page::{AgreementSection, EvaluationPage, LargeError};
pub use html::Page;
pub use outlines::outline_masks;
pub use reason_group::ReasonGroup;
