//! Prompts and image look at each other (`sam2/modeling/sam/transformer.py`).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::Config;
use super::cross_attention::{ImageToToken, ImageTokens, SelfAttention, TokenToImage};
use super::load::{Mlp, layer_norm};
use crate::models::layers::LayerNorm;

const NORM_EPS: f32 = 1e-5;
/// Channels of the attentions between tokens and image: one in so many of the width.
const DOWNSAMPLE: usize = 2;

/// Tokens and image after a part of the transformer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// `(prompts, n, d_model)`.
    pub queries: Tensor,
    /// `(prompts, side², d_model)`.
    pub keys: Tensor,
}

/// The image as prompts see it.
#[derive(Debug, Clone, Copy)]
pub struct ImageSide<'a> {
    /// `(images, side², d_model)`, with the dense prompt.
    pub tokens: &'a Tensor,
    /// `(side², d_model)`.
    pub position: &'a Tensor,
    /// For each prompt the image that it is about.
    pub image_of: &'a [usize],
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
    /// Opens the weights below `sam_mask_decoder.transformer`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let (heads, width) = (config.decoder_heads, config.d_model);
        let layer = |index: usize| Layer::new(config, &vb.pp("layers").pp(index));
        let last = vb.pp("final_attn_token_to_image");
        Ok(Self {
            layers: [layer(0)?, layer(1)?],
            last: TokenToImage::new(heads, width, width / DOWNSAMPLE, &last)?,
            last_norm: layer_norm(width, NORM_EPS, &vb.pp("norm_final_attn"))?,
        })
    }

    /// Tokens `(prompts, n, d_model)`, which are also their own position, and the image they are
    /// about, to both after the last attention. `observe` sees what stands after each layer.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn forward(
        &self,
        tokens: &Tensor,
        image: &ImageSide<'_>,
        mut observe: impl FnMut(&Exchange),
    ) -> Result<Exchange> {
        let ImageSide { position, .. } = *image;
        // After the first layer each prompt has an image of its own.
        let own: Vec<usize> = (0..tokens.dim(0)?).collect();
        let [first, second] = &self.layers;
        let &ImageSide { tokens: keys, image_of, .. } = image;
        let image = ImageTokens { tokens: keys, position, image_of };
        let after = {
            let before = first.forward(None, tokens, &image)?;
            observe(&before);
            let image = ImageTokens { tokens: &before.keys, position, image_of: &own };
            second.forward(Some(&before.queries), tokens, &image)?
        };
        observe(&after);
        let Exchange { queries, keys } = after;
        let image = ImageTokens { tokens: &keys, position, image_of: &own };
        let found = self.last.forward(&(&queries + tokens)?, &image)?;
        let queries = self.last_norm.forward(&(queries + found)?)?;
        Ok(Exchange { queries, keys })
    }
}

impl Layer {
    fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let (heads, width) = (config.decoder_heads, config.d_model);
        let dim = width / DOWNSAMPLE;
        let norm = |name: &str| layer_norm(width, NORM_EPS, &vb.pp(name));
        let image_to_token = vb.pp("cross_attn_image_to_token");
        Ok(Self {
            self_attention: SelfAttention::new(heads, width, &vb.pp("self_attn"))?,
            norm1: norm("norm1")?,
            token_to_image: TokenToImage::new(
                heads,
                width,
                dim,
                &vb.pp("cross_attn_token_to_image"),
            )?,
            norm2: norm("norm2")?,
            mlp: Mlp::new(&[width, config.mlp_dim, width], &vb.pp("mlp"))?,
            norm3: norm("norm3")?,
            image_to_token: ImageToToken::new(
                (heads, width, dim),
                norm("norm4")?,
                &image_to_token,
            )?,
        })
    }

    /// `queries` are absent in the first layer, whose self-attention has neither position nor residual.
    fn forward(
        &self,
        queries: Option<&Tensor>,
        position: &Tensor,
        image: &ImageTokens<'_>,
    ) -> Result<Exchange> {
        let queries = match queries {
            None => self.self_attention.forward(position, position)?,
            Some(queries) => {
                let places = (queries + position)?;
                (queries + self.self_attention.forward(&places, queries)?)?
            }
        };
        let queries = self.norm1.forward(&queries)?;
        let found = self.token_to_image.forward(&(&queries + position)?, image)?;
        let queries = self.norm2.forward(&(queries + found)?)?;
        let queries = self.norm3.forward(&(&queries + self.mlp.forward(&queries)?)?)?;
        let places = (&queries + position)?;
        let keys = self.image_to_token.forward(image, &places, &queries)?;
        Ok(Exchange { queries, keys })
    }
}
