//! Networks of any shape with random weights: real computation without a checkpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::random_tensor::random;

/// Creates each requested tensor from its name, and records names and shapes.
#[derive(Clone, Default)]
pub(crate) struct Random {
    requested: Arc<Mutex<BTreeMap<String, Shape>>>,
}

impl SimpleBackend for Random {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.requested.lock().unwrap().insert(name.to_owned(), shape.clone());
        random(name, &shape)?.to_dtype(dtype)?.to_device(dev)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("`{name}` was requested without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Builds a network from random tensors. Returns it with the names and shapes that it requested.
pub(crate) fn network<T>(
    build: impl FnOnce(VarBuilder<'static>) -> Result<T>,
) -> (T, BTreeMap<String, Shape>) {
    let source = Random::default();
    let vb = VarBuilder::from_backend(Box::new(source.clone()), DType::F32, Device::Cpu);
    let network = build(vb).unwrap();
    let shapes = source.requested.lock().unwrap().clone();
    (network, shapes)
}
