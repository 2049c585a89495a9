//! Random tensors and a comparison, shared by the tests of kernels, layers and networks.

use candle_core::{Device, Result, Tensor};

/// Returns uniform random values of this mean and of the standard deviation `spread`. Tensors of
/// one size always get the same values.
pub(crate) fn random(mean: f32, spread: f32, shape: &[usize]) -> Result<Tensor> {
    let count = shape.iter().product::<usize>();
    let mut random = fastrand::Rng::with_seed(count as u64);
    let reach = spread * 3_f32.sqrt();
    let value = || mean + reach * (2.0 * random.f32() - 1.0);
    let values: Vec<f32> = std::iter::repeat_with(value).take(count).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Asserts that the shapes are equal and no two values differ by more than `tolerance`.
pub(crate) fn assert_close(ours: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(ours.dims(), expected.dims());
    let apart = (ours - expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(f64::from(apart) <= tolerance, "values are {apart} apart, at most {tolerance} allowed");
    Ok(())
}
