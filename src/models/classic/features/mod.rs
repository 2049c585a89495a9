//! No-reference measures without learned parameters, one file each with its source.
//!
//! ```text
//!  picture ─┬─ tiles at its own resolution ── luma ── pyramid ─┬─ sharpness (octaves lost)
//!           │                                                  ├─ noise (variance)
//!           │                                                  ├─ blocking (octaves)
//!           │                                                  └─ repetition (octaves)
//!           ├─ the same tiles' histograms ─────────────────── levels used (octaves lost)
//!           └─ a grid of small means ──────────────────────── tone (exposure, contrast, clipping)
//! ```
//! Every measure keeps growing with its distortion: none has a flat part. Imports no other module
//! of this crate.

mod blocking;
mod levels_used;
mod measure;
mod noise;
mod plane;
mod repetition;
mod sharpness;
mod tone;

pub use measure::{Features, measure};
pub use plane::PIXELS_MAX;
