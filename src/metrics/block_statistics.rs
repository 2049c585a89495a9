//! The four values of a block of BLIINDS-II: variation, shape, energy of the bands, and
//! orientation.

use std::sync::LazyLock;

use crate::metrics::block_transform::Coefficients;
use crate::metrics::gaussian_fit::moment_ratio;
use crate::metrics::lanes::{LANES, Lanes, each, load, vectorised};

/// Added to denominators, as in the original.
const EPSILON: f64 = 1e-7;
const ENERGY_EPSILON: f64 = 1e-8;
/// Shape of a block whose ratio of moments is outside the table.
const OTHER_SHAPE: f64 = 11.0;
/// Number of shapes: 0.03, 0.031, …, 10.
const SHAPES: usize = 9971;

/// Row and column of a coefficient.
type Place = (usize, usize);
const LOW: [Place; 5] = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 1)];
#[rustfmt::skip]
const MIDDLE: [Place; 13] = [
    (3, 0), (4, 0), (2, 1), (3, 1), (4, 1), (1, 2), (2, 2), (3, 2), (0, 3), (1, 3), (2, 3),
    (0, 4), (1, 4),
];
const HIGH: [Place; 6] = [(2, 4), (3, 3), (4, 2), (3, 4), (4, 3), (4, 4)];
const ACROSS: [Place; 8] = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 4)];
const DIAGONAL: [Place; 8] = [(1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4)];
const DOWN: [Place; 8] = [(1, 0), (2, 0), (3, 0), (4, 0), (2, 1), (3, 1), (4, 1), (4, 2)];

/// Ratio of the moments of each shape; decreasing.
static RATIOS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..SHAPES).map(|index| moment_ratio(grid_shape(index))).collect());

/// One value for each block.
#[derive(Debug, Default)]
pub(crate) struct BlockValues {
    pub(crate) variation: Vec<f64>,
    pub(crate) shape: Vec<f64>,
    pub(crate) energy: Vec<f64>,
    pub(crate) orientation: Vec<f64>,
}

/// Values of neighbouring blocks, before the shape is looked up.
struct LaneValues {
    variation: Lanes,
    moments: Lanes,
    energy: Lanes,
    orientation: Lanes,
}

impl BlockValues {
    /// Adds the values of a row of blocks.
    pub(crate) fn add_row(&mut self, coefficients: &Coefficients, blocks: usize) {
        let ratios = &RATIOS[..];
        for at in (0..blocks).step_by(LANES) {
            let values = vectorised(|| lane_values(coefficients, at));
            let count = LANES.min(blocks - at);
            self.variation.extend_from_slice(&values.variation[..count]);
            self.energy.extend_from_slice(&values.energy[..count]);
            self.orientation.extend_from_slice(&values.orientation[..count]);
            self.shape.extend(values.moments[..count].iter().map(|&ratio| shape(ratios, ratio)));
        }
    }

    /// Returns the mean of each value over all blocks, and over the tenth of them with the largest
    /// values; of the shape, with the smallest.
    pub(crate) fn means(mut self) -> [f64; 8] {
        let mut means = [0.0; 8];
        let values =
            [&mut self.variation, &mut self.shape, &mut self.energy, &mut self.orientation];
        for (index, (values, means)) in
            values.into_iter().zip(means.chunks_exact_mut(2)).enumerate()
        {
            let (count, tenth) = (values.len(), values.len().div_ceil(10));
            means[0] = values.iter().sum::<f64>() / count as f64;
            let extreme = if index == 1 {
                values.select_nth_unstable_by(tenth - 1, f64::total_cmp);
                &values[..tenth]
            } else {
                values.select_nth_unstable_by(count - tenth, f64::total_cmp);
                &values[count - tenth..]
            };
            means[1] = extreme.iter().sum::<f64>() / tenth as f64;
        }
        means
    }
}

#[inline(always)]
fn lane_values(coefficients: &Coefficients, at: usize) -> LaneValues {
    let blocks: [[Lanes; 5]; 5] = std::array::from_fn(|row| {
        std::array::from_fn(|column| load(&coefficients[row][column], at))
    });
    let all: [Lanes; 24] = std::array::from_fn(|index| blocks[(index + 1) / 5][(index + 1) % 5]);
    let mean = mean(&all);
    let deviation: [Lanes; 24] =
        std::array::from_fn(|index| each(|lane| (all[index][lane] - mean[lane]).abs()));
    let (variance, deviation) = (variance(&all), self::mean(&deviation));
    let [low, middle, high] =
        [variance_of(&blocks, &LOW), variance_of(&blocks, &MIDDLE), variance_of(&blocks, &HIGH)];
    let directions = [
        variation(&chosen(&blocks, &ACROSS)),
        variation(&chosen(&blocks, &DIAGONAL)),
        variation(&chosen(&blocks, &DOWN)),
    ];
    LaneValues {
        variation: variation(&all),
        moments: each(|lane| variance[lane] / (deviation[lane] * deviation[lane] + EPSILON)),
        energy: each(|lane| {
            let (v1, v2, v3) = (low[lane], middle[lane], high[lane]);
            let centre = 0.5 * (v1 + v2);
            // The original divides by v3 + v1 where v2 + v1 would be expected.
            let last = (v3 - centre).abs() / (v3 + centre + ENERGY_EPSILON);
            0.5 * (last + (v2 - v1).abs() / (v3 + v1 + ENERGY_EPSILON))
        }),
        orientation: self::variance(&directions),
    }
}

#[inline(always)]
fn chosen<const N: usize>(blocks: &[[Lanes; 5]; 5], places: &[Place; N]) -> [Lanes; N] {
    std::array::from_fn(|index| blocks[places[index].0][places[index].1])
}

#[inline(always)]
fn variance_of<const N: usize>(blocks: &[[Lanes; 5]; 5], places: &[Place; N]) -> Lanes {
    variance(&chosen(blocks, places))
}

/// Returns the standard deviation of the magnitudes, divided by their mean.
#[inline(always)]
fn variation<const N: usize>(values: &[Lanes; N]) -> Lanes {
    let magnitudes: [Lanes; N] =
        std::array::from_fn(|index| each(|lane| values[index][lane].abs()));
    let (mean, variance) = (mean(&magnitudes), variance(&magnitudes));
    each(|lane| variance[lane].sqrt() / (mean[lane] + EPSILON))
}

#[inline(always)]
fn mean<const N: usize>(values: &[Lanes; N]) -> Lanes {
    let mut sums = [0.0; LANES];
    for value in values {
        sums = each(|lane| sums[lane] + value[lane]);
    }
    each(|lane| sums[lane] / N as f64)
}

/// Returns the variance, divided by the number of values minus one.
#[inline(always)]
fn variance<const N: usize>(values: &[Lanes; N]) -> Lanes {
    let mean = mean(values);
    let mut sums = [0.0; LANES];
    for value in values {
        sums = each(|lane| {
            let distance = value[lane] - mean[lane];
            sums[lane] + distance * distance
        });
    }
    each(|lane| sums[lane] / (N - 1) as f64)
}

/// Returns the first shape whose ratio is not below `ratio` while the next one's is.
fn shape(ratios: &[f64], ratio: f64) -> f64 {
    match ratios.partition_point(|&entry| entry >= ratio) {
        0 => OTHER_SHAPE,
        count if count == ratios.len() => OTHER_SHAPE,
        count => grid_shape(count - 1),
    }
}

fn grid_shape(index: usize) -> f64 {
    0.03 + 0.001 * index as f64
}
