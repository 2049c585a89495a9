//! The fastest matrix product of a device, as the limit to compare the networks with.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{DType, Device};

use crate::random_tensor::random;

/// Number of measured products.
const RUNS: usize = 10;

/// Returns the GFLOP/s of the fastest of several products of two `side` × `side` matrices.
pub(crate) fn peak_giga_flops(device: &Device, dtype: DType, side: usize) -> f64 {
    let matrix = random("a", &(side, side).into()).unwrap();
    let matrix = matrix.to_dtype(dtype).unwrap().to_device(device).unwrap();
    let giga_flops = |_| {
        let started = Instant::now();
        let product = matrix.matmul(&matrix).unwrap();
        device.synchronize().unwrap();
        drop(black_box(product));
        2e-9 * (side as f64).powi(3) / started.elapsed().as_secs_f64()
    };
    (0..RUNS).map(giga_flops).fold(0.0, f64::max)
}
