//! The scorers with weights behind one type: the weights decide which network rates.

use std::path::Path;

use candle_core::{DType, Device};

use crate::checkpoints::{ScorerCheckpoint, WeightsError};
use crate::engine::adapters::clip_iqa::{ClipIqaError, ClipIqaScorer, FittedCrop};
use crate::engine::adapters::loaded_mplug_owl3::MplugOwl3Error;
use crate::engine::adapters::mplug_owl3::{CropViews, MplugOwl3Scorer};
use crate::engine::adapters::qwen3_5_vl::{CropPatches, Qwen3_5VlError, Qwen3_5VlScorer};
use crate::engine::info::ModelInfo;
use crate::engine::lane::RunError;
use crate::engine::traits::Scorer;
use crate::imaging::Crop;
use crate::method::{LevelDistribution, Standard};
use crate::models::clip_iqa::ClipIqaSettings;
use crate::models::mplug_owl3::RatingSettings;
use crate::models::qwen3_5_vl::QRealignSettings;

/// The reason why a scorer did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkScorerError {
    /// Of mPLUG-Owl3.
    #[error(transparent)]
    MplugOwl3(#[from] MplugOwl3Error),
    /// Of Qwen3.5-VL.
    #[error(transparent)]
    Qwen3_5Vl(#[from] Qwen3_5VlError),
    /// Of CLIP-IQA.
    #[error(transparent)]
    ClipIqa(#[from] ClipIqaError),
}

/// The settings of each network's ratings.
#[derive(Debug, Clone)]
pub(crate) struct NetworkRatings {
    /// Of mPLUG-Owl3.
    pub(crate) mplug_owl3: RatingSettings,
    /// Of Qwen3.5-VL.
    pub(crate) qwen3_5_vl: QRealignSettings,
    /// Of CLIP-IQA.
    pub(crate) clip_iqa: ClipIqaSettings,
}

/// The networks that rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    MplugOwl3,
    Qwen3_5Vl,
    ClipIqa,
}

impl Network {
    /// Recognises the network of a checkpoint. Returns the memory of its weights, too, in bytes. If
    /// images have any size, it includes that of one image.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is of none.
    pub(crate) fn of(
        path: &Path,
        ratings: &NetworkRatings,
        dtype: DType,
    ) -> Result<(Self, u64), WeightsError> {
        Ok(match ScorerCheckpoint::open(path)? {
            ScorerCheckpoint::MplugOwl3(checkpoint) => {
                (Self::MplugOwl3, checkpoint.weights().bytes_in(dtype))
            }
            ScorerCheckpoint::Qwen3_5Vl(checkpoint) => {
                (Self::Qwen3_5Vl, checkpoint.bytes_in(dtype))
            }
            ScorerCheckpoint::Clip(checkpoint) => {
                (Self::ClipIqa, checkpoint.bytes(ratings.clip_iqa.pixels_max))
            }
        })
    }
}

/// A scorer of one of the networks.
#[derive(Debug)]
pub(crate) enum NetworkScorer {
    MplugOwl3(Box<MplugOwl3Scorer>),
    Qwen3_5Vl(Box<Qwen3_5VlScorer>),
    ClipIqa(Box<ClipIqaScorer>),
}

/// A crop as the network of the scorer reads it.
#[derive(Debug, Clone)]
pub(crate) enum NetworkInput {
    MplugOwl3(CropViews),
    Qwen3_5Vl(CropPatches),
    ClipIqa(FittedCrop),
}

impl NetworkScorer {
    /// Opens a checkpoint of this network.
    ///
    /// # Errors
    /// Fails if the weights or the tokenizer cannot be used.
    pub(crate) fn open(
        network: Network,
        path: &Path,
        standard: &Standard,
        ratings: NetworkRatings,
        (dtype, device): (DType, &Device),
    ) -> Result<Self, NetworkScorerError> {
        Ok(match network {
            Network::MplugOwl3 => {
                let settings = ratings.mplug_owl3;
                let scorer = MplugOwl3Scorer::open(path, standard, settings, dtype, device)?;
                Self::MplugOwl3(Box::new(scorer))
            }
            Network::Qwen3_5Vl => {
                let settings = ratings.qwen3_5_vl;
                let scorer = Qwen3_5VlScorer::open(path, standard, settings, dtype, device)?;
                Self::Qwen3_5Vl(Box::new(scorer))
            }
            Network::ClipIqa => {
                let settings = ratings.clip_iqa;
                let scorer = ClipIqaScorer::open(path, standard, settings, dtype, device)?;
                Self::ClipIqa(Box::new(scorer))
            }
        })
    }
}

/// Returns the inputs of one network; all inputs of a lane are of the network of its scorer.
fn of_network<T>(
    batch: &[NetworkInput],
    of: impl Fn(&NetworkInput) -> Option<T>,
) -> Result<Vec<T>, RunError> {
    let inputs: Option<Vec<T>> = batch.iter().map(of).collect();
    inputs.ok_or_else(|| RunError::Batch("an input is prepared for another network".into()))
}

impl Scorer for NetworkScorer {
    type Input = NetworkInput;

    fn info(&self) -> ModelInfo {
        match self {
            Self::MplugOwl3(scorer) => scorer.info(),
            Self::Qwen3_5Vl(scorer) => scorer.info(),
            Self::ClipIqa(scorer) => scorer.info(),
        }
    }

    fn prepare(&self, crop: &Crop) -> Result<NetworkInput, RunError> {
        match self {
            Self::MplugOwl3(scorer) => scorer.prepare(crop).map(NetworkInput::MplugOwl3),
            Self::Qwen3_5Vl(scorer) => scorer.prepare(crop).map(NetworkInput::Qwen3_5Vl),
            Self::ClipIqa(scorer) => scorer.prepare(crop).map(NetworkInput::ClipIqa),
        }
    }

    fn cost(input: &NetworkInput) -> usize {
        match input {
            NetworkInput::MplugOwl3(input) => MplugOwl3Scorer::cost(input),
            NetworkInput::Qwen3_5Vl(input) => Qwen3_5VlScorer::cost(input),
            NetworkInput::ClipIqa(input) => ClipIqaScorer::cost(input),
        }
    }

    fn rate(&self, batch: &[NetworkInput]) -> Result<Vec<LevelDistribution>, RunError> {
        // Inputs share their tensors, so a clone is cheap.
        match self {
            Self::MplugOwl3(scorer) => {
                let inputs = of_network(batch, |input| match input {
                    NetworkInput::MplugOwl3(input) => Some(input.clone()),
                    NetworkInput::Qwen3_5Vl(_) | NetworkInput::ClipIqa(_) => None,
                });
                scorer.rate(&inputs?)
            }
            Self::Qwen3_5Vl(scorer) => {
                let inputs = of_network(batch, |input| match input {
                    NetworkInput::Qwen3_5Vl(input) => Some(input.clone()),
                    NetworkInput::MplugOwl3(_) | NetworkInput::ClipIqa(_) => None,
                });
                scorer.rate(&inputs?)
            }
            Self::ClipIqa(scorer) => {
                let inputs = of_network(batch, |input| match input {
                    NetworkInput::ClipIqa(input) => Some(input.clone()),
                    NetworkInput::MplugOwl3(_) | NetworkInput::Qwen3_5Vl(_) => None,
                });
                scorer.rate(&inputs?)
            }
        }
    }

    fn device(&self) -> &Device {
        match self {
            Self::MplugOwl3(scorer) => scorer.device(),
            Self::Qwen3_5Vl(scorer) => scorer.device(),
            Self::ClipIqa(scorer) => scorer.device(),
        }
    }
}
