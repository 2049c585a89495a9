//! Where the CPU ops get their values from and put them.
//!
//! Each layer has two forms behind one signature: plain candle ops, which run everywhere and in every
//! dtype, and an op of our own for `f32` on the CPU, where plain ops lose time (allocations, copies,
//! one pass per operation). Tests hold both together.

use std::ops::{Deref, Range};

use candle_core::{
    CpuStorage, DType, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, bail,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::vector::TASK;

/// Whether our own ops take this tensor: contiguous `f32` on the CPU.
pub(crate) fn takes(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.is_contiguous()
}

/// The values of a tensor that our own ops take, in row-major order.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Values<'a> {
    /// # Errors
    /// When [`takes`] says no.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        if !takes(tensor) {
            bail!("a contiguous f32 tensor on the CPU is needed, not {tensor:?}");
        }
        let (storage, layout) = tensor.storage_and_layout();
        let start = layout.start_offset();
        Ok(Self { storage, range: start..start + layout.shape().elem_count() })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("looked at when it was made"),
        }
    }
}

/// Changes the values of a tensor that nobody else holds: the result of the operation before.
///
/// # Errors
/// When [`takes`] says no.
pub(crate) fn in_place(tensor: Tensor, work: impl Fn(&mut [f32])) -> Result<Tensor> {
    struct Work<F>(F);

    impl<F: Fn(&mut [f32])> InplaceOp1 for Work<F> {
        fn name(&self) -> &'static str {
            "in place"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            match (storage, layout.contiguous_offsets()) {
                (CpuStorage::F32(values), Some((start, end))) => {
                    (self.0)(&mut values[start..end]);
                    Ok(())
                }
                _ => bail!("a contiguous f32 tensor on the CPU is needed"),
            }
        }
    }

    tensor.inplace_op1(&Work(work))?;
    Ok(tensor)
}

/// What is done to each row of a matrix.
pub(crate) trait RowOp: Sync {
    /// Changes the row with this index.
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]);
}

/// Applies an op to each row of `columns` values, on all cores.
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

    let rows = (TASK / columns).max(1);
    values.par_chunks_mut(rows * columns).enumerate().for_each(|(task, values)| {
        Arch::new().dispatch(Rows { values, columns, first: task * rows, op });
    });
}
