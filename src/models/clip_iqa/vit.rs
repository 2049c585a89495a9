//! The image tower with a ViT: patches of a square of fixed size, with positions.

use candle_core::{DType, Result, Tensor, bail};

use crate::models::clip_iqa::block::{Block, BlockWidths, EPS};
use crate::models::clip_iqa::config::VitConfig;
use crate::models::layers::{LayerNorm, Matrix, Visibility};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{TensorOps, cat};

/// The image tower with a ViT.
#[derive(Debug, Clone)]
pub struct VisionTransformer {
    /// `(1, hidden)`.
    class_embedding: Tensor,
    /// `(hidden, 3 · side · side)`.
    patch_embedding: Matrix,
    /// `(1 + patches, hidden)`.
    positions: Tensor,
    pre_norm: LayerNorm,
    blocks: Vec<Block>,
    post_norm: LayerNorm,
    /// `(embed_dim, hidden)`.
    projection: Matrix,
    config: VitConfig,
    dtype: DType,
}

impl VisionTransformer {
    /// Builds the tower in the dtype of the tensors.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub(super) fn new(config: &VitConfig, embed_dim: usize, tensors: &Tensors<'_>) -> Result<Self> {
        let VitConfig { width, inner, heads, layers, patch, .. } = *config;
        let model = tensors.pp("vision_model");
        let (embeddings, blocks) = (model.pp("embeddings"), model.pp("encoder.layers"));
        let weight = embeddings.pp("patch_embedding").get((width, 3, patch, patch), "weight")?;
        let widths = BlockWidths { width, inner, heads };
        let block = |index| Block::of_hub(widths, &blocks.pp(index));
        let positions = embeddings.pp("position_embedding");
        let projection = tensors.pp("visual_projection");
        Ok(Self {
            class_embedding: embeddings.get(width, "class_embedding")?.reshaped((1, width))?,
            patch_embedding: Matrix::new(weight.reshaped((width, 3 * patch * patch))?)?,
            positions: positions.get((config.tokens(), width), "weight")?,
            // The reference's name has this spelling.
            pre_norm: model.pp("pre_layrnorm").layer_norm(width, EPS)?,
            blocks: (0..layers).map(block).collect::<Result<_>>()?,
            post_norm: model.pp("post_layernorm").layer_norm(width, EPS)?,
            projection: Matrix::new(projection.get((embed_dim, width), "weight")?)?,
            config: *config,
            dtype: tensors.vb().dtype(),
        })
    }

    /// Returns the feature of an image, not normalised.
    ///
    /// # Shapes
    /// - `pixels`: `(1, side, side, 3)` f32, of the network's side
    /// - result: `(1, embed_dim)` f32
    ///
    /// # Errors
    /// Fails on another size, and on mismatched dtypes or devices.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        self.run(pixels, |_| Ok(()))
    }

    /// Does the same, and calls `observe` with the tokens `(1, tokens, hidden)` before the first
    /// block and after each.
    ///
    /// # Errors
    /// Fails as [`forward`](Self::forward) does, and if `observe` fails.
    pub fn run(
        &self,
        pixels: &Tensor,
        mut observe: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let VitConfig { width, patch, grid, .. } = self.config;
        let side = patch * grid;
        if pixels.dims() != [1, side, side, 3] {
            bail!("an image {:?}; the network reads (1, {side}, {side}, 3)", pixels.dims());
        }
        let patches = pixels
            .cast(self.dtype)?
            .reshaped(&[grid, patch, grid, patch, 3])?
            .permute([0, 2, 4, 1, 3])?
            .reshaped((grid * grid, 3 * patch * patch))?;
        let embedded = self.patch_embedding.product(&patches)?;
        let tokens = cat(&[&self.class_embedding, &embedded], 0)?.plus(&self.positions)?;
        let mut xs = self.pre_norm.forward(&tokens)?.unsqueeze(0)?;
        observe(&xs)?;
        let count = self.config.tokens();
        let visibility = Visibility::new([(count, vec![count; count])]);
        for block in &self.blocks {
            xs = block.forward(&xs, &visibility)?;
            observe(&xs)?;
        }
        let class = xs.narrow(1, 0, 1)?.reshaped((1, width))?;
        self.projection.product(&self.post_norm.forward(&class)?)?.cast(DType::F32)
    }

    /// Returns the side of the image in pixels.
    pub fn side(&self) -> usize {
        self.config.patch * self.config.grid
    }
}
