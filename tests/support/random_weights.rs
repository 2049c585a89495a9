//! Networks of any shape with random weights: real work without real weights.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

/// Makes each tensor that is asked for, the same for the same name, and notes names and shapes.
#[derive(Clone, Default)]
pub(crate) struct Random {
    asked: Arc<Mutex<BTreeMap<String, Shape>>>,
}

impl SimpleBackend for Random {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.asked.lock().unwrap().insert(name.to_owned(), shape.clone());
        random(name, &shape)?.to_dtype(dtype)?.to_device(dev)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("`{name}` was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Values that keep the size of what passes through: norms near 1, weights by their fan-in.
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

/// What `build` makes of random tensors, and the names and shapes of those that it asked for.
pub(crate) fn network<T>(
    build: impl FnOnce(VarBuilder<'static>) -> Result<T>,
) -> (T, BTreeMap<String, Shape>) {
    let source = Random::default();
    let vb = VarBuilder::from_backend(Box::new(source.clone()), DType::F32, Device::Cpu);
    let network = build(vb).unwrap();
    let shapes = source.asked.lock().unwrap().clone();
    (network, shapes)
}
