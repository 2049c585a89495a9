//! The vision tower: SigLIP so400m/14 without its end. The reference reads the residual stream
//! before the last layer (`hidden_states[-2]`), so neither that layer nor its successors are built.

use candle_core::{Result, Tensor};

use crate::models::layers::{LayerNorm, Linear, Windows, windowed_attention};
use crate::models::mplug_owl3::config::VisionConfig;
use crate::models::mplug_owl3::named_tensors::Tensors;
use crate::models::ops::{TensorOps, cat, runs_on_gpu};

/// Views in one run on a CPU. With more, the intermediates are too large for the allocator to
/// reuse.
const VIEWS_CPU: usize = 2;
/// Views in one run on a GPU: enough to fill it (the reference's `vision_batch_size`).
const VIEWS_GPU: usize = 16;

/// The vision tower: views to tokens.
#[derive(Debug, Clone)]
pub struct VisionModel {
    patch_embedding: Linear,
    /// `(tokens, hidden)`.
    position: Tensor,
    layers: Vec<EncoderLayer>,
    config: VisionConfig,
}

impl VisionModel {
    /// Builds the tower with its first `layers` layers.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &VisionConfig, layers: usize, tensors: &Tensors<'_>) -> Result<Self> {
        let VisionConfig { hidden_size, patch_size: side, .. } = *config;
        let embeddings = tensors.pp("embeddings");
        let patch = embeddings.pp("patch_embedding");
        let weight = patch
            .get((hidden_size, 3, side, side), "weight")?
            .reshaped((hidden_size, 3 * side * side))?;
        let position = embeddings.pp("position_embedding");
        let encoder = tensors.pp("encoder.layers");
        Ok(Self {
            patch_embedding: Linear::new(weight, patch.get(hidden_size, "bias")?),
            position: position.get((config.tokens(), hidden_size), "weight")?,
            layers: (0..layers)
                .map(|layer| EncoderLayer::new(config, &encoder.pp(layer)))
                .collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Encodes views `(views, 3, size, size)` in −1..=1 to `(views, tokens, hidden)`, some views at
    /// a time.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, views: &Tensor) -> Result<Tensor> {
        let count = views.dim(0)?;
        let most = if runs_on_gpu(views.device()) { VIEWS_GPU } else { VIEWS_CPU };
        let runs = (0..count)
            .step_by(most)
            .map(|first| self.run(&views.narrow(0, first, most.min(count - first))?, |_| Ok(())))
            .collect::<Result<Vec<_>>>()?;
        cat(&runs.iter().collect::<Vec<_>>(), 0)
    }

    /// Encodes all views at once. Calls `observe` with the tokens before the first layer and after
    /// each layer.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices, and if `observe` fails.
    pub fn run(
        &self,
        views: &Tensor,
        mut observe: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut tokens = self.embed(views)?;
        observe(&tokens)?;
        for layer in &self.layers {
            tokens = layer.forward(&tokens, &self.config)?;
            observe(&tokens)?;
        }
        Ok(tokens)
    }

    /// Embeds patches, row by row, with their positions: `(views, tokens, hidden)`.
    fn embed(&self, views: &Tensor) -> Result<Tensor> {
        let side = self.config.patch_size;
        let across = self.config.image_size / side;
        let count = views.dim(0)?;
        // Pixels beyond whole patches are dropped: (views, tokens, 3 · side · side).
        let patches = views
            .narrow(2, 0, across * side)?
            .narrow(3, 0, across * side)?
            .reshaped(&[count, 3, across, side, across, side])?
            .permute([0, 2, 4, 1, 3, 5])?
            .reshaped((count, across * across, 3 * side * side))?;
        self.patch_embedding.forward(&patches)?.plus_repeated(&self.position)
    }
}

/// One layer: attention of all tokens to all, then an MLP, each on a normalised copy of its input.
#[derive(Debug, Clone)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    qkv: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl EncoderLayer {
    fn new(config: &VisionConfig, tensors: &Tensors<'_>) -> Result<Self> {
        let VisionConfig { hidden_size: hidden, intermediate_size: inner, .. } = *config;
        let norm = |name| tensors.pp(name).layer_norm(hidden, config.layer_norm_eps);
        let attention = tensors.pp("self_attn");
        let parts = ["q_proj", "k_proj", "v_proj"].map(|name| (name, hidden));
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            qkv: Linear::new(attention.weights(hidden, &parts)?, attention.biases(&parts)?),
            out_proj: attention.pp("out_proj").linear(hidden, hidden)?,
            layer_norm2: norm("layer_norm2")?,
            fc1: tensors.pp("mlp.fc1").linear(hidden, inner)?,
            fc2: tensors.pp("mlp.fc2").linear(inner, hidden)?,
        })
    }

    /// `(views, tokens, hidden)` to `(views, tokens, hidden)`.
    fn forward(&self, tokens: &Tensor, config: &VisionConfig) -> Result<Tensor> {
        let (views, count, hidden) = tokens.dims3()?;
        // 1. Attention. Every token attends to every other, so the map may as well be one row.
        let qkv = self.qkv.product(&self.layer_norm1.forward(tokens)?)?;
        let map = qkv.reshaped((views, 1, count, 3 * hidden))?;
        let all = Windows { heads: config.num_attention_heads, side: None, pools_queries: false };
        let attended = windowed_attention(&map, self.qkv.bias(), &all)?.reshaped(tokens.shape())?;
        // 2. Output projection and residual.
        let tokens = self.out_proj.forward_residual(&attended, tokens)?;
        // 3. MLP and residual.
        let inner = self.fc1.forward_gelu_tanh(&self.layer_norm2.forward(&tokens)?)?;
        self.fc2.forward_residual(&inner, &tokens)
    }
}
