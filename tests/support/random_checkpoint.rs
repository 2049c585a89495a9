//! Writes checkpoints with given tensor names and shapes: random weights, or shards.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Shape, Tensor};

use crate::random_tensor::random;

/// Writes a safetensors file with random tensors of these names and shapes.
pub(crate) fn write(path: &Path, dtype: DType, shapes: &BTreeMap<String, Shape>) {
    let tensor = |name, shape| random(name, shape).unwrap().to_dtype(dtype).unwrap();
    let tensors = shapes.iter().map(|(name, shape)| (name.clone(), tensor(name, shape)));
    candle_core::safetensors::save(&tensors.collect(), path).unwrap();
}

/// Writes these tensors as `shards` shards with their index, the form of large checkpoints on the
/// Hub. Only one shard is in memory at a time.
pub(crate) fn write_sharded<'a>(
    folder: &Path,
    names: impl Iterator<Item = &'a String>,
    shards: usize,
    tensor: impl Fn(&str) -> Tensor,
) {
    let names: Vec<&String> = names.collect();
    let mut map = BTreeMap::new();
    for (index, part) in names.chunks(names.len().div_ceil(shards)).enumerate() {
        let file = format!("model-{:05}-of-{shards:05}.safetensors", index + 1);
        let tensors: HashMap<String, Tensor> =
            part.iter().map(|&name| (name.clone(), tensor(name))).collect();
        candle_core::safetensors::save(&tensors, folder.join(&file)).unwrap();
        map.extend(part.iter().map(|&name| (name.clone(), file.clone())));
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
