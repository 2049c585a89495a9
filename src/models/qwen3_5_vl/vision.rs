//! The vision tower: patches of images of any size to tokens.
//!
//! ```text
//!  patches ─ embedding + position ─ blocks ─ merger: 4 patches to a token ─► tokens
//! ```
//! Images are packed one after the other; only the attention keeps them apart.

use candle_core::{DType, Device, Result, Tensor};

use crate::models::layers::{
    Angles, HeadLayout, LayerNorm, Linear, Rotary, Visibility, grouped_attention,
};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{TensorOps, cat, runs_on_gpu, upload};
use crate::models::qwen3_5_vl::config::VisionConfig;
use crate::models::qwen3_5_vl::position::{Taps, patch_angles};
use crate::models::qwen3_5_vl::processor::Grid;

/// Added to variances.
const EPS: f64 = 1e-6;
/// Base of the rotary frequencies.
const THETA: f32 = 1e4;
/// Patches in one run on a GPU.
const PATCHES_GPU: usize = 16_384;

/// The vision tower.
#[derive(Debug, Clone)]
pub struct VisionModel {
    /// In `f32`: the two frames' weights are added.
    patch_embed: Linear,
    /// `(side · side, hidden)` f32.
    positions: Tensor,
    side: usize,
    rotary: Rotary,
    blocks: Vec<VisionBlock>,
    merger: Merger,
    dtype: DType,
    device: Device,
}

/// The tables of one run: created once, used by every block.
#[derive(Debug)]
pub struct VisionTables {
    grids: Vec<Grid>,
    angles: Angles,
    /// Of each image.
    visibility: Vec<Visibility>,
}

impl VisionModel {
    /// Builds the tower.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &VisionConfig, tensors: &Tensors<'_>) -> Result<Self> {
        let VisionConfig { hidden_size: hidden, patch_size: side, .. } = *config;
        let patch = tensors.pp("patch_embed.proj");
        let frames = config.temporal_patch_size;
        let weight = patch.get((hidden, 3, frames, side, side), "weight")?.cast(DType::F32)?;
        // The frames of a still image are equal.
        let mut sum = weight.narrow(2, 0, 1)?.dense()?;
        for frame in 1..frames {
            sum = sum.plus(&weight.narrow(2, frame, 1)?)?;
        }
        let bias = patch.get(hidden, "bias")?.cast(DType::F32)?;
        let positions = tensors.pp("pos_embed");
        let positions = positions.get((config.num_position_embeddings, hidden), "weight")?;
        let head_dim = hidden / config.num_heads;
        let block = |index| VisionBlock::new(config, &tensors.pp("blocks").pp(index));
        Ok(Self {
            patch_embed: Linear::new(sum.reshaped((hidden, config.patch_len()))?, bias),
            positions: positions.cast(DType::F32)?,
            side: config.position_side(),
            // A quarter of a head's pairs turn with the row, another with the column.
            rotary: Rotary::partial(head_dim, head_dim / 2, THETA),
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            merger: Merger::new(config, &tensors.pp("merger"))?,
            dtype: tensors.vb().dtype(),
            device: tensors.vb().device().clone(),
        })
    }

    /// Encodes images, some at a time: a CPU reads them one by one, so that a result does not
    /// depend on the others.
    ///
    /// # Shapes
    /// - `patches`: `(all patches, 3 · 16 · 16)` f32 in −1..=1, those of the first grid, of the
    ///   second, …
    /// - result: `(all tokens, out_hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, patches: &Tensor, grids: &[Grid]) -> Result<Tensor> {
        let most = if runs_on_gpu(&self.device) { PATCHES_GPU } else { 1 };
        let (mut runs, mut first, mut rest) = (Vec::new(), 0, grids);
        while !rest.is_empty() {
            let mut count = 0;
            let fits = |grid: &&Grid| {
                let is_first = count == 0;
                count += grid.len();
                is_first || count <= most
            };
            let (run, after) = rest.split_at(rest.iter().take_while(fits).count());
            let length = run.iter().map(|grid| grid.len()).sum();
            runs.push(self.run(&patches.narrow(0, first, length)?, run, |_| Ok(()))?);
            (first, rest) = (first + length, after);
        }
        cat(&runs.iter().collect::<Vec<_>>(), 0)
    }

    /// Encodes images at once. Calls `observe` with the patches after each block.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices, and if `observe` fails.
    pub fn run(
        &self,
        patches: &Tensor,
        grids: &[Grid],
        mut observe: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let tables = self.tables(grids)?;
        let embedded = self.embed_patches(patches)?.plus(&self.embed_positions(grids)?)?;
        let mut xs = embedded.cast(self.dtype)?;
        for block in &self.blocks {
            xs = block.forward(&xs, &tables)?;
            observe(&xs)?;
        }
        self.merger.forward(&xs)
    }

    /// Creates the tables of images.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn tables(&self, grids: &[Grid]) -> Result<VisionTables> {
        let angles: Vec<f32> =
            grids.iter().flat_map(|&grid| patch_angles(grid, self.rotary.frequencies())).collect();
        let pairs = 2 * self.rotary.frequencies().len();
        let sees_all = |grid: &Grid| Visibility::new([(grid.len(), vec![grid.len(); grid.len()])]);
        Ok(VisionTables {
            grids: grids.to_vec(),
            angles: Angles::new(&angles, pairs, 2 * pairs, DType::F32, &self.device)?,
            visibility: grids.iter().map(sees_all).collect(),
        })
    }

    /// Embeds patches without their positions: `(patches, hidden)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn embed_patches(&self, patches: &Tensor) -> Result<Tensor> {
        self.patch_embed.forward(patches)
    }

    /// Interpolates the positions of images' patches: `(patches, hidden)` f32.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn embed_positions(&self, grids: &[Grid]) -> Result<Tensor> {
        let taps: Vec<Taps> = grids.iter().map(|&grid| Taps::new(grid, self.side)).collect();
        let part = |tap: usize| {
            let indices: Vec<u32> =
                taps.iter().flat_map(|taps| taps.indices[tap].clone()).collect();
            let weights: Vec<f32> =
                taps.iter().flat_map(|taps| taps.weights[tap].clone()).collect();
            let count = indices.len();
            let weights = upload(weights, (count, 1), &self.device)?;
            let rows = self.positions.entries(&upload(indices, count, &self.device)?, 0)?;
            rows.times_repeated(&weights)
        };
        part(0)?.plus(&part(1)?)?.plus(&part(2)?)?.plus(&part(3)?)
    }

    /// Returns the blocks in order.
    pub fn blocks(&self) -> &[VisionBlock] {
        &self.blocks
    }

    /// Returns the merger.
    pub fn merger(&self) -> &Merger {
        &self.merger
    }

    /// Returns the side of the table of positions.
    pub fn position_side(&self) -> usize {
        self.side
    }
}

impl VisionTables {
    /// Returns the angles of all patches.
    pub fn angles(&self) -> &Angles {
        &self.angles
    }
}

/// One block: attention of all patches of an image to all, then an MLP, each on a normalised copy
/// of its input.
#[derive(Debug, Clone)]
pub struct VisionBlock {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: HeadLayout,
}

impl VisionBlock {
    fn new(config: &VisionConfig, tensors: &Tensors<'_>) -> Result<Self> {
        let VisionConfig { hidden_size: hidden, intermediate_size: inner, num_heads, .. } = *config;
        let (attention, mlp) = (tensors.pp("attn"), tensors.pp("mlp"));
        Ok(Self {
            norm1: tensors.pp("norm1").layer_norm(hidden, EPS)?,
            qkv: attention.pp("qkv").half_linear(hidden, 3 * hidden)?,
            proj: attention.pp("proj").half_linear(hidden, hidden)?,
            norm2: tensors.pp("norm2").layer_norm(hidden, EPS)?,
            fc1: mlp.pp("linear_fc1").half_linear(hidden, inner)?,
            fc2: mlp.pp("linear_fc2").half_linear(inner, hidden)?,
            heads: HeadLayout {
                query_heads: num_heads,
                kv_heads: num_heads,
                head_dim: hidden / num_heads,
            },
        })
    }

    /// Returns the norms before the attention and before the MLP.
    pub fn norms(&self) -> [&LayerNorm; 2] {
        [&self.norm1, &self.norm2]
    }

    /// Returns the projection to queries, keys and values, and that of the attention's result.
    pub fn projections(&self) -> [&Linear; 2] {
        [&self.qkv, &self.proj]
    }

    /// Returns the two layers of the MLP; GELU in the tanh approximation is between them.
    pub fn mlp(&self) -> [&Linear; 2] {
        [&self.fc1, &self.fc2]
    }

    /// `(patches, hidden)` to `(patches, hidden)`.
    fn forward(&self, xs: &Tensor, tables: &VisionTables) -> Result<Tensor> {
        let rotated = self.rotate(self.qkv.forward(&self.norm1.forward(xs)?)?, tables)?;
        let attended = self.attend(&rotated, tables)?;
        drop(rotated);
        let xs = self.proj.forward_residual(&attended, xs)?;
        let inner = self.fc1.forward_gelu_tanh(&self.norm2.forward(&xs)?)?;
        self.fc2.forward_residual(&inner, &xs)
    }

    /// Rotates queries and keys of rows `[queries | keys | values]` to their places. May overwrite
    /// `qkv`; its storage must not be shared.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn rotate(&self, qkv: Tensor, tables: &VisionTables) -> Result<Tensor> {
        tables.angles.rotate(qkv, 2 * self.heads.query_heads)
    }

    /// Attends inside each image: `(patches, 3 · hidden)` to `(patches, hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn attend(&self, rotated: &Tensor, tables: &VisionTables) -> Result<Tensor> {
        let hidden = rotated.dim(1)? / 3;
        let mut first = 0;
        let mut attended = Vec::with_capacity(tables.grids.len());
        for (grid, visibility) in tables.grids.iter().zip(&tables.visibility) {
            let rows = rotated.narrow(0, first, grid.len())?.unsqueeze(0)?;
            let kv = rows.narrow(2, hidden, 2 * hidden)?.dense()?;
            attended.push(grouped_attention(&rows, &[&kv], visibility, self.heads)?.squeeze(0)?);
            first += grid.len();
        }
        cat(&attended.iter().collect::<Vec<_>>(), 0)
    }
}

/// Merges four patches to a token.
#[derive(Debug, Clone)]
pub struct Merger {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Merger {
    fn new(config: &VisionConfig, tensors: &Tensors<'_>) -> Result<Self> {
        let wide = config.hidden_size * config.spatial_merge_size.pow(2);
        Ok(Self {
            norm: tensors.pp("norm").layer_norm(config.hidden_size, EPS)?,
            fc1: tensors.pp("linear_fc1").half_linear(wide, wide)?,
            fc2: tensors.pp("linear_fc2").half_linear(wide, config.out_hidden_size)?,
        })
    }

    /// Returns the norm of each patch.
    pub fn norm(&self) -> &LayerNorm {
        &self.norm
    }

    /// Returns the first layer, which GELU with the error function follows.
    pub fn fc1(&self) -> &Linear {
        &self.fc1
    }

    /// `(patches, hidden)` to `(patches / 4, out_hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (patches, hidden) = xs.dims2()?;
        let merged = self.norm.forward(xs)?.reshaped((patches / 4, 4 * hidden))?;
        self.fc2.forward(&self.fc1.forward_gelu(&merged)?)
    }
}
