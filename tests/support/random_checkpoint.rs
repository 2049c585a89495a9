//! Checkpoints of any names and shapes with random weights.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Shape;

use crate::random_sam2::random;

/// Writes a safetensors file with tensors of these names and shapes.
pub(crate) fn write(path: &Path, shapes: &BTreeMap<String, Shape>) {
    let tensors = shapes.iter().map(|(name, shape)| (name.clone(), random(name, shape).unwrap()));
    candle_core::safetensors::save(&tensors.collect(), path).unwrap();
}
