//! Small random CLIPs with the vocabulary of the real ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Shape, Tensor};
use tempfile::TempDir;

use crate::random_tensor::random;

/// Rows of the table of tokens in every CLIP of OpenAI's.
const ROWS: usize = 49_408;

/// Returns the folder of a golden CLIP: `resnet` or `vit`.
pub(crate) fn golden_clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/clip_iqa").join(name)
}

/// Returns the tensors of a golden CLIP, with a table of all tokens. The golden network has 60.
pub(crate) fn clip_tensors(name: &str) -> HashMap<String, Tensor> {
    let path = golden_clip(name).join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    for (name, tensor) in &mut tensors {
        if name.ends_with("token_embedding.weight") {
            *tensor = random(name, &Shape::from((ROWS, tensor.dim(1).unwrap()))).unwrap();
        }
    }
    tensors
}

/// Writes a CLIP into a folder, with the configuration of a golden one.
pub(crate) fn write_clip(folder: &Path, name: &str, tensors: &HashMap<String, Tensor>) {
    std::fs::copy(golden_clip(name).join("config.json"), folder.join("config.json")).unwrap();
    candle_core::safetensors::save(tensors, folder.join("model.safetensors")).unwrap();
}

/// Returns a folder with a CLIP that has the shape of a golden one and all tokens.
pub(crate) fn clip(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_clip(folder.path(), name, &clip_tensors(name));
    folder
}
