//! The text tower: prompts to features.

use candle_core::{DType, Result, Tensor, bail};

use crate::models::clip_iqa::block::{Block, BlockWidths, EPS};
use crate::models::clip_iqa::config::{TextConfig, VisionConfig};
use crate::models::device::to_cpu;
use crate::models::layers::{LayerNorm, Visibility};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{TensorOps, cat, matmul, upload};

/// The text tower, in `f32`: it runs once, for a few prompts.
#[derive(Debug, Clone)]
pub struct TextTower {
    /// `(vocabulary, width)`.
    embedding: Tensor,
    /// `(context, width)`.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// `(width, embed_dim)`.
    projection: Tensor,
}

impl TextTower {
    /// Builds the tower from tensors in `f32`, with the names that go with the image tower.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub(super) fn new(
        config: &TextConfig,
        embed_dim: usize,
        vision: &VisionConfig,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let TextConfig { width, inner, heads, layers, context, vocabulary } = *config;
        let widths = BlockWidths { width, inner, heads };
        match vision {
            VisionConfig::ResNet(_) => {
                let blocks = tensors.pp("transformer.resblocks");
                let block = |index| Block::of_open_clip(widths, &blocks.pp(index));
                let embedding = tensors.pp("token_embedding");
                Ok(Self {
                    embedding: embedding.get((vocabulary, width), "weight")?,
                    positions: tensors.get((context, width), "positional_embedding")?,
                    blocks: (0..layers).map(block).collect::<Result<_>>()?,
                    norm: tensors.pp("ln_final").layer_norm(width, EPS)?,
                    projection: tensors.get((width, embed_dim), "text_projection")?,
                })
            }
            VisionConfig::Vit(_) => {
                let text = tensors.pp("text_model");
                let (embeddings, blocks) = (text.pp("embeddings"), text.pp("encoder.layers"));
                let block = |index| Block::of_hub(widths, &blocks.pp(index));
                let projection = tensors.pp("text_projection").get((embed_dim, width), "weight")?;
                let positions = embeddings.pp("position_embedding");
                let embedding = embeddings.pp("token_embedding");
                Ok(Self {
                    embedding: embedding.get((vocabulary, width), "weight")?,
                    positions: positions.get((context, width), "weight")?,
                    blocks: (0..layers).map(block).collect::<Result<_>>()?,
                    norm: text.pp("final_layer_norm").layer_norm(width, EPS)?,
                    projection: projection.t()?.dense()?,
                })
            }
        }
    }

    /// Returns the features of prompts, `(prompts, embed_dim)` f32, not normalised. Each prompt is
    /// read by itself, without padding; its feature is that of its last token.
    ///
    /// # Errors
    /// Fails on a prompt without a token or with too many, on a token that the network does not
    /// have, and on an error of the device.
    pub fn features(&self, prompts: &[Vec<u32>]) -> Result<Tensor> {
        let features = prompts.iter().map(|tokens| self.feature(tokens));
        let features = features.collect::<Result<Vec<_>>>()?;
        cat(&features.iter().collect::<Vec<_>>(), 0)
    }

    /// Returns the same on the CPU, a row for each prompt.
    ///
    /// # Errors
    /// Fails as [`features`](Self::features) does.
    pub fn rows(&self, prompts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        to_cpu(&self.features(prompts)?)?.to_vec2()
    }

    fn feature(&self, tokens: &[u32]) -> Result<Tensor> {
        let ((vocabulary, width), context) = (self.embedding.dims2()?, self.positions.dim(0)?);
        let count = tokens.len();
        if count == 0 || count > context || tokens.iter().any(|id| *id as usize >= vocabulary) {
            bail!("a prompt {tokens:?} for {context} positions and {vocabulary} tokens");
        }
        let indices = upload(tokens.to_vec(), count, self.embedding.device())?;
        let rows = self.embedding.entries(&indices, 0)?;
        let mut xs = rows.plus(&self.positions.narrow(0, 0, count)?)?.unsqueeze(0)?;
        let visibility = Visibility::new([(count, (1..=count).collect())]);
        for block in &self.blocks {
            xs = block.forward(&xs, &visibility)?;
        }
        let last = xs.narrow(1, count - 1, 1)?.reshaped((1, width))?;
        matmul(&self.norm.forward(&last)?, &self.projection)?.cast(DType::F32)
    }
}
