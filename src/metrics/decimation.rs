//! Separable filters that keep every second sample: half size, and a level of a wavelet.

use crate::metrics::lanes::{LANES, each, load, padded, store, vectorised};
use crate::metrics::plane::Plane;
use crate::metrics::row_window::{RowWindow, mirrored};

/// Samples outside the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// The plane is mirrored, and the samples at its edge repeat.
    Mirrored,
    /// Zeros.
    Zero,
}

/// One or more filters of equal length that are applied along both axes.
///
/// Sample i of a result is Σ taps\[k\] x\[2i + first + k\].
pub(crate) struct Decimation<const TAPS: usize, const FILTERS: usize> {
    pub(crate) first: isize,
    pub(crate) taps: [[f64; TAPS]; FILTERS],
    pub(crate) outside: Outside,
}

impl<const TAPS: usize, const FILTERS: usize> Decimation<TAPS, FILTERS> {
    /// Returns the results of `width` × `height` samples, by the filter of the columns and then by
    /// that of the rows.
    pub(crate) fn apply<T: Copy + Into<f64>>(
        &self,
        plane: &Plane<T>,
        (width, height): (usize, usize),
    ) -> [[Plane<f64>; FILTERS]; FILTERS] {
        let mut results =
            [(); FILTERS].map(|()| [(); FILTERS].map(|()| Vec::with_capacity(width * height)));
        let mut window = RowWindow::new(plane, TAPS);
        let mut columns = [(); FILTERS].map(|()| vec![0.0; padded(plane.width())]);
        let mut phases =
            Phases::new(width, TAPS, |position| self.inside(position + self.first, plane.width()));
        let mut row = vec![0.0; padded(width)];
        for index in 0..height.cast_signed() {
            let sources = std::array::from_fn(|tap| {
                self.inside(2 * index + self.first + tap.cast_signed(), plane.height())
            });
            self.filter_columns(window.rows::<TAPS>(sources), &mut columns);
            for (column, results) in columns.iter().zip(&mut results) {
                phases.split(column);
                for (taps, result) in self.taps.iter().zip(results) {
                    phases.filter(taps, &mut row);
                    result.extend_from_slice(&row[..width]);
                }
            }
        }
        results.map(|results| results.map(|result| Plane::new(width, result)))
    }

    fn inside(&self, position: isize, length: usize) -> Option<usize> {
        match self.outside {
            Outside::Mirrored => Some(mirrored(position, length)),
            Outside::Zero => usize::try_from(position).ok().filter(|&inside| inside < length),
        }
    }

    fn filter_columns(&self, rows: [&[f64]; TAPS], results: &mut [Vec<f64>; FILTERS]) {
        vectorised(|| {
            for (taps, result) in self.taps.iter().zip(results) {
                for at in (0..result.len()).step_by(LANES) {
                    let mut sums = [0.0; LANES];
                    for (tap, row) in taps.iter().zip(rows) {
                        let values = load(row, at);
                        sums = each(|lane| sums[lane] + tap * values[lane]);
                    }
                    store(result, at, sums);
                }
            }
        });
    }
}

/// A row whose even and odd samples lie apart, so that each second sample has a neighbour.
struct Phases {
    /// Sources of the even samples, then of the odd ones; the row's length for a zero.
    sources: [Vec<Option<usize>>; 2],
    values: [Vec<f64>; 2],
}

impl Phases {
    /// Prepares rows of which `width` results are computed.
    fn new(width: usize, taps: usize, source: impl Fn(isize) -> Option<usize>) -> Self {
        let length = width + taps.div_ceil(2);
        let sources = [0, 1].map(|phase| {
            (0..length.cast_signed()).map(|index| source(2 * index + phase)).collect()
        });
        let values = [(); 2].map(|()| vec![0.0; padded(width) + taps.div_ceil(2)]);
        Self { sources, values }
    }

    fn split(&mut self, row: &[f64]) {
        for (values, sources) in self.values.iter_mut().zip(&self.sources) {
            for (value, source) in values.iter_mut().zip(sources) {
                *value = source.map_or(0.0, |source| row[source]);
            }
        }
    }

    fn filter<const TAPS: usize>(&self, taps: &[f64; TAPS], result: &mut [f64]) {
        vectorised(|| {
            let [even, odd] = &self.values;
            for at in (0..result.len()).step_by(LANES) {
                let mut sums = [0.0; LANES];
                for (index, tap) in taps.iter().enumerate() {
                    let phase = if index % 2 == 0 { even } else { odd };
                    let values = load(phase, at + index / 2);
                    sums = each(|lane| sums[lane] + tap * values[lane]);
                }
                store(result, at, sums);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_axes_are_filtered_with_the_samples_outside() {
        let plane = Plane::new(3, vec![1_u8, 2, 3, 4, 5, 6, 7, 8, 9]);
        let taps = [[0.5, 0.25], [1.0, -1.0]];
        for outside in [Outside::Mirrored, Outside::Zero] {
            let bank = Decimation { first: -1, taps, outside };
            let value = |x: isize, y: isize| match outside {
                Outside::Mirrored => f64::from(plane.row(mirrored(y, 3))[mirrored(x, 3)]),
                Outside::Zero if x < 0 || y < 0 => 0.0,
                Outside::Zero => f64::from(plane.row(y.unsigned_abs())[x.unsigned_abs()]),
            };
            let results = bank.apply(&plane, (2, 2));
            for (vertical, horizontal, x, y) in
                (0..16).map(|bits| (bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3))
            {
                let mut expected = 0.0;
                for (i, down) in taps[vertical].iter().enumerate() {
                    for (j, across) in taps[horizontal].iter().enumerate() {
                        let (i, j) = (i.cast_signed(), j.cast_signed());
                        let (x, y) = (2 * x.cast_signed() - 1 + j, 2 * y.cast_signed() - 1 + i);
                        expected += down * across * value(x, y);
                    }
                }
                let found = results[vertical][horizontal].row(y)[x];
                assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
            }
        }
    }
}
