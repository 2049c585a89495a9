//! A checkpoint of mPLUG-Owl3: recognises its generation and size, loads its network and tokenizer.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::checkpoints::companion_files::{read_config_json, read_tokenizer_json};
use crate::checkpoints::quantize::{
    BlockFormat, Original, QuantizeError, TensorRole, write_quantised,
};
use crate::checkpoints::weights::{NetworkTensors, StoredTensor, Weights, WeightsError};
use crate::models::mplug_owl3::{
    Config, Generation, MplugOwl3, Release, Tensors, Tokenizer, TokenizerError,
};

/// A tensor of every mPLUG-Owl3.
const ANCHOR: &str = "language_model.model.embed_tokens.weight";
const HEAD: &str = "language_model.lm_head.weight";

/// A recognised checkpoint of mPLUG-Owl3.
#[derive(Debug)]
pub struct MplugOwl3Checkpoint {
    weights: Weights,
    config: Config,
    config_json: String,
    generation: Generation,
}

impl MplugOwl3Checkpoint {
    /// Opens a file, an index of shards, or a folder with one of them. The `config.json` must be in
    /// the same folder, unless the file is a GGUF that contains it.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is of another model.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::of(Weights::open(path)?)
    }

    /// Recognises opened weights, with the files next to them.
    ///
    /// # Errors
    /// Fails if they are of another model, or a file next to them cannot be used.
    pub(crate) fn of(weights: Weights) -> Result<Self, WeightsError> {
        let weights = weights.without_prefix(&[ANCHOR])?;
        let generation = generation_of(&weights)?;
        let (path, config_json) = read_config_json(&weights)?;
        let config = Config::from_json(&config_json)
            .map_err(|message| WeightsError::Config { path, message })?;
        Ok(Self { weights, config, config_json, generation })
    }

    /// Loads the network. A quantised one always runs in `f32`.
    ///
    /// # Errors
    /// Fails on a missing, misshapen or extra tensor; the error has its name in the file.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<MplugOwl3, WeightsError> {
        let weights = &self.weights;
        let tensors = NetworkTensors {
            stored_as: &StoredTensor::whole,
            is_unused: &|name| self.is_unused(name) || weights.is_quantised(name),
            keeps_half: &|_| false,
            dtype: if weights.has_quantised() { DType::F32 } else { dtype },
            device,
        };
        let quantised = weights.quantised_source(device);
        weights.build_network(&tensors, |vb| {
            MplugOwl3::new(&self.config, self.generation, &Tensors::new(vb, Some(&quantised)))
        })
    }

    /// Writes a quantised copy to `path`. Calls `progress` after each tensor with the number of
    /// finished tensors and the total.
    ///
    /// # Errors
    /// Fails if a file cannot be read or written, the weights are already quantised, or have rows
    /// that no format divides.
    pub fn quantize(
        &self,
        format: BlockFormat,
        path: &Path,
        progress: impl FnMut(usize, usize),
    ) -> Result<(), QuantizeError> {
        let original = Original {
            weights: &self.weights,
            architecture: "mplug_owl3",
            config_json: &self.config_json,
            tokenizer_json: self.tokenizer_json()?.1,
            further_texts: &[],
            is_unused: &|name| self.is_unused(name),
            role_of,
        };
        write_quantised(&original, format, path, progress)
    }

    /// Reads the tokenizer, from the file itself or from its folder.
    ///
    /// # Errors
    /// Fails if there is no readable tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let (path, json) = self.tokenizer_json()?;
        Tokenizer::from_json(&path, json.as_bytes())
    }

    /// Returns the text of `tokenizer.json`, and the file that contains it.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn tokenizer_json(&self) -> Result<(PathBuf, String), TokenizerError> {
        read_tokenizer_json(&self.weights)
    }

    /// Returns true if the network does not use a tensor. The reference skips the last vision layer
    /// and its successors. Buffers of old files, and a head that is a copy of the embedding, are
    /// not used either.
    pub(crate) fn is_unused(&self, name: &str) -> bool {
        let last = self.config.vision_config.num_hidden_layers - 1;
        let last_layer = format!("vision_model.encoder.layers.{last}.");
        ["vision_model.post_layernorm.", "vision_model.head.", &last_layer]
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

    /// The unchanged text of `config.json`.
    pub fn config_json(&self) -> &str {
        &self.config_json
    }

    /// The generation, which determines the arithmetic.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The published checkpoint of this shape, or `None` for any other network.
    pub fn release(&self) -> Option<Release> {
        Release::ALL.into_iter().find(|&release| {
            release.generation() == self.generation && Config::of_release(release) == self.config
        })
    }
}

/// The projections of images' keys and values run hundreds of times for each image, so they are not
/// quantised.
fn role_of(name: &str) -> TensorRole {
    const MATRICES: [&str; 7] = [
        ".self_attn.q_proj.weight",
        ".self_attn.k_proj.weight",
        ".self_attn.v_proj.weight",
        ".self_attn.o_proj.weight",
        ".mlp.gate_proj.weight",
        ".mlp.up_proj.weight",
        ".mlp.down_proj.weight",
    ];
    match name {
        HEAD | ANCHOR => TensorRole::SensitiveMatrix,
        _ if name.starts_with("language_model.")
            && MATRICES.iter().any(|end| name.ends_with(end)) =>
        {
            TensorRole::DecoderMatrix
        }
        _ => TensorRole::Other,
    }
}

/// Recognises the generation by the tensors of the hyper layers: the configurations do not differ.
fn generation_of(weights: &Weights) -> Result<Generation, WeightsError> {
    let has = |end: &str| weights.shapes().keys().any(|name| name.ends_with(end));
    if !has(".self_attn.v_kv_proj.weight") {
        return Err(WeightsError::Unrecognised {
            path: weights.path().to_owned(),
            message: "these are not the weights of an mPLUG-Owl3: no layer attends to images"
                .to_owned(),
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
