//! The rows of a plane that a vertical filter reads, as `f64`.

use crate::metrics::lanes::padded;
use crate::metrics::plane::Plane;

/// The latest rows of a plane, each converted once. Rows are padded with zeros to whole lanes.
pub(crate) struct RowWindow<'a, T> {
    plane: &'a Plane<T>,
    stride: usize,
    values: Vec<f64>,
    /// The row in each slot.
    loaded: Vec<usize>,
    zeros: Vec<f64>,
}

impl<'a, T: Copy + Into<f64>> RowWindow<'a, T> {
    /// Creates an empty window for filters of up to `capacity` neighbouring rows.
    pub(crate) fn new(plane: &'a Plane<T>, capacity: usize) -> Self {
        let stride = padded(plane.width());
        Self {
            plane,
            stride,
            values: vec![0.0; stride * capacity],
            loaded: vec![usize::MAX; capacity],
            zeros: vec![0.0; stride],
        }
    }

    /// Returns these rows; `None` is a row of zeros. The rows must be neighbours, in any order.
    pub(crate) fn rows<const N: usize>(&mut self, indices: [Option<usize>; N]) -> [&[f64]; N] {
        debug_assert!(N <= self.loaded.len());
        for row in indices.into_iter().flatten() {
            let slot = row % self.loaded.len();
            if self.loaded[slot] != row {
                let values = &mut self.values[slot * self.stride..];
                for (value, &sample) in values.iter_mut().zip(self.plane.row(row)) {
                    *value = sample.into();
                }
                self.loaded[slot] = row;
            }
        }
        indices.map(|index| match index {
            Some(row) => &self.values[row % self.loaded.len() * self.stride..][..self.stride],
            None => &self.zeros,
        })
    }
}

/// Returns the position inside `0..length` after mirroring at the ends, whose samples repeat.
pub(crate) fn mirrored(position: isize, length: usize) -> usize {
    let length = length.cast_signed();
    let wrapped = position.rem_euclid(2 * length);
    wrapped.min(2 * length - 1 - wrapped).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_mirrored_as_often_as_needed() {
        let positions: Vec<usize> = (-4..7).map(|position| mirrored(position, 3)).collect();
        assert_eq!(positions, [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]);
        assert_eq!(mirrored(-17, 1), 0);
    }
}
