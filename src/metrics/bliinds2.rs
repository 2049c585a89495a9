//! BLIINDS-II: statistics of local cosine transforms at three scales, and the most likely score
//! under a multivariate Gaussian of features and scores.

use crate::metrics::block_statistics::BlockValues;
use crate::metrics::block_transform::each_row_of_blocks;
use crate::metrics::decimation::{Decimation, Outside};
use crate::metrics::error::ParametersError;
use crate::metrics::matrices::Matrices;
use crate::metrics::plane::Plane;

const SCALES: usize = 3;
const FEATURES_PER_SCALE: usize = 8;
/// Number of features.
pub(crate) const FEATURES: usize = SCALES * FEATURES_PER_SCALE;
const FILE: &str = "parameters_from_training.mat";
/// Gaussian with a standard deviation of half a pixel.
const GAUSSIAN: [f64; 3] =
    [0.106_506_978_919_200_73, 0.786_986_042_161_598_4, 0.106_506_978_919_200_73];

/// The least squares line of the score in the features.
#[derive(Debug, Clone, PartialEq)]
pub struct Bliinds2Parameters {
    feature_means: [f64; FEATURES],
    score_mean: f64,
    /// The inverse covariance of each feature with the score, divided by that of the score.
    weights: [f64; FEATURES],
}

impl Bliinds2Parameters {
    /// Reads the authors' `parameters_from_training.mat`.
    ///
    /// # Errors
    /// Fails if the file is damaged, lacks a matrix, or the score's variance is not positive.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ParametersError> {
        let invalid = |reason| ParametersError::Invalid { file: FILE, reason };
        let file = Matrices::parse(bytes).map_err(invalid)?;
        let mean = file.vector("live_mu", FEATURES + 1).map_err(invalid)?;
        let size = (FEATURES + 1, FEATURES + 1);
        // Symmetric, so its last column is its last row.
        let inverse = file.matrix("live_sigma_inv", size).map_err(invalid)?;
        let of_score = &inverse[FEATURES * (FEATURES + 1)..];
        if of_score[FEATURES] <= 0.0 {
            return Err(invalid(format!(
                "the last entry of `live_sigma_inv` is {}, it must be above zero",
                of_score[FEATURES]
            )));
        }
        Ok(Self {
            feature_means: std::array::from_fn(|index| mean[index]),
            score_mean: mean[FEATURES],
            weights: std::array::from_fn(|index| of_score[index] / of_score[FEATURES]),
        })
    }

    /// Returns the most likely score, before rounding and clamping.
    pub(crate) fn optimum(&self, features: &[f64; FEATURES]) -> f64 {
        let distances = features.iter().zip(&self.feature_means).map(|(value, mean)| value - mean);
        let products =
            self.weights.iter().zip(distances).map(|(weight, distance)| weight * distance);
        self.score_mean - products.sum::<f64>()
    }
}

/// Returns the score in steps of a half; lower is better.
pub(crate) fn bliinds2(red: &Plane<u8>, parameters: &Bliinds2Parameters) -> f64 {
    let optimum = parameters.optimum(&features(red));
    // The table of the original is shifted by one.
    ((2.0 * optimum).round_ties_even() / 2.0).clamp(1.0, 100.0) - 1.0
}

/// Returns the features of all scales.
pub(crate) fn features(red: &Plane<u8>) -> [f64; FEATURES] {
    let mut features = [0.0; FEATURES];
    let (first, rest) = features.split_at_mut(FEATURES_PER_SCALE);
    first.copy_from_slice(&scale_features(red).means());
    let mut plane = next_scale(red);
    let (second, third) = rest.split_at_mut(FEATURES_PER_SCALE);
    second.copy_from_slice(&scale_features(&plane).means());
    plane = next_scale(&plane);
    third.copy_from_slice(&scale_features(&plane).means());
    features
}

/// Returns the values of all blocks of a scale.
pub(crate) fn scale_features<T: Copy + Into<f64>>(plane: &Plane<T>) -> BlockValues {
    let mut values = BlockValues::default();
    each_row_of_blocks(plane, |coefficients, blocks| values.add_row(coefficients, blocks));
    values
}

/// Returns the smoothed plane at the odd rows and columns.
pub(crate) fn next_scale<T: Copy + Into<f64>>(plane: &Plane<T>) -> Plane<f64> {
    let filter = Decimation { first: 0, taps: [GAUSSIAN], outside: Outside::Zero };
    let [[next]] = filter.apply(plane, (plane.width() / 2, plane.height() / 2));
    next
}
