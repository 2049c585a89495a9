//! Small random networks for the paper's engine. Their answers have the form of real ones, and no
//! meaning.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Shape, Tensor};
use serde_json::Value;
use tempfile::TempDir;

use crate::qwen2::tokenizer_json;
use crate::random_tensor::random;

/// Rows of the embedding: a few more than the tokenizer's tokens, as in the published networks.
pub(crate) const VOCABULARY: usize = 151_851;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Returns a random checkpoint with the shape of a golden mPLUG-Owl3 and the real vocabulary. The
/// golden network has 300 tokens, too few for a real prompt.
pub(crate) fn checkpoint_with_real_vocabulary(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(golden(name).join("config.json")).unwrap();
    let config = config.replace("\"vocab_size\": 300", &format!("\"vocab_size\": {VOCABULARY}"));
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    write_random(folder.path(), name, VOCABULARY);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    folder
}

/// Writes random weights with the shapes of a golden network, and tables of `vocabulary` rows.
pub(crate) fn write_random(folder: &Path, name: &str, vocabulary: usize) {
    let shapes =
        candle_core::safetensors::load(golden(name).join("model.safetensors"), &Device::Cpu);
    let tensors = shapes.unwrap().into_iter().map(|(name, tensor)| {
        let is_table = name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight");
        let shape = match tensor.dims() {
            [_, width] if is_table => Shape::from((vocabulary, *width)),
            dims => Shape::from(dims),
        };
        let tensor = random(&name, &shape).unwrap();
        (name, tensor)
    });
    let tensors: HashMap<String, Tensor> = tensors.collect();
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
}

/// Checkpoints of both models of the engine.
pub(crate) struct SmallNetworks {
    scorer: TempDir,
}

impl SmallNetworks {
    pub(crate) fn new() -> Self {
        Self { scorer: checkpoint_with_real_vocabulary("mplug_owl3_241101") }
    }

    /// Returns the settings that select them, as `key=value`.
    pub(crate) fn settings(&self) -> Vec<String> {
        let segmenter = golden("sam2").join("model.hf.safetensors");
        vec![
            format!("engine.dog_iqa.segmenter={}", segmenter.display()),
            format!("engine.dog_iqa.scorer={}", self.scorer.path().display()),
            // The random network predicts low scores for its masks.
            "engine.dog_iqa.masks.points_per_side=4".to_owned(),
            "engine.dog_iqa.masks.pred_iou_thresh=0.15".to_owned(),
            "engine.dog_iqa.masks.stability_score_thresh=0.02".to_owned(),
        ]
    }
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Computes the paper's score from the objects of an event.
pub(crate) fn recomputed(event: &Value) -> f64 {
    let objects = event["objects"].as_array().unwrap();
    let area = |object: &Value| number(&object["area"]);
    let level = |object: &Value| number(&object["rating"]["level"]);
    let all: f64 = objects.iter().map(area).sum();
    let local = objects.iter().map(|object| level(object) * area(object)).sum::<f64>() / all;
    let seg = (objects.len() as f64 * 7.0 / number(&event["segmentation"]["c_max"])).min(7.0);
    f64::midpoint(number(&event["global"]["level"]), local) + seg
}
