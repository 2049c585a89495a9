//! Mean-subtracted contrast-normalised coefficients (MSCN): each pixel minus the mean of its
//! neighbourhood, divided by one more than its standard deviation.

use crate::metrics::lanes::{LANES, each, load, padded, store, vectorised};
use crate::metrics::plane::Plane;
use crate::metrics::row_window::RowWindow;

/// One half of the Gaussian window with seven taps and a standard deviation of 7/6, and its centre.
const WINDOW: [f64; 4] = [
    0.012_560_200_468_474_614,
    0.078_827_964_681_730_02,
    0.237_296_077_117_170_6,
    0.342_631_515_465_249_45,
];
const TAPS: usize = 7;
/// Pixels on either side of the centre.
const RADIUS: usize = 3;
/// Differences from the mean below this are rounding errors, and exactly zero. Otherwise the last
/// bit of the window would decide the signs in flat areas, and so the score.
const ZERO_BELOW: f64 = 1e-10;

/// Pixels outside the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// The pixels at the edge repeat.
    Repeated,
    /// Zeros.
    Zero,
}

/// A row of local means, local standard deviations and coefficients.
pub(crate) struct ContrastRow<'a> {
    pub(crate) index: usize,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the goldens"))]
    pub(crate) mean: &'a [f64],
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the goldens"))]
    pub(crate) deviation: &'a [f64],
    pub(crate) contrast: &'a [f64],
}

/// Calls `visit` with each row, from the top.
pub(crate) fn each_contrast_row<T: Copy + Into<f64>>(
    plane: &Plane<T>,
    border: Border,
    mut visit: impl FnMut(&ContrastRow<'_>),
) {
    let (width, height) = (plane.width(), plane.height());
    let mut window = RowWindow::new(plane, TAPS);
    let mut sums = ColumnSums::new(width, border);
    let mut row = Row::new(width);
    for index in 0..height {
        let sources: [Option<usize>; TAPS] = std::array::from_fn(|tap| match border {
            Border::Repeated => Some((index + tap).saturating_sub(RADIUS).min(height - 1)),
            Border::Zero => (index + tap).checked_sub(RADIUS).filter(|&source| source < height),
        });
        let rows = window.rows(sources);
        sums.add_up(rows);
        row.normalise(rows[RADIUS], &sums);
        visit(&ContrastRow {
            index,
            mean: &row.mean[..width],
            deviation: &row.deviation[..width],
            contrast: &row.contrast[..width],
        });
    }
}

/// Weighted sums over the columns of the window, with a margin on both sides.
struct ColumnSums {
    width: usize,
    border: Border,
    values: Vec<f64>,
    squares: Vec<f64>,
}

impl ColumnSums {
    fn new(width: usize, border: Border) -> Self {
        let length = padded(width) + 2 * RADIUS;
        Self { width, border, values: vec![0.0; length], squares: vec![0.0; length] }
    }

    fn add_up(&mut self, rows: [&[f64]; TAPS]) {
        let Self { width, border, values, squares } = self;
        vectorised(|| {
            for at in (0..padded(*width)).step_by(LANES) {
                let rows = rows.map(|row| load(row, at));
                store(values, RADIUS + at, weigh(rows));
                store(
                    squares,
                    RADIUS + at,
                    weigh(rows.map(|row| each(|lane| row[lane] * row[lane]))),
                );
            }
        });
        for sums in [values, squares] {
            let (first, last) = match border {
                Border::Repeated => (sums[RADIUS], sums[RADIUS + *width - 1]),
                Border::Zero => (0.0, 0.0),
            };
            sums[..RADIUS].fill(first);
            sums[RADIUS + *width..][..RADIUS].fill(last);
        }
    }
}

/// The results of one row, padded to whole lanes.
struct Row {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    contrast: Vec<f64>,
}

impl Row {
    fn new(width: usize) -> Self {
        let zeros = vec![0.0; padded(width)];
        Self { mean: zeros.clone(), deviation: zeros.clone(), contrast: zeros }
    }

    fn normalise(&mut self, pixels: &[f64], sums: &ColumnSums) {
        vectorised(|| {
            for at in (0..pixels.len()).step_by(LANES) {
                let mean = weigh(std::array::from_fn(|tap| load(&sums.values, at + tap)));
                let square = weigh(std::array::from_fn(|tap| load(&sums.squares, at + tap)));
                let pixels = load(pixels, at);
                let deviation = each(|lane| (square[lane] - mean[lane] * mean[lane]).abs().sqrt());
                let contrast = each(|lane| {
                    let difference = pixels[lane] - mean[lane];
                    let is_noise = difference.abs() < ZERO_BELOW;
                    let exact = if is_noise { 0.0 } else { difference };
                    exact / (deviation[lane] + 1.0)
                });
                store(&mut self.mean, at, mean);
                store(&mut self.deviation, at, deviation);
                store(&mut self.contrast, at, contrast);
            }
        });
    }
}

/// Returns the sum weighted with the window.
#[inline(always)]
fn weigh(values: [[f64; LANES]; TAPS]) -> [f64; LANES] {
    each(|lane| {
        let pair = |tap: usize| WINDOW[tap] * (values[tap][lane] + values[TAPS - 1 - tap][lane]);
        pair(0) + pair(1) + (pair(2) + WINDOW[RADIUS] * values[RADIUS][lane])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_plane_has_no_contrast_inside() {
        for value in [0, 1, 97, 255] {
            let plane = Plane::new(9, vec![value; 72]);
            each_contrast_row(&plane, Border::Repeated, |row| {
                assert!(row.contrast.iter().all(|&contrast| contrast == 0.0));
            });
        }
        each_contrast_row(&Plane::new(9, vec![200_u8; 72]), Border::Zero, |row| {
            assert!(row.contrast[0] > 0.0, "row {} does not see the zeros", row.index);
        });
    }
}
