//! Generalised Gaussian distributions, fitted by the ratio of their moments on a grid of shapes:
//! symmetric (GGD) and asymmetric ones (AGGD).

use std::sync::LazyLock;

use libm::tgamma;

use crate::metrics::side_sums::SideSums;

/// Number of shapes: 0.2, 0.201, …, 10.
const SHAPES: usize = 9801;

/// mean(v²)/mean(|v|)² of the GGD with each shape; decreasing.
static SYMMETRIC: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..SHAPES).map(|index| moment_ratio(grid_shape(index))).collect());

/// mean(|v|)²/mean(v²) of the AGGD with equal sides and each shape; increasing.
static ASYMMETRIC: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let ratio =
        |shape: f64| tgamma(2.0 / shape).powi(2) / (tgamma(1.0 / shape) * tgamma(3.0 / shape));
    (0..SHAPES).map(|index| ratio(grid_shape(index))).collect()
});

/// Returns Γ(1/s)Γ(3/s)/Γ(2/s)², the ratio of the moments of a GGD with shape s.
pub(crate) fn moment_ratio(shape: f64) -> f64 {
    tgamma(1.0 / shape) * tgamma(3.0 / shape) / tgamma(2.0 / shape).powi(2)
}

/// Returns the shape of the GGD nearest to mean(v²)/mean(|v|)². NaN becomes the first shape.
pub(crate) fn symmetric_shape(ratio: f64) -> f64 {
    if !ratio.is_finite() {
        return grid_shape(0);
    }
    let above = SYMMETRIC.partition_point(|&entry| entry > ratio);
    grid_shape(nearest(&SYMMETRIC, above, ratio))
}

/// An AGGD: its shape, and the root mean square of each side. An empty side is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AsymmetricFit {
    pub(crate) shape: f64,
    pub(crate) left: f64,
    pub(crate) right: f64,
}

impl AsymmetricFit {
    /// Fits the distribution with these sums.
    pub(crate) fn of(sums: &SideSums) -> Self {
        let left = (sums.negative_squares / sums.negatives).sqrt();
        let right = (sums.positive_squares / sums.positives).sqrt();
        let sides = left / right;
        let mean_absolute = sums.absolutes / sums.count;
        let mean_square = (sums.negative_squares + sums.positive_squares) / sums.count;
        let ratio =
            mean_absolute * mean_absolute / mean_square * (sides.powi(3) + 1.0) * (sides + 1.0)
                / (sides * sides + 1.0).powi(2);
        let shape = if ratio.is_finite() {
            let below = ASYMMETRIC.partition_point(|&entry| entry < ratio);
            grid_shape(nearest(&ASYMMETRIC, below, ratio))
        } else {
            grid_shape(0)
        };
        Self { shape, left, right }
    }

    /// Returns √(Γ(1/α)/Γ(3/α)), the scale of a side divided by its root mean square.
    pub(crate) fn scale(&self) -> f64 {
        (tgamma(1.0 / self.shape) / tgamma(3.0 / self.shape)).sqrt()
    }

    /// Returns Γ(2/α)/Γ(1/α), the mean of a side divided by its scale.
    pub(crate) fn mean_factor(&self) -> f64 {
        tgamma(2.0 / self.shape) / tgamma(1.0 / self.shape)
    }
}

fn grid_shape(index: usize) -> f64 {
    0.2 + 0.001 * index as f64
}

/// Returns the index of the entry nearest to `value`, which is between the entries `after` − 1 and
/// `after`. The lower index is preferred.
fn nearest(table: &[f64], after: usize, value: f64) -> usize {
    let Some(before) = after.checked_sub(1) else { return 0 };
    match table.get(after) {
        Some(entry) if (value - entry).abs() < (value - table[before]).abs() => after,
        _ => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(shape: f64, expected: f64) -> bool {
        (shape - expected).abs() < 1e-12
    }

    #[test]
    fn the_tables_have_the_published_ends() {
        let ends = |table: &[f64]| (table[0], table[SHAPES - 1]);
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-3;
        let (first, last) = ends(&SYMMETRIC);
        assert!(near(first, 15.89) && near(last, 1.350), "{first} to {last}");
        let (first, last) = ends(&ASYMMETRIC);
        assert!(near(first, 0.0629) && near(last, 0.7405), "{first} to {last}");
    }

    #[test]
    fn each_shape_of_the_grid_is_found_from_its_moments() {
        for index in [0, 1, 800, 1800, 9799, 9800] {
            let shape = grid_shape(index);
            assert!(is_same(symmetric_shape(moment_ratio(shape)), shape), "shape {shape}");
            // Equal sides: mean square one, mean absolute value by the ratio.
            let absolutes = moment_ratio(shape).sqrt().recip() * 100.0;
            let sums = SideSums {
                count: 100.0,
                negatives: 50.0,
                negative_squares: 50.0,
                positives: 50.0,
                positive_squares: 50.0,
                absolutes,
            };
            assert_eq!(AsymmetricFit::of(&sums), AsymmetricFit { shape, left: 1.0, right: 1.0 });
        }
    }

    #[test]
    fn an_empty_side_is_not_a_number_and_the_other_one_is() {
        let none = SideSums {
            count: 9.0,
            negatives: 0.0,
            negative_squares: 0.0,
            positives: 9.0,
            positive_squares: 36.0,
            absolutes: 18.0,
        };
        let fit = AsymmetricFit::of(&none);
        assert_eq!((fit.shape, fit.right), (0.2, 2.0));
        assert!(fit.left.is_nan());
    }

    #[test]
    fn ratios_beyond_the_table_have_the_shapes_at_its_ends() {
        assert!(is_same(symmetric_shape(99.0), 0.2));
        assert!(is_same(symmetric_shape(1.0), 10.0));
        assert!(is_same(symmetric_shape(f64::NAN), 0.2));
    }
}
