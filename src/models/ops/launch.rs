//! One launch: computed, or recorded in a dry run.

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::models::device::dry_run::{self, Kernel, Launch};

/// The leading dimensions of a product in a half format should be multiples of this: the GPU's
/// library is many times slower otherwise.
pub(crate) const ALIGNMENT: usize = 8;

/// Returns true if operations run on a GPU, or as if on one in a dry run.
pub(crate) fn runs_on_gpu(device: &Device) -> bool {
    !device.is_cpu() || dry_run::is_dry_run()
}

/// Computes, or in a dry run records one launch that reads `inputs` and writes a tensor of this
/// shape and dtype.
pub(super) fn launch(
    kernel: Kernel,
    inputs: &[&Tensor],
    (shape, dtype): (Shape, DType),
    compute: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    if !dry_run::is_dry_run() {
        return compute();
    }
    let elements = shape.elem_count();
    let read: usize = inputs.iter().map(|input| distinct_bytes(input)).sum();
    let written = elements * dtype.size_in_bytes();
    dry_run::record(Launch { kernel, elements: elements as u64, bytes: (read + written) as u64 });
    dry_run::placeholder(shape, dtype)
}

/// Returns the bytes that a tensor occupies: repeated values count once.
fn distinct_bytes(tensor: &Tensor) -> usize {
    let dims = tensor.dims().iter().zip(tensor.stride());
    let distinct: usize = dims.filter(|(_, stride)| **stride > 0).map(|(dim, _)| *dim).product();
    distinct * tensor.dtype().size_in_bytes()
}

/// Returns the kernel of an element-wise operation on these inputs.
pub(super) fn elementwise(inputs: &[&Tensor]) -> Kernel {
    if inputs.iter().all(|input| input.is_contiguous()) {
        Kernel::Elementwise
    } else {
        Kernel::Strided { rank: inputs.iter().map(|input| input.rank()).max().unwrap_or(0) }
    }
}

/// Returns the kernel of `batch` products, for `[rows, columns, inner]`.
pub(super) fn product([rows, columns, inner]: [usize; 3], batch: usize, dtype: DType) -> Kernel {
    Kernel::Product {
        rows: rows as u64,
        columns: columns as u64,
        inner: inner as u64,
        batch: batch as u64,
        width: dtype.size_in_bytes() as u64,
        is_aligned: [columns, inner].iter().all(|size| size.is_multiple_of(ALIGNMENT)),
    }
}

/// Records a product that is a step of another operation.
pub(super) fn record_product(sizes: [usize; 3], batch: usize, dtype: DType) {
    let [rows, columns, inner] = sizes;
    let elements = batch * rows * columns;
    let values = batch * (rows * inner + inner * columns) + elements;
    dry_run::record(Launch {
        kernel: product(sizes, batch, dtype),
        elements: elements as u64,
        bytes: (values * dtype.size_in_bytes()) as u64,
    });
}
