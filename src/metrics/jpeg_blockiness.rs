//! The no-reference score of JPEG images by Wang, Sheikh and Bovik, ICIP 2002: differences at the
//! borders of 8×8 blocks, differences elsewhere, and changes of their sign.

use crate::metrics::plane::Plane;

/// Blockiness, activity and the share of zero crossings, each the mean of both axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct JpegTerms {
    pub(crate) blockiness: f64,
    pub(crate) activity: f64,
    pub(crate) zero_crossings: f64,
}

/// Exact sums along one axis.
#[derive(Debug, Default)]
struct AxisSums {
    absolutes: u64,
    at_borders: u64,
    crossings: u64,
}

impl JpegTerms {
    /// Measures a plane of at least 16×16 samples.
    pub(crate) fn of(grey: &Plane<u8>) -> Self {
        let (width, height) = (grey.width(), grey.height());
        let across = across(grey).terms(width, height);
        let down = down(grey).terms(height, width);
        Self {
            blockiness: f64::midpoint(across.blockiness, down.blockiness),
            activity: f64::midpoint(across.activity, down.activity),
            zero_crossings: f64::midpoint(across.zero_crossings, down.zero_crossings),
        }
    }

    /// Returns the score. It is not finite in flat and in some smooth images.
    pub(crate) fn score(&self) -> f64 {
        -927.4240
            + 850.8986
                * self.blockiness.powf(0.023_544_51)
                * self.activity.powf(0.012_875_48)
                * self.zero_crossings.powf(-0.034_147_9)
    }
}

impl AxisSums {
    /// Returns the means over `lines` lines of `length` samples.
    fn terms(&self, length: usize, lines: usize) -> JpegTerms {
        let mean = |sum: u64, count: usize| sum as f64 / (count * lines) as f64;
        let blockiness = mean(self.at_borders, length / 8 - 1);
        JpegTerms {
            blockiness,
            activity: (8.0 * mean(self.absolutes, length - 1) - blockiness) / 7.0,
            zero_crossings: mean(self.crossings, length - 2),
        }
    }
}

/// Returns true if the difference after this sample is counted as the border of a block.
fn is_border(position: usize, length: usize) -> bool {
    position % 8 == 7 && position < 8 * (length / 8 - 1)
}

fn across(grey: &Plane<u8>) -> AxisSums {
    let width = grey.width();
    let mut sums = AxisSums::default();
    for row in grey.samples().chunks_exact(width) {
        let (here, right, next) = (&row[..width - 2], &row[1..width - 1], &row[2..]);
        sums.absolutes += absolutes(&row[..width - 1], &row[1..]);
        sums.crossings += crossings(here, right, next);
        let borders = (7..width - 1).step_by(8).filter(|&x| is_border(x, width));
        sums.at_borders += borders.map(|x| u64::from(row[x].abs_diff(row[x + 1]))).sum::<u64>();
    }
    sums
}

fn down(grey: &Plane<u8>) -> AxisSums {
    let height = grey.height();
    let mut sums = AxisSums::default();
    for y in 0..height - 1 {
        let absolute = absolutes(grey.row(y), grey.row(y + 1));
        sums.absolutes += absolute;
        if is_border(y, height) {
            sums.at_borders += absolute;
        }
        if y + 2 < height {
            sums.crossings += crossings(grey.row(y), grey.row(y + 1), grey.row(y + 2));
        }
    }
    sums
}

fn absolutes(here: &[u8], next: &[u8]) -> u64 {
    // 2^16 differences fit into 32 bits; the sum over a longer row does not.
    let sum = |here: &[u8], next: &[u8]| -> u32 {
        here.iter().zip(next).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum()
    };
    here.chunks(1 << 16).zip(next.chunks(1 << 16)).map(|(a, b)| u64::from(sum(a, b))).sum()
}

/// Counts neighbouring differences of opposite sign.
fn crossings(first: &[u8], second: &[u8], third: &[u8]) -> u64 {
    // Arithmetic instead of branches, for vector instructions.
    let crossing = |(&a, (&b, &c)): (&u8, (&u8, &u8))| {
        let (is_peak, is_valley) =
            (u32::from(a < b) & u32::from(b > c), u32::from(a > b) & u32::from(b < c));
        is_peak | is_valley
    };
    let count: u32 = first.iter().zip(second.iter().zip(third)).map(crossing).sum();
    u64::from(count)
}
