//! NIQE: the distance of an image's local statistics from those of natural photos.

use crate::metrics::error::{ParametersError, Undefined};
use crate::metrics::gaussian_fit::AsymmetricFit;
use crate::metrics::half_size::half_size;
use crate::metrics::local_contrast::{Border, each_contrast_row};
use crate::metrics::matrices::Matrices;
use crate::metrics::plane::Plane;
use crate::metrics::side_sums::NeighbourSums;

/// Side of a block in pixels, at the first scale.
const BLOCK: usize = 96;
const FEATURES_PER_SCALE: usize = 18;
const FEATURES: usize = 2 * FEATURES_PER_SCALE;
const FILE: &str = "modelparameters.mat";

/// Features of a block: shapes and scales of its coefficients, at two scales. NaN if a distribution
/// has an empty side.
pub(crate) type BlockFeatures = [f64; FEATURES];

/// A symmetric matrix.
type Matrix = [[f64; FEATURES]; FEATURES];

/// Mean and covariance of the features of natural photos.
#[derive(Debug, Clone, PartialEq)]
pub struct NiqeParameters {
    mean: BlockFeatures,
    covariance: Box<Matrix>,
}

impl NiqeParameters {
    /// Reads the authors' `modelparameters.mat`.
    ///
    /// # Errors
    /// Fails if the file is damaged, lacks a matrix, or the covariance is not positive definite.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ParametersError> {
        let invalid = |reason| ParametersError::Invalid { file: FILE, reason };
        let file = Matrices::parse(bytes).map_err(invalid)?;
        let mean = file.vector("mu_prisparam", FEATURES).map_err(invalid)?;
        let values = file.matrix("cov_prisparam", (FEATURES, FEATURES)).map_err(invalid)?;
        // A covariance is symmetric, so the order of rows and columns does not matter.
        let covariance: Box<Matrix> = Box::new(std::array::from_fn(|row| {
            std::array::from_fn(|column| values[row * FEATURES + column])
        }));
        let asymmetry = |row: usize, column: usize| {
            let difference = (covariance[row][column] - covariance[column][row]).abs();
            difference > 1e-9 * (covariance[row][row] * covariance[column][column]).abs().sqrt()
        };
        if (0..FEATURES).any(|row| (0..row).any(|column| asymmetry(row, column))) {
            return Err(invalid("`cov_prisparam` is not symmetric".to_owned()));
        }
        if cholesky(&covariance).is_none() {
            return Err(invalid("`cov_prisparam` is not positive definite".to_owned()));
        }
        Ok(Self { mean: std::array::from_fn(|index| mean[index]), covariance })
    }
}

/// Mean and covariance of the blocks of one image.
pub(crate) struct BlockStatistics {
    pub(crate) mean: BlockFeatures,
    pub(crate) covariance: Box<Matrix>,
}

/// Returns the distance; lower is better.
///
/// # Errors
/// Fails if fewer than two blocks have all features.
pub(crate) fn niqe(grey: &Plane<u8>, parameters: &NiqeParameters) -> Result<f64, Undefined> {
    let statistics = block_statistics(&block_features(grey)?)?;
    let delta: BlockFeatures =
        std::array::from_fn(|index| parameters.mean[index] - statistics.mean[index]);
    let mut pooled = parameters.covariance.clone();
    for (row, added) in pooled.iter_mut().zip(statistics.covariance.iter()) {
        for (value, added) in row.iter_mut().zip(added) {
            *value = (*value + added) / 2.0;
        }
    }
    // δᵀ M⁻¹ δ is the squared length of L⁻¹ δ.
    let factor = cholesky(&pooled).ok_or(Undefined::NotFinite)?;
    let mut solved = [0.0; FEATURES];
    for row in 0..FEATURES {
        let known: f64 = (0..row).map(|column| factor[row][column] * solved[column]).sum();
        solved[row] = (delta[row] - known) / factor[row][row];
    }
    Ok(solved.iter().map(|value| value * value).sum::<f64>().sqrt())
}

/// Returns the features of each whole block, row by row from the top left.
///
/// # Errors
/// Fails if there are fewer than two blocks.
pub(crate) fn block_features(grey: &Plane<u8>) -> Result<Vec<BlockFeatures>, Undefined> {
    let (columns, rows) = (grey.width() / BLOCK, grey.height() / BLOCK);
    if columns * rows < 2 {
        return Err(Undefined::TooFewBlocks { blocks: columns * rows });
    }
    let whole = grey.cropped(columns * BLOCK, rows * BLOCK);
    let mut features = vec![[0.0; FEATURES]; columns * rows];
    add_scale(&whole, BLOCK, &mut features, 0);
    add_scale(&half_size(&whole), BLOCK / 2, &mut features, FEATURES_PER_SCALE);
    Ok(features)
}

/// Computes the features of one scale, and stores them from index `at`.
fn add_scale<T: Copy + Into<f64>>(
    plane: &Plane<T>,
    side: usize,
    features: &mut [BlockFeatures],
    at: usize,
) {
    let columns = plane.width() / side;
    let mut sums = vec![NeighbourSums::new(side); columns];
    each_contrast_row(plane, Border::Repeated, |row| {
        for (sums, values) in sums.iter_mut().zip(row.contrast.chunks_exact(side)) {
            sums.add_row(values);
        }
        if (row.index + 1).is_multiple_of(side) {
            let first = row.index / side * columns;
            for (sums, features) in sums.iter_mut().zip(&mut features[first..]) {
                features[at..at + FEATURES_PER_SCALE].copy_from_slice(&scale_features(sums));
            }
        }
    });
}

fn scale_features(sums: &mut NeighbourSums) -> [f64; FEATURES_PER_SCALE] {
    let (values, products) = sums.finish();
    let mut features = [0.0; FEATURES_PER_SCALE];
    let fit = AsymmetricFit::of(&values);
    let scale = fit.scale();
    features[0] = fit.shape;
    features[1] = f64::midpoint(fit.left * scale, fit.right * scale);
    for (sums, features) in products.iter().zip(features[2..].chunks_exact_mut(4)) {
        let fit = AsymmetricFit::of(sums);
        let (left, right) = (fit.left * fit.scale(), fit.right * fit.scale());
        features.copy_from_slice(&[fit.shape, (right - left) * fit.mean_factor(), left, right]);
    }
    features
}

/// Returns the mean of each feature over the blocks that have it, and the covariance over the
/// blocks that have all of them.
///
/// # Errors
/// Fails if fewer than two blocks have all features.
pub(crate) fn block_statistics(features: &[BlockFeatures]) -> Result<BlockStatistics, Undefined> {
    let is_complete = |block: &&BlockFeatures| !block.iter().any(|value| value.is_nan());
    let complete: Vec<&BlockFeatures> = features.iter().filter(is_complete).collect();
    if complete.len() < 2 {
        return Err(Undefined::TooFewCompleteBlocks { complete: complete.len() });
    }
    let mean = std::array::from_fn(|index| {
        let known = features.iter().map(|block| block[index]).filter(|value| !value.is_nan());
        known.clone().sum::<f64>() / known.count() as f64
    });
    let centre: BlockFeatures = std::array::from_fn(|index| {
        complete.iter().map(|block| block[index]).sum::<f64>() / complete.len() as f64
    });
    let mut covariance = Box::new([[0.0; FEATURES]; FEATURES]);
    for block in &complete {
        let distance: BlockFeatures = std::array::from_fn(|index| block[index] - centre[index]);
        for (row, down) in covariance.iter_mut().zip(distance) {
            for (sum, across) in row.iter_mut().zip(distance) {
                *sum += down * across;
            }
        }
    }
    for value in covariance.as_flattened_mut() {
        *value /= (complete.len() - 1) as f64;
    }
    Ok(BlockStatistics { mean, covariance })
}

/// Returns the lower triangle L with L Lᵀ equal to the matrix, or `None` if it is not positive
/// definite.
fn cholesky(matrix: &Matrix) -> Option<Box<Matrix>> {
    let mut factor = Box::new([[0.0; FEATURES]; FEATURES]);
    for row in 0..FEATURES {
        for column in 0..=row {
            let known: f64 =
                (0..column).map(|index| factor[row][index] * factor[column][index]).sum();
            let rest = matrix[row][column] - known;
            factor[row][column] = if row > column {
                rest / factor[column][column]
            } else if rest > 0.0 && rest.is_finite() {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(factor)
}
