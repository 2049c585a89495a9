//! Random tensors. The same name produces the same values in every run.

use candle_core::{Device, Result, Shape, Tensor};

/// Returns values that keep activations at their magnitude: norms near 1, weights scaled by fan-in.
pub(crate) fn random(name: &str, shape: &Shape) -> Result<Tensor> {
    let seed =
        name.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut random = fastrand::Rng::with_seed(seed);
    let fan_in = shape.dims().iter().skip(1).product::<usize>().max(1) as f32;
    let is_norm = name.contains("norm") && name.ends_with("weight");
    let (centre, spread) = match shape.rank() {
        _ if is_norm => (1.0, 0.1),
        1 => (0.0, 0.1),
        _ if name.contains("embed") || name.contains("token") => (0.0, 1.0),
        _ if name.contains("gaussian") => (0.0, 1.7),
        _ => (0.0, (3.0 / fan_in).sqrt()),
    };
    let value = || centre + spread * (2.0 * random.f32() - 1.0);
    let values: Vec<f32> = std::iter::repeat_with(value).take(shape.elem_count()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}
