//! From a path to a network: which generation and size a file's tensors are of, and its tokenizer.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use super::config::{Config, Generation, Release};
use super::load::Tensors;
use super::model::MplugOwl3;
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::models::weights::{Stored, Weights, WeightsError};

/// Where a GGUF of ours has the `config.json`.
pub(super) const CONFIG_KEY: &str = "dogiqa.config.json";
/// Where a GGUF has the `tokenizer.json`, as the format's own document names it.
pub(super) const TOKENIZER_KEY: &str = "tokenizer.huggingface.json";

const HEAD: &str = "language_model.lm_head.weight";

/// A checkpoint of mPLUG-Owl3, recognised.
#[derive(Debug)]
pub struct Checkpoint {
    weights: Weights,
    config: Config,
    config_json: String,
    generation: Generation,
}

impl Checkpoint {
    /// Opens a file, an index of shards, or the folder with it. `config.json` lies beside it, unless it
    /// is a GGUF, which has all in one.
    ///
    /// # Errors
    /// A file that cannot be read or is of another model.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let weights = Weights::open(path)?;
        let generation = generation_of(&weights)?;
        let (place, config_json) = if let Some(json) = weights.text(CONFIG_KEY) {
            (weights.path().to_owned(), json.to_owned())
        } else {
            let place = weights.path().with_file_name("config.json");
            let json = std::fs::read_to_string(&place)
                .map_err(|reason| WeightsError::Read { path: place.clone(), reason })?;
            (place, json)
        };
        let config = Config::from_json(&config_json)
            .map_err(|message| WeightsError::Config { path: place, message })?;
        Ok(Self { weights, config, config_json, generation })
    }

    /// Loads the network. A quantised one runs in `f32`, whatever `dtype` says.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<MplugOwl3, WeightsError> {
        let weights = &self.weights;
        let is_quantised = weights.shapes().keys().any(|name| weights.is_quantised(name));
        let dtype = if is_quantised { DType::F32 } else { dtype };
        let is_read = |name: &str| !self.is_unused(name) && !weights.is_quantised(name);
        weights.build(
            (dtype, device),
            &Stored::whole,
            |name| !is_read(name),
            |vb| {
                let quantised = is_quantised.then_some(weights);
                MplugOwl3::new(&self.config, self.generation, &Tensors::new(vb, quantised))
            },
        )
    }

    /// The tokenizer that belongs to it: in the file, or beside it.
    ///
    /// # Errors
    /// No readable tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let (path, json) = self.tokenizer_json()?;
        Tokenizer::from_json(&path, json.as_bytes())
    }

    /// Its `tokenizer.json`, as it is, and the file that has it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn tokenizer_json(&self) -> Result<(PathBuf, String), TokenizerError> {
        if let Some(json) = self.weights.text(TOKENIZER_KEY) {
            return Ok((self.weights.path().to_owned(), json.to_owned()));
        }
        let path = self.weights.path().with_file_name("tokenizer.json");
        match std::fs::read_to_string(&path) {
            Ok(json) => Ok((path, json)),
            Err(error) => Err(TokenizerError::Open {
                message: format!("{error}; it is one of the files that a checkpoint comes with"),
                path,
            }),
        }
    }

    /// Whether the network has no use for a tensor: the end of the vision tower, which the reference
    /// skips, buffers of old files, and a head that is the embedding once more.
    pub fn is_unused(&self, name: &str) -> bool {
        let last = self.config.vision_config.num_hidden_layers - 1;
        let last = format!("vision_model.encoder.layers.{last}.");
        ["vision_model.post_layernorm.", "vision_model.head.", &last]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || name.ends_with(".rotary_emb.inv_freq")
            || name == HEAD && self.config.tie_word_embeddings
    }

    /// The opened files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its `config.json`, as it is.
    pub fn config_json(&self) -> &str {
        &self.config_json
    }

    /// Which arithmetic it has.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The published checkpoint of this shape, if it is one.
    pub fn release(&self) -> Option<Release> {
        Release::ALL.into_iter().find(|&release| {
            release.generation() == self.generation && Config::of_release(release) == self.config
        })
    }
}

/// The configuration does not tell the generations apart; the tensors of hyper layers do.
fn generation_of(weights: &Weights) -> Result<Generation, WeightsError> {
    let has = |end: &str| weights.shapes().keys().any(|name| name.ends_with(end));
    if !has(".self_attn.v_kv_proj.weight") {
        return Err(WeightsError::Unrecognised {
            path: weights.path().to_owned(),
            message: "these are not the weights of an mPLUG-Owl3: no layer sees images".to_owned(),
        });
    }
    Ok(if has(".self_attn.gate_proj.0.weight") {
        Generation::V240728
    } else if has(".self_attn.gate") {
        Generation::V241014
    } else {
        Generation::V241101
    })
}
