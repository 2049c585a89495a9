//! Hand-crafted metrics of whole images, the baselines of the paper's Table 2, and PIQE: pure
//! functions from pixels to one number.
//!
//! ```text
//!  Metric ─ name, direction, range      Parameters ─ the authors' files, parsed      measure
//!  niqe, brisque ─ local_contrast ► side_sums ► gaussian_fit, at two scales (half_size)
//!  biqi ─ wavelet, jpeg_blockiness      bliinds2 ─ block_transform ► block_statistics
//!  svm, support_vectors, svm_file, range_file, matrices ─ parameters
//!  lanes, row_window, decimation ─ filters
//! ```
//! The authors' code is the reference, with two exceptions. Contrast that is only a rounding error
//! is zero (`local_contrast`), and an undefined value is an error with a reason, never NaN.
//!
//! Imports `mat_file` only.

mod biqi;
mod bliinds2;
mod block_statistics;
mod block_transform;
mod brisque;
mod decimation;
mod error;
mod gaussian_fit;
#[cfg(test)]
mod golden_comparison;
#[cfg(test)]
mod goldens;
mod half_size;
mod jpeg_blockiness;
mod lanes;
mod local_contrast;
mod matrices;
mod metric;
mod niqe;
mod parameters;
mod piqe;
mod plane;
mod range_file;
mod row_window;
mod side_sums;
mod support_vectors;
mod svm;
mod svm_file;
mod wavelet;

pub use biqi::BiqiParameters;
pub use bliinds2::Bliinds2Parameters;
pub use brisque::BrisqueParameters;
pub use error::{ParametersError, Undefined};
pub use metric::{Better, Metric};
pub use niqe::NiqeParameters;
pub use parameters::{Parameters, measure};
