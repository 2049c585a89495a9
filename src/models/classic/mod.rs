//! Models without weights: graph-based segmentation and a scorer of hand-crafted measures.
//!
//! ```text
//!  pixels ── felzenszwalb (over-segmentation) ── merge (≤ 10 regions) ── masks (run lengths)
//!  pixels ── features (sharpness, noise, blocking, …) ── quality (one number) ── levels
//! ```
//! Everything here is a pure function of the pixels: no randomness, no clock, no learned parameter.
//! Imports `imaging` (resizing) and `method` (masks, levels).

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "pixel positions, counts and grey levels: small whole numbers in every type used"
)]

pub mod features;
mod felzenszwalb;
mod masks;
mod merge;
mod quality;
mod segmentation;

pub use felzenszwalb::LabelMap;
pub use masks::masks;
pub use quality::{Penalties, distribution, quality};
pub(crate) use quality::{brightness, darkness};
pub use segmentation::{REGIONS_MAX, reduced, segment};
