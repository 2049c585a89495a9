//! BRISQUE: the distributions of local contrast and of its neighbours' products, regressed to a
//! score.

use crate::metrics::error::{ParametersError, Undefined};
use crate::metrics::gaussian_fit::{AsymmetricFit, symmetric_shape};
use crate::metrics::half_size::half_size;
use crate::metrics::local_contrast::{Border, each_contrast_row};
use crate::metrics::plane::Plane;
use crate::metrics::range_file::Ranges;
use crate::metrics::side_sums::NeighbourSums;
use crate::metrics::svm::Regression;

const FEATURES_PER_SCALE: usize = 18;
/// Number of features, at two scales.
pub(crate) const FEATURES: usize = 2 * FEATURES_PER_SCALE;
const MODEL_FILE: &str = "allmodel";
const RANGE_FILE: &str = "allrange";

/// The regression and the ranges of its features.
#[derive(Debug, Clone, PartialEq)]
pub struct BrisqueParameters {
    pub(crate) ranges: Ranges,
    pub(crate) regression: Regression,
}

impl BrisqueParameters {
    /// Reads the authors' `allmodel` and `allrange`.
    ///
    /// # Errors
    /// Fails if a file is damaged or has other features.
    pub(crate) fn parse(model: &[u8], range: &[u8]) -> Result<Self, ParametersError> {
        let invalid = |file| move |reason| ParametersError::Invalid { file, reason };
        Ok(Self {
            ranges: Ranges::parse(range, FEATURES).map_err(invalid(RANGE_FILE))?,
            regression: Regression::parse(model, FEATURES).map_err(invalid(MODEL_FILE))?,
        })
    }
}

/// Returns the score; lower is better.
///
/// # Errors
/// Fails if a distribution has an empty side.
pub(crate) fn brisque(grey: &Plane<u8>, parameters: &BrisqueParameters) -> Result<f64, Undefined> {
    let features = features(grey)?;
    Ok(parameters.regression.value(&parameters.ranges.scaled(&features)))
}

/// Returns the features of both scales.
///
/// # Errors
/// Fails if a distribution has an empty side.
pub(crate) fn features(grey: &Plane<u8>) -> Result<[f64; FEATURES], Undefined> {
    let mut features = [0.0; FEATURES];
    let (first, second) = features.split_at_mut(FEATURES_PER_SCALE);
    first.copy_from_slice(&scale_features(grey));
    second.copy_from_slice(&scale_features(&half_size(grey)));
    let is_defined = features.iter().all(|feature| feature.is_finite());
    if is_defined { Ok(features) } else { Err(Undefined::EmptySide) }
}

fn scale_features<T: Copy + Into<f64>>(plane: &Plane<T>) -> [f64; FEATURES_PER_SCALE] {
    let mut sums = NeighbourSums::new(plane.width());
    each_contrast_row(plane, Border::Zero, |row| sums.add_row(row.contrast));
    let (values, products) = sums.finish();
    let mean_square = (values.negative_squares + values.positive_squares) / values.count;
    let mean_absolute = values.absolutes / values.count;
    let mut features = [0.0; FEATURES_PER_SCALE];
    features[0] = symmetric_shape(mean_square / (mean_absolute * mean_absolute));
    features[1] = mean_square;
    for (sums, features) in products.iter().zip(features[2..].chunks_exact_mut(4)) {
        let fit = AsymmetricFit::of(sums);
        let mean = (fit.right - fit.left) * fit.mean_factor() * fit.scale();
        let squares = [fit.left * fit.left, fit.right * fit.right];
        features.copy_from_slice(&[fit.shape, mean, squares[0], squares[1]]);
    }
    features
}
