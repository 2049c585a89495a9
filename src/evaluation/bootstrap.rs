//! Confidence intervals by resampling the images (percentile bootstrap, Efron 1979).

use std::num::NonZeroUsize;

use fastrand::Rng;
use rayon::prelude::*;

/// Share of the resamples outside the interval, on each side.
const TAIL: f64 = 0.025;

/// The resamples of an interval. The same seed and count give the same intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Number of resamples. An end of the interval moves by about 0.003 between seeds at 2,000.
    pub resamples: NonZeroUsize,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: NonZeroUsize::new(2000).expect("2000 is not 0"), seed: 1 }
    }
}

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// 2.5 % of the resamples are below.
    pub low: f64,
    /// 2.5 % of the resamples are above.
    pub high: f64,
}

impl Bootstrap {
    /// Computes `measure` for every resample of `n` images, in parallel. The argument of `measure`
    /// is the list of the drawn images, with repetitions; it returns `None` for a resample for
    /// which it is not defined.
    pub(crate) fn run<T: Send>(
        &self,
        n: usize,
        measure: impl Fn(&[usize]) -> Option<T> + Sync,
    ) -> Vec<T> {
        let resamples: Vec<u64> = (0..self.resamples.get() as u64).collect();
        let one = |resample: &u64| {
            // Each resample has its own generator, so results do not depend on the threads.
            let mut random = Rng::with_seed(mixed(self.seed, *resample));
            let drawn: Vec<usize> = (0..n).map(|_| random.usize(0..n)).collect();
            measure(&drawn)
        };
        resamples.par_iter().filter_map(one).collect()
    }
}

/// Mixes seed and index, because generators with neighbouring seeds resemble each other
/// (`SplitMix64`).
fn mixed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Interval {
    /// Returns the 95 % interval of the values of the resamples. Returns `None` without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { low: quantile(&values, TAIL)?, high: quantile(&values, 1.0 - TAIL)? })
    }
}

/// Returns a quantile of sorted values, linear between neighbours like `NumPy`'s. Returns `None`
/// without values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=last")]
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let weight = position - below as f64;
    Some(sorted[below] + weight * (sorted[above] - sorted[below]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_linear_between_neighbours() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), Some(2.0));
        assert_eq!(quantile(&sorted, 0.75), Some(3.0));
        assert_eq!(quantile(&sorted, 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_images_and_another_seed_draws_others() {
        let draw = |seed| {
            let bootstrap = Bootstrap { resamples: NonZeroUsize::new(5).unwrap(), seed };
            bootstrap.run(50, |drawn| Some(drawn.to_vec()))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let first = draw(1);
        assert!(first.iter().all(|drawn| drawn.len() == 50));
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn the_interval_of_a_mean_has_the_width_that_statistics_predicts() {
        // 400 values 0 and 1: the deviation of the mean is 0.5 / 20.
        let values: Vec<f64> = (0..400).map(|index| f64::from(index % 2)).collect();
        let mean = |drawn: &[usize]| {
            Some(drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64)
        };
        let interval = Interval::of(Bootstrap::default().run(400, mean)).unwrap();
        let half_width = (interval.high - interval.low) / 2.0;
        assert!((half_width - 1.96 * 0.025).abs() < 0.004, "{interval:?}");
    }
}
