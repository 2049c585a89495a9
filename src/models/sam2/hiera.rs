//! The image encoder's trunk: a hierarchical transformer that pools its queries between stages
//! (`sam2/modeling/backbones/hieradet.py`). Maps are `(batch, height, width, channels)` throughout.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::{
    LayerNorm, Linear, Windows, add_bias, max_pool_2x2, windowed_attention,
};
use crate::models::ops::{TensorOps, conv2d, runs_on_gpu};
use crate::models::sam2::config::{Config, TrunkConfig};
use crate::models::sam2::load::{layer_norm, linear};
use crate::models::sam2::position::trunk_position;

const NORM_EPS: f32 = 1e-6;
const PATCH_SIDE: usize = 7;
const PATCH_STRIDE: usize = 4;
const PATCH_PADDING: usize = 3;
const MLP_RATIO: usize = 4;

/// The trunk.
#[derive(Debug, Clone)]
pub struct Hiera {
    patch_embed: PatchEmbed,
    /// `(1, side, side, channels)`: constant, computed when the weights are loaded.
    position: Tensor,
    blocks: Vec<Block>,
    /// Index of the last block of each stage.
    stage_ends: Vec<usize>,
}

impl Hiera {
    /// Loads the weights below `image_encoder.trunk`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let trunk = &config.trunk;
        let dim = trunk.embed_dim;
        let side = config.image_size / PATCH_STRIDE;
        let [height, width] = trunk.position_size;
        let background = vb.to_dtype(DType::F32).get((1, dim, height, width), "pos_embed")?;
        let window_side = trunk.window_spec[0];
        let window =
            vb.to_dtype(DType::F32).get((1, dim, window_side, window_side), "pos_embed_window")?;
        let position = trunk_position(&background, &window, (side, side))?.cast(vb.dtype())?;
        let vb_blocks = vb.pp("blocks");
        let blocks: Result<Vec<Block>> = BlockConfig::of_trunk(trunk)
            .iter()
            .enumerate()
            .map(|(index, config)| Block::new(config, &vb_blocks.pp(index)))
            .collect();
        let mut end = 0;
        let ends = trunk.stages.iter().map(|blocks| {
            end += blocks;
            end - 1
        });
        Ok(Self {
            patch_embed: PatchEmbed::new(dim, &vb.pp("patch_embed"))?,
            position,
            stage_ends: ends.collect(),
            blocks: blocks?,
        })
    }

    /// `(batch, 3, size, size)` to the last map of each stage, the finest first.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut map = self.patch_embed.forward(images)?.plus_repeated(&self.position)?;
        let mut stages = Vec::with_capacity(self.stage_ends.len());
        for (index, block) in self.blocks.iter().enumerate() {
            map = block.forward(&map)?;
            if self.stage_ends.contains(&index) {
                stages.push(map.clone());
            }
        }
        Ok(stages)
    }

    /// The patch embedding.
    pub fn patch_embed(&self) -> &PatchEmbed {
        &self.patch_embed
    }

    /// The position embedding, which is added to the first map: `(1, side, side, channels)`.
    pub fn position(&self) -> &Tensor {
        &self.position
    }

    /// The blocks of all stages.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Index of the last block of each stage.
    pub fn stage_ends(&self) -> &[usize] {
        &self.stage_ends
    }
}

/// A convolution of 7 × 7 pixels with stride 4.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    weight: Tensor,
    bias: Tensor,
}

impl PatchEmbed {
    fn new(dim: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let vb = vb.pp("proj");
        Ok(Self {
            weight: vb.get((dim, 3, PATCH_SIDE, PATCH_SIDE), "weight")?,
            bias: vb.get(dim, "bias")?,
        })
    }

    /// `(batch, 3, size, size)` to `(batch, size/4, size/4, channels)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let dtype = self.weight.dtype();
        // candle has no convolution in half precisions on the CPU.
        let compute_dtype = if runs_on_gpu(images.device()) { dtype } else { DType::F32 };
        let (images, weight) = (images.cast(compute_dtype)?, self.weight.cast(compute_dtype)?);
        let map = conv2d(&images, &weight, PATCH_PADDING, PATCH_STRIDE)?;
        add_bias(map.permute((0, 2, 3, 1))?.dense()?.cast(dtype)?, &self.bias)
    }
}

/// Shape of one block.
#[derive(Debug, Clone, Copy)]
struct BlockConfig {
    width_in: usize,
    width: usize,
    windows: Windows,
}

impl BlockConfig {
    fn of_trunk(trunk: &TrunkConfig) -> Vec<Self> {
        let mut blocks = Vec::new();
        for (stage, &count) in trunk.stages.iter().enumerate() {
            for index in 0..count {
                let pools_queries = index == 0 && stage > 0;
                // The first block of a stage still has the window of the stage before.
                let side = trunk.window_spec[if pools_queries { stage - 1 } else { stage }];
                let is_global = trunk.global_blocks.contains(&blocks.len());
                let width = trunk.embed_dim << stage;
                blocks.push(Self {
                    width_in: if pools_queries { width / 2 } else { width },
                    width,
                    windows: Windows {
                        heads: trunk.heads << stage,
                        side: (!is_global).then_some(side),
                        pools_queries,
                    },
                });
            }
        }
        blocks
    }
}

/// One block: a norm and attention, then a norm and an MLP (`MultiScaleBlock`).
#[derive(Debug, Clone)]
pub struct Block {
    windows: Windows,
    norm1: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    norm2: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    /// Projects the shortcut to more channels at the start of a stage.
    widen: Option<Linear>,
}

impl Block {
    fn new(config: &BlockConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let &BlockConfig { width_in, width, windows } = config;
        let (attention, mlp) = (vb.pp("attn"), vb.pp("mlp.layers"));
        let widen = (width_in != width).then(|| linear(width_in, width, &vb.pp("proj")));
        Ok(Self {
            windows,
            norm1: layer_norm(width_in, NORM_EPS, &vb.pp("norm1"))?,
            qkv: linear(width_in, 3 * width, &attention.pp("qkv"))?,
            attention_out: linear(width, width, &attention.pp("proj"))?,
            norm2: layer_norm(width, NORM_EPS, &vb.pp("norm2"))?,
            mlp_in: linear(width, MLP_RATIO * width, &mlp.pp(0))?,
            mlp_out: linear(MLP_RATIO * width, width, &mlp.pp(1))?,
            widen: widen.transpose()?,
        })
    }

    /// `(batch, height, width, channels)` to the same shape, or at the start of a stage to
    /// `(batch, height/2, width/2, 2 · channels)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, map: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(map)?;
        let shortcut = match &self.widen {
            Some(widen) => max_pool_2x2(&widen.forward(&normed)?)?,
            None => map.clone(),
        };
        let qkv = self.qkv.product(&normed)?;
        let attended = windowed_attention(&qkv, self.qkv.bias(), &self.windows)?;
        let map = self.attention_out.forward_residual(&attended, &shortcut)?;
        let hidden = self.mlp_in.forward_gelu(&self.norm2.forward(&map)?)?;
        self.mlp_out.forward_residual(&hidden, &map)
    }
}
