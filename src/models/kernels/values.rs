//! Access to the values of a candle tensor.

use std::ops::{Deref, Range};

use candle_core::{
    CpuStorage, DType, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, bail,
};

use crate::models::ops::runs_on_gpu;

/// Returns true if the kernels accept this tensor: contiguous `f32` values on the CPU.
pub(crate) fn accepts(tensor: &Tensor) -> bool {
    !runs_on_gpu(tensor.device()) && tensor.dtype() == DType::F32 && tensor.is_contiguous()
}

/// The values of a tensor that the kernels accept, in row-major order.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Values<'a> {
    /// # Errors
    /// Fails unless the kernels [accept](accepts) the tensor.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        if !accepts(tensor) {
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
            _ => unreachable!("`Values::of` has checked the storage"),
        }
    }
}

/// Changes the values of a tensor in place. Its storage must not be shared, because every tensor
/// that shares it would change, too.
///
/// # Errors
/// Fails unless the kernels [accept](accepts) the tensor.
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
