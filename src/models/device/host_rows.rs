//! Rows of a tensor, copied from a device to the host.

use candle_core::{DType, Result, Tensor, bail};
#[cfg(feature = "cuda")]
use half::slice::HalfFloatSliceExt as _;

use crate::models::device::to_cpu::to_cpu;

/// Rows of equal length on the host. The memory of a copy from a GPU is reused for the next one,
/// because fresh memory costs a page fault for every 4 KiB.
#[derive(Debug)]
pub(crate) struct HostRows {
    row_len: usize,
    values: HostValues,
}

#[derive(Debug)]
enum HostValues {
    Empty,
    /// Copied by the tensor library, or not at all: the tensor was on the CPU.
    Tensor(Tensor),
    #[cfg(feature = "cuda")]
    Single(Vec<f32>),
    #[cfg(feature = "cuda")]
    Half(Vec<half::f16>),
}

impl HostRows {
    /// Creates rows without memory.
    pub(crate) fn new() -> Self {
        Self { row_len: 0, values: HostValues::Empty }
    }

    /// Replaces the rows by those of a contiguous tensor `(rows, …)`, f32 or f16. Waits for the
    /// device.
    ///
    /// # Errors
    /// Fails on another dtype, or on an error of the device.
    pub(crate) fn fill(&mut self, tensor: &Tensor) -> Result<()> {
        self.row_len = tensor.elem_count() / tensor.dim(0)?.max(1);
        let before = std::mem::replace(&mut self.values, HostValues::Empty);
        self.values = HostValues::of(tensor, before)?;
        Ok(())
    }

    /// Returns a copy of one row in f32.
    ///
    /// # Errors
    /// Fails on a row that does not exist.
    pub(crate) fn row(&self, index: usize) -> Result<Vec<f32>> {
        let mut row = vec![0.0; self.row_len];
        self.copy_row(index, &mut row)?;
        Ok(row)
    }

    /// Copies one row, in f32, into `row`, which has its length.
    ///
    /// # Errors
    /// Fails on a row that does not exist.
    pub(crate) fn copy_row(&self, index: usize, row: &mut [f32]) -> Result<()> {
        let first = index * self.row_len;
        match &self.values {
            HostValues::Empty => bail!("there are no rows"),
            HostValues::Tensor(tensor) => {
                let values = tensor.narrow(0, first, self.row_len)?.to_dtype(DType::F32)?;
                row.copy_from_slice(&values.to_vec1()?);
            }
            #[cfg(feature = "cuda")]
            HostValues::Single(values) => row.copy_from_slice(&values[first..first + self.row_len]),
            #[cfg(feature = "cuda")]
            HostValues::Half(values) => {
                values[first..first + self.row_len].convert_to_f32_slice(row);
            }
        }
        Ok(())
    }
}

impl HostValues {
    #[cfg(not(feature = "cuda"))]
    fn of(tensor: &Tensor, _: Self) -> Result<Self> {
        to_cpu(tensor)?.flatten_all().map(Self::Tensor)
    }

    /// Copies a tensor, into the memory of `before` if it has the same dtype.
    #[cfg(feature = "cuda")]
    fn of(tensor: &Tensor, before: Self) -> Result<Self> {
        use crate::models::device::cuda::copy_to_host;

        match (tensor.dtype(), before) {
            _ if !tensor.device().is_cuda() => to_cpu(tensor)?.flatten_all().map(Self::Tensor),
            (DType::F16, Self::Half(values)) => copy_to_host(tensor, values).map(Self::Half),
            (DType::F16, _) => copy_to_host(tensor, Vec::new()).map(Self::Half),
            (_, Self::Single(values)) => copy_to_host(tensor, values).map(Self::Single),
            (_, _) => copy_to_host(tensor, Vec::new()).map(Self::Single),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_are_returned_in_f32_whatever_their_dtype() {
        let values = Tensor::new(&[[0.5_f32, -3.0], [7.0, 0.0], [1.0, 2.0]], &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let mut rows = HostRows::new();
            rows.fill(&values.to_dtype(dtype).unwrap()).unwrap();
            assert_eq!(rows.row(1).unwrap(), [7.0, 0.0]);
            rows.fill(&values.narrow(0, 2, 1).unwrap()).unwrap();
            assert_eq!(rows.row(0).unwrap(), [1.0, 2.0]);
        }
    }
}
