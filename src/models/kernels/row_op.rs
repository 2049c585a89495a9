//! Operations that change each row of a matrix independently.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values that one task processes: 64 KiB, well within a core's cache.
const TASK_VALUES: usize = 1 << 14;

/// A function of one row, compiled for the CPU's SIMD vectors.
///
/// A trait, because a closure cannot be generic over the instruction set.
pub(crate) trait RowOp: Sync {
    /// Changes `row`, the one with this index.
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]);
}

/// Applies `op` to each row of `columns` values, on all cores.
pub(crate) fn each_row(values: &mut [f32], columns: usize, op: &impl RowOp) {
    struct Rows<'a, O> {
        values: &'a mut [f32],
        columns: usize,
        first: usize,
        op: &'a O,
    }

    impl<O: RowOp> WithSimd for Rows<'_, O> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (index, row) in self.values.chunks_exact_mut(self.columns).enumerate() {
                self.op.apply(simd, self.first + index, row);
            }
        }
    }

    let rows = (TASK_VALUES / columns).max(1);
    values.par_chunks_mut(rows * columns).enumerate().for_each(|(task, values)| {
        Arch::new().dispatch(Rows { values, columns, first: task * rows, op });
    });
}
