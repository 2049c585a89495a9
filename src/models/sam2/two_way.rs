//! The transformer in which prompts and image attend to each other
//! (`sam2/modeling/sam/transformer.py`).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::kernels::cross_attention::ImageTokens;
use crate::models::layers::LayerNorm;
use crate::models::ops::TensorOps;
use crate::models::sam2::config::Config;
use crate::models::sam2::cross_attention::{
    AttentionShape, ImageToToken, SelfAttention, TokenToImage,
};
use crate::models::sam2::load::{Mlp, layer_norm};

const NORM_EPS: f32 = 1e-5;
/// Ratio of the width to the inner width of the attentions between tokens and image.
const DOWNSAMPLE: usize = 2;

/// The tokens and the image after a layer of the transformer.
#[derive(Debug, Clone)]
pub struct TwoWayState {
    /// `(prompts, n, d_model)`.
    pub queries: Tensor,
    /// `(prompts, side², d_model)`.
    pub keys: Tensor,
}

/// The two-way transformer.
#[derive(Debug, Clone)]
pub struct TwoWayTransformer {
    layers: [Layer; 2],
    last: TokenToImage,
    last_norm: LayerNorm,
}

#[derive(Debug, Clone)]
struct Layer {
    self_attention: SelfAttention,
    norm1: LayerNorm,
    token_to_image: TokenToImage,
    norm2: LayerNorm,
    mlp: Mlp,
    norm3: LayerNorm,
    image_to_token: ImageToToken,
}

impl TwoWayTransformer {
    /// Loads the weights below `sam_mask_decoder.transformer`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.d_model;
        let layer = |index: usize| Layer::new(config, &vb.pp("layers").pp(index));
        let last = vb.pp("final_attn_token_to_image");
        Ok(Self {
            layers: [layer(0)?, layer(1)?],
            last: TokenToImage::new(cross_attention_shape(config), &last)?,
            last_norm: layer_norm(width, NORM_EPS, &vb.pp("norm_final_attn"))?,
        })
    }

    /// Runs all layers on `tokens (prompts, n, d_model)`, which are also their own position, and on
    /// their images, and returns both after the last attention. `observe` receives the state after
    /// each layer.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(
        &self,
        tokens: &Tensor,
        image: &ImageTokens<'_>,
        mut observe: impl FnMut(&TwoWayState),
    ) -> Result<TwoWayState> {
        // After the first layer, each prompt has its own copy of the image.
        let own_image: Vec<usize> = (0..tokens.dim(0)?).collect();
        let [first, second] = &self.layers;
        let after_first = first.forward(None, tokens, image)?;
        observe(&after_first);
        let image_after_first = ImageTokens::new(&after_first.keys, image.position, &own_image);
        let after_second =
            second.forward(Some(&after_first.queries), tokens, &image_after_first)?;
        observe(&after_second);
        drop(after_first);
        let TwoWayState { queries, keys } = after_second;
        let image_after_second = ImageTokens::new(&keys, image.position, &own_image);
        let attended = self.last.forward(&queries.plus(tokens)?, &image_after_second)?;
        let normed = self.last_norm.forward(&queries.plus(&attended)?)?;
        Ok(TwoWayState { queries: normed, keys })
    }
}

impl Layer {
    fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let (heads, width) = (config.decoder_heads, config.d_model);
        let self_attention = AttentionShape { heads, width, inner_width: width };
        let cross_attention = cross_attention_shape(config);
        let norm = |name: &str| layer_norm(width, NORM_EPS, &vb.pp(name));
        let image_to_token = vb.pp("cross_attn_image_to_token");
        Ok(Self {
            self_attention: SelfAttention::new(self_attention, &vb.pp("self_attn"))?,
            norm1: norm("norm1")?,
            token_to_image: TokenToImage::new(
                cross_attention,
                &vb.pp("cross_attn_token_to_image"),
            )?,
            norm2: norm("norm2")?,
            mlp: Mlp::new(&[width, config.mlp_dim, width], &vb.pp("mlp"))?,
            norm3: norm("norm3")?,
            image_to_token: ImageToToken::new(cross_attention, norm("norm4")?, &image_to_token)?,
        })
    }

    /// `queries` is `None` in the first layer, whose self-attention has neither position nor
    /// residual.
    fn forward(
        &self,
        queries: Option<&Tensor>,
        position: &Tensor,
        image: &ImageTokens<'_>,
    ) -> Result<TwoWayState> {
        let mut xs = match queries {
            None => self.self_attention.forward(position, position)?,
            Some(queries) => {
                let positioned = queries.plus(position)?;
                queries.plus(&self.self_attention.forward(&positioned, queries)?)?
            }
        };
        xs = self.norm1.forward(&xs)?;
        let attended = self.token_to_image.forward(&xs.plus(position)?, image)?;
        xs = self.norm2.forward(&xs.plus(&attended)?)?;
        xs = self.norm3.forward(&xs.plus(&self.mlp.forward(&xs)?)?)?;
        let positioned = xs.plus(position)?;
        let keys = self.image_to_token.forward(image, &positioned, &xs)?;
        Ok(TwoWayState { queries: xs, keys })
    }
}

fn cross_attention_shape(config: &Config) -> AttentionShape {
    let width = config.d_model;
    AttentionShape { heads: config.decoder_heads, width, inner_width: width / DOWNSAMPLE }
}
