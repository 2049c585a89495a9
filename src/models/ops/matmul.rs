//! Products of matrices on every device.

use candle_core::{Result, Shape, Tensor};

use crate::models::ops::launch::{launch, product, runs_on_gpu};
use crate::models::ops::tensor_ops::TensorOps;

/// `a (…, m, k)` times `b (…, k, n)`.
///
/// The GPU's library accepts matrices with contiguous rows or contiguous columns, and batches with
/// one stride. Anything else is copied into that form first. On the CPU the library's
/// own rules hold.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !runs_on_gpu(a.device()) {
        return a.matmul(b);
    }
    let ready = |tensor: &Tensor| {
        if is_dense(tensor.shape(), tensor.stride()) { Ok(tensor.clone()) } else { tensor.dense() }
    };
    let (a, b) = (ready(a)?, ready(b)?);
    let mut shape = a.dims().to_vec();
    let split = shape.len().saturating_sub(2);
    let batch: usize = shape[..split].iter().product();
    let (rows, inner, columns) = (a.dim(split)?, a.dim(split + 1)?, b.dim(split + 1)?);
    shape[split + 1] = columns;
    let kernel = product([rows, columns, inner], batch, a.dtype());
    launch(kernel, &[&a, &b], (shape.into(), a.dtype()), || a.matmul(&b))
}

/// Returns true if the matrices have no gap, row by row or column by column, and the batch has one
/// stride.
fn is_dense(shape: &Shape, strides: &[usize]) -> bool {
    let dims = shape.dims();
    let split = dims.len().saturating_sub(2);
    let ([rows, columns], [down, along]) = (&dims[split..], &strides[split..]) else {
        return false;
    };
    let by_rows = (*along == 1 || *columns == 1) && (*down == *columns || *rows == 1);
    let by_columns = (*down == 1 || *rows == 1) && (*along == *rows || *columns == 1);
    let batches: Vec<(usize, usize)> =
        dims[..split].iter().copied().zip(strides[..split].iter().copied()).collect();
    let in_one_stride = batches.windows(2).all(|pair| {
        let [(outer, outer_stride), (inner, inner_stride)] = [pair[0], pair[1]];
        outer == 1 || inner == 1 || outer_stride == inner * inner_stride
    });
    (by_rows || by_columns) && in_one_stride && batches.len() <= 2
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn layouts_that_a_gpu_cannot_multiply_are_not_dense() {
        let cube = Tensor::zeros((4, 6, 8), DType::F32, &Device::Cpu).unwrap();
        let dense = |tensor: Tensor| is_dense(tensor.shape(), tensor.stride());
        assert!(dense(cube.clone()));
        assert!(dense(cube.transpose(1, 2).unwrap()), "contiguous columns");
        assert!(dense(cube.narrow(0, 1, 2).unwrap()));
        assert!(dense(cube.narrow(0, 0, 1).unwrap().broadcast_as((3, 6, 8)).unwrap()));
        assert!(!dense(cube.narrow(2, 0, 4).unwrap()), "a gap after each row");
        assert!(!dense(cube.transpose(0, 1).unwrap()), "rows from different matrices");
        let deeper = cube.reshape((2, 2, 6, 8)).unwrap();
        assert!(dense(deeper.clone()));
        assert!(!dense(deeper.transpose(0, 1).unwrap()), "batches out of their order");
        assert!(!dense(cube.reshape((2, 2, 2, 3, 8)).unwrap()), "candle folds two of them at most");
        assert!(!dense(cube.flatten_all().unwrap()));
    }
}
