//! Thresholds and curves for the data at hand.
//!
//! Imports only `bootstrap` and `error` of the folder above.

mod isotonic;
mod mask_weight;
mod savings;
mod threshold;

pub use isotonic::isotonic;
pub use mask_weight::{MaskCounts, MaskWeight, best_mask_weight, mask_counts};
pub use savings::{Prices, Savings, savings};
pub use threshold::{
    ChosenThreshold, Rates, Target, TargetError, choose_threshold, rates, review_band,
    short_threshold, threshold_curve,
};
