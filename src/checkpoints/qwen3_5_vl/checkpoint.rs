//! A checkpoint of Qwen3.5-VL: recognises it by its tensors and configuration, loads its network
//! and tokenizer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Error};

use crate::checkpoints::tokenizer_file::read_tokenizer_json;
use crate::checkpoints::weights::{NetworkTensors, StoredTensor, Weights, WeightsError, read_text};
use crate::models::mplug_owl3::{Tensors, Tokenizer, TokenizerError};
use crate::models::qwen3_5_vl::{Config, Qwen3_5Vl, TokenTable, TokenTables};

/// The embedding: a tensor of every Qwen3.5-VL.
const EMBEDDING: &str = "model.language_model.embed_tokens.weight";
/// The output head. Without it, the embedding is the head, whatever the configuration says.
const HEAD: &str = "lm_head.weight";
/// Begins the names of the block for multi-token prediction, which no rating needs.
const PREDICTION: &str = "mtp.";
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

/// A recognised checkpoint of Qwen3.5-VL.
#[derive(Debug)]
pub struct Qwen3_5VlCheckpoint {
    /// The tables of tokens are read from it as long as the network is used.
    weights: Arc<Weights>,
    config: Config,
    config_json: String,
}

impl Qwen3_5VlCheckpoint {
    /// Returns true if a file, or the weights in a folder, are those of a Qwen3.5-VL.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn is_at(path: &Path) -> Result<bool, WeightsError> {
        let weights = Weights::open(path)?;
        Ok(weights.shapes().keys().any(|name| name.ends_with(LINEAR_LAYER)))
    }

    /// Opens a file, an index of shards, or a folder with one of them. The `config.json` must be in
    /// the same folder.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is of another model.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let weights = Weights::open(path)?.without_prefix(&[EMBEDDING])?;
        if !weights.shapes().keys().any(|name| name.ends_with(LINEAR_LAYER)) {
            return Err(WeightsError::Unrecognised {
                path: weights.path().to_owned(),
                message: "these are not the weights of a Qwen3.5-VL: it has no linear layer"
                    .to_owned(),
            });
        }
        let path = weights.path().with_file_name("config.json");
        let config_json = read_text(&path)?;
        let config = Config::from_json(&config_json)
            .map_err(|message| WeightsError::Config { path, message })?;
        Ok(Self { weights: Arc::new(weights), config, config_json })
    }

    /// Loads the network. The embedding and the head stay in the file; a run reads a few of their
    /// rows.
    ///
    /// # Errors
    /// Fails on a missing, misshapen or extra tensor; the error has its name in the file.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<Qwen3_5Vl, WeightsError> {
        let embedding = self.table(EMBEDDING)?;
        let head = if self.has_head() { self.table(HEAD)? } else { embedding.clone() };
        let tensors = NetworkTensors {
            stored_as: &StoredTensor::whole,
            is_unused: &|name| name == EMBEDDING || name == HEAD || name.starts_with(PREDICTION),
            dtype,
            device,
        };
        self.weights.build_network(&tensors, |vb| {
            Qwen3_5Vl::new(&self.config, &Tensors::new(vb, None), TokenTables { embedding, head })
        })
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

    /// Reads the tokenizer from the folder.
    ///
    /// # Errors
    /// Fails if there is no readable tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let (path, json) = self.tokenizer_json()?;
        Tokenizer::from_json(&path, json.as_bytes())
    }

    /// Returns the text of `tokenizer.json`, and its path.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn tokenizer_json(&self) -> Result<(PathBuf, String), TokenizerError> {
        read_tokenizer_json(self.weights.path())
    }

    /// Returns the training that the tensors of the file tell of.
    pub fn tuning(&self) -> TuningOf {
        let has_prediction = self.weights.shapes().keys().any(|name| name.starts_with(PREDICTION));
        if self.has_head() && !has_prediction { TuningOf::QReAlign } else { TuningOf::Base }
    }

    /// Returns the memory of the loaded network in this dtype, in bytes: all tensors but the
    /// tables, which stay in the file, and those that it does not use.
    pub fn bytes_in(&self, dtype: DType) -> u64 {
        let is_loaded =
            |name: &str| name != EMBEDDING && name != HEAD && !name.starts_with(PREDICTION);
        let loaded = self.weights.shapes().iter().filter(|(name, _)| is_loaded(name));
        let count: usize = loaded.map(|(_, shape)| shape.elem_count()).sum();
        count as u64 * dtype.size_in_bytes() as u64
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
