//! Checkpoint files with published shapes and random weights.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use dog_iqa::models::mplug_owl3::{Config, MplugOwl3, Release, Tensors};
use dog_iqa::models::sam2::{Config as Sam2Config, Sam2, Size};

use crate::qwen2::tokenizer_json;
use crate::random_tensor::random;

/// Writes a SAM 2.1 checkpoint in `f32` and returns its path.
pub(crate) fn sam2(folder: &Path, size: Size) -> PathBuf {
    let path = folder.join("sam2.1.safetensors");
    let shapes = shapes(|vb| Sam2::new(&Sam2Config::of_size(size), &vb));
    save(&path, DType::F32, &shapes);
    path
}

/// Writes an mPLUG-Owl3 checkpoint in `bf16` with configuration and tokenizer. Returns its folder.
pub(crate) fn owl(folder: &Path, release: Release) -> PathBuf {
    let path = folder.join("owl");
    std::fs::create_dir(&path).unwrap();
    let config = Config::of_release(release);
    let build = |vb| MplugOwl3::new(&config, release.generation(), &Tensors::new(vb, None));
    save(&path.join("model.safetensors"), DType::BF16, &shapes(build));
    std::fs::write(path.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(path.join("tokenizer.json"), tokenizer_json()).unwrap();
    path
}

/// Records the name and shape of each requested tensor. Every tensor is a broadcast zero, which
/// takes no memory.
#[derive(Clone, Default)]
struct ShapeRecorder {
    shapes: Arc<Mutex<BTreeMap<String, Shape>>>,
}

impl SimpleBackend for ShapeRecorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.shapes.lock().unwrap().insert(name.to_owned(), shape.clone());
        Tensor::zeros(1, dtype, dev)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("`{name}` was requested without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Returns names and shapes of the tensors of a network.
fn shapes<T>(build: impl FnOnce(VarBuilder<'static>) -> Result<T>) -> BTreeMap<String, Shape> {
    let source = ShapeRecorder::default();
    let vb = VarBuilder::from_backend(Box::new(source.clone()), DType::F32, Device::Cpu);
    drop(build(vb).unwrap());
    source.shapes.lock().unwrap().clone()
}

fn save(path: &Path, dtype: DType, shapes: &BTreeMap<String, Shape>) {
    let tensors = shapes.iter().map(|(name, shape)| {
        let tensor = random(name, shape).unwrap().to_dtype(dtype).unwrap();
        (name.clone(), tensor)
    });
    let tensors: HashMap<String, Tensor> = tensors.collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}
