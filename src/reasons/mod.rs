//! Reasons in words for a picture's quality: distortions measured on the whole picture and on each
//! region, whatever engine scores it.
//!
//! ```text
//!  picture ─┬─ cells of 32 × 32 px at full resolution ─┬─ detail ── blurred, motion_blurred
//!           │                                          ├─ subject ─ out_of_focus_subject
//!           │                                          ├─ noise and blocking of `classic`
//!           │                                          ├─ drawing ─ what no camera took
//!           │                                          └─ tone ──── exposure, contrast, flatness
//!           ├─ resampling (periods of rows and columns) ─ upscaled
//!           ├─ borders (uniform rows and columns)
//!           └─ its size ─ low_resolution
//! ```
//! [`measure`] lists a reason if its strength reaches the limit of its code. Pure functions of the
//! pixels and the masks. The cost is bounded by the number of cells, not by the picture's size.
//!
//! Imports `imaging` (pictures), `method` (masks, reasons) and the measures of `models::classic`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "pixel positions and counts: small whole numbers in every type used"
)]

mod borders;
mod cells;
mod detail;
mod drawing;
mod measure;
mod resampling;
mod strength;
mod subject;
mod texts;
mod tone;

pub use measure::measure;
pub use texts::{ReasonTexts, TextsError};
