//! A checkpoint of Qwen3.5-VL: recognises it by its tensors and configuration, loads its network
//! and tokenizer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Error};

use crate::checkpoints::companion_files::{read_config_json, read_tokenizer_json};
use crate::checkpoints::quantize::{
    BlockFormat, Original, QuantizeError, TensorRole, write_quantised,
};
use crate::checkpoints::weights::{NetworkTensors, StoredTensor, Weights, WeightsError};
use crate::models::mplug_owl3::{Tensors, Tokenizer, TokenizerError};
use crate::models::qwen3_5_vl::{Config, Qwen3_5Vl, TokenTable, TokenTables};

/// The embedding: a tensor of every Qwen3.5-VL.
const EMBEDDING: &str = "model.language_model.embed_tokens.weight";
/// The output head. Without it, the embedding is the head, whatever the configuration says.
const HEAD: &str = "lm_head.weight";
/// Begins the names of the block for multi-token prediction, which no rating needs.
const PREDICTION: &str = "mtp.";
/// Metadata key of the training in a GGUF of ours, which has no block for multi-token prediction.
const TUNING_KEY: &str = "dogiqa.tuning";
/// A tensor that tells the linear layers of this network from those of others.
const LINEAR_LAYER: &str = ".linear_attn.in_proj_qkv.weight";

/// The training of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TuningOf {
    /// For image quality: Q-ReAlign. Its files have a head of their own and no block for
    /// multi-token prediction.
    QReAlign,
    /// None that we know of: the base model, which rates without having been trained to.
    Base,
}

impl TuningOf {
    /// Returns the training that the metadata of a file states, or else its tensors. A GGUF that
    /// was written before the metadata had it is recognised by its tensors, too.
    fn read(weights: &Weights) -> Result<Self, WeightsError> {
        let Some(name) = weights.text(TUNING_KEY) else { return Ok(Self::of_tensors(weights)) };
        let found = [Self::QReAlign, Self::Base].into_iter().find(|tuning| tuning.name() == name);
        found.ok_or_else(|| WeightsError::Config {
            path: weights.path().to_owned(),
            message: format!(
                "`{TUNING_KEY}` in its metadata is `{name}`, but this version knows `{}` and `{}`; \
                 quantise the original again, or use the version that wrote the file",
                Self::QReAlign.name(),
                Self::Base.name(),
            ),
        })
    }

    fn of_tensors(weights: &Weights) -> Self {
        let has_prediction = weights.shapes().keys().any(|name| name.starts_with(PREDICTION));
        let has_head = weights.shapes().contains_key(HEAD);
        if has_head && !has_prediction { Self::QReAlign } else { Self::Base }
    }

    /// Returns the name in the metadata of a GGUF.
    fn name(self) -> &'static str {
        match self {
            Self::QReAlign => "q-realign",
            Self::Base => "base",
        }
    }
}

/// A recognised checkpoint of Qwen3.5-VL.
#[derive(Debug)]
pub struct Qwen3_5VlCheckpoint {
    /// The tables of tokens are read from it as long as the network is used.
    weights: Arc<Weights>,
    config: Config,
    config_json: String,
    tuning: TuningOf,
}

impl Qwen3_5VlCheckpoint {
    /// Returns true if weights are those of a Qwen3.5-VL.
    pub(crate) fn is_of(weights: &Weights) -> bool {
        weights.shapes().keys().any(|name| name.ends_with(LINEAR_LAYER))
    }

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
        let weights = weights.without_prefix(&[EMBEDDING])?;
        if !Self::is_of(&weights) {
            return Err(WeightsError::Unrecognised {
                path: weights.path().to_owned(),
                message: "these are not the weights of a Qwen3.5-VL: it has no linear layer"
                    .to_owned(),
            });
        }
        let (path, config_json) = read_config_json(&weights)?;
        let config = Config::from_json(&config_json)
            .map_err(|message| WeightsError::Config { path, message })?;
        let tuning = TuningOf::read(&weights)?;
        Ok(Self { weights: Arc::new(weights), config, config_json, tuning })
    }

    /// Loads the network. The embedding and the head stay in the file; a run reads a few of their
    /// rows. A quantised network always runs in `f32`. In `f32` on a CPU, the matrices of the
    /// vision tower keep the half format of a GGUF, and each product converts its matrix.
    ///
    /// # Errors
    /// Fails on a missing, misshapen or extra tensor; the error has its name in the file.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<Qwen3_5Vl, WeightsError> {
        let embedding = self.table(EMBEDDING)?;
        let head = if self.has_head() { self.table(HEAD)? } else { embedding.clone() };
        let weights = &self.weights;
        let dtype = if weights.has_quantised() { DType::F32 } else { dtype };
        let keeps_half = device.is_cpu() && dtype == DType::F32;
        let tensors = NetworkTensors {
            stored_as: &StoredTensor::whole,
            is_unused: &|name| is_table(name) || is_unused(name) || weights.is_quantised(name),
            keeps_half: &|name| keeps_half && is_vision_matrix(name),
            dtype,
            device,
        };
        let quantised = weights.quantised_source(device);
        weights.build_network(&tensors, |vb| {
            let tensors = Tensors::new(vb, Some(&quantised));
            Qwen3_5Vl::new(&self.config, &tensors, TokenTables { embedding, head })
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
            architecture: "qwen3_5_vl",
            config_json: &self.config_json,
            tokenizer_json: self.tokenizer_json()?.1,
            further_texts: &[(TUNING_KEY, self.tuning.name())],
            is_unused: &is_unused,
            role_of,
        };
        write_quantised(&original, format, path, progress)
    }

    /// Returns a table whose rows are read from the file.
    fn table(&self, name: &'static str) -> Result<TokenTable, WeightsError> {
        let text = &self.config.text_config;
        self.weights.check_shape(name, &[text.vocab_size, text.hidden_size])?;
        let weights = Arc::clone(&self.weights);
        Ok(TokenTable::new(move |tokens| {
            // candle's errors cannot carry ours, so only the message is kept.
            weights.load_rows(name, tokens).map_err(|error| Error::Msg(error.to_string()))
        }))
    }

    fn has_head(&self) -> bool {
        self.weights.shapes().contains_key(HEAD)
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

    /// Returns the training, as the metadata of a GGUF of ours or the tensors state it.
    pub fn tuning(&self) -> TuningOf {
        self.tuning
    }

    /// Returns the memory of the loaded network in this dtype, in bytes: all tensors but the
    /// tables, which stay in the file, and those that it does not use.
    pub fn bytes_in(&self, dtype: DType) -> u64 {
        self.weights.bytes_of(dtype, |name| !is_table(name) && !is_unused(name))
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
}

/// Returns true for the embedding and the head, which are not loaded.
fn is_table(name: &str) -> bool {
    name == EMBEDDING || name == HEAD
}

/// Returns true for a matrix of the vision tower that is only multiplied with.
fn is_vision_matrix(name: &str) -> bool {
    const PARTS: [&str; 3] = [".attn.", ".mlp.", ".merger.linear_"];
    name.starts_with("model.visual.")
        && name.ends_with(".weight")
        && PARTS.iter().any(|part| name.contains(part))
}

fn is_unused(name: &str) -> bool {
    name.starts_with(PREDICTION)
}

/// The tables keep their values, because they stay in the file.
fn role_of(name: &str) -> TensorRole {
    const MATRICES: [&str; 10] = [
        LINEAR_LAYER,
        ".linear_attn.in_proj_z.weight",
        ".linear_attn.out_proj.weight",
        ".self_attn.q_proj.weight",
        ".self_attn.k_proj.weight",
        ".self_attn.v_proj.weight",
        ".self_attn.o_proj.weight",
        ".mlp.gate_proj.weight",
        ".mlp.up_proj.weight",
        ".mlp.down_proj.weight",
    ];
    const GATES: [&str; 2] = [".linear_attn.in_proj_a.weight", ".linear_attn.in_proj_b.weight"];
    let ends_with = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    match name.starts_with("model.language_model.") {
        true if ends_with(&MATRICES) => TensorRole::DecoderMatrix,
        true if ends_with(&GATES) => TensorRole::SensitiveMatrix,
        _ => TensorRole::Other,
    }
}
