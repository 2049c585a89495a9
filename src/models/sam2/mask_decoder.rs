//! The mask decoder, from prompts to masks (`sam2/modeling/sam/mask_decoder.py`).

use candle_core::{D, DType, IndexOp, Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::device::{forward, to_cpu};
use crate::models::kernels::cross_attention::ImageTokens;
use crate::models::layers::Linear;
use crate::models::ops::{Function, TensorOps, cat, stack};
use crate::models::sam2::config::{Config, DynamicMultimask};
use crate::models::sam2::load::{Mlp, pointwise, select_rows};
use crate::models::sam2::two_way::{TwoWayState, TwoWayTransformer};
use crate::models::sam2::upscale::{FineFeatures, Upscale};

/// Masks of each prompt: the first is for an unambiguous prompt, the other three for an ambiguous
/// one.
pub const MASKS: usize = 4;
/// Tokens before those of the masks: object score and intersection over union.
const LEADING_TOKENS: usize = 2;

/// The mask decoder.
#[derive(Debug, Clone)]
pub struct MaskDecoder {
    /// `(6, d_model)`: object score, intersection over union, four masks.
    tokens: Tensor,
    transformer: TwoWayTransformer,
    upscale: Upscale,
    /// Two pointwise convolutions that reduce the channels of the neck's finest maps, once per
    /// image.
    narrow: [Linear; 2],
    /// In `f32` for every dtype of the network, like `iou_head`.
    hypernetworks: Vec<Mlp>,
    iou_head: Mlp,
    dynamic: Option<DynamicMultimask>,
}

/// The decoder's output for some prompts, from which their masks are drawn.
#[derive(Debug, Clone)]
pub struct DecodedPrompts {
    /// Tokens of the masks, `(prompts, 4, d_model)`.
    pub mask_tokens: Tensor,
    /// The image after the transformer, `(prompts, side², d_model)`.
    pub image: Tensor,
    /// Predicted intersection over union of each mask, `(prompts, 4)` f32 in 0..=1.
    pub iou: Tensor,
}

impl DecodedPrompts {
    /// Selects some prompts, in this order.
    ///
    /// # Errors
    /// Fails if the device fails.
    pub fn select(&self, prompts: &[usize]) -> Result<Self> {
        Ok(Self {
            mask_tokens: select_rows(&self.mask_tokens, prompts)?,
            image: select_rows(&self.image, prompts)?,
            iou: select_rows(&self.iou, prompts)?,
        })
    }
}

impl MaskDecoder {
    /// Loads the weights below `sam_mask_decoder`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let dim = config.d_model;
        let token = |count: usize, name: &str| vb.get((count, dim), &format!("{name}.weight"));
        let tokens =
            [token(1, "obj_score_token")?, token(1, "iou_token")?, token(MASKS, "mask_tokens")?];
        // These heads are small, and decide which masks are kept and where their borders are.
        let exact = vb.to_dtype(DType::F32);
        let vb_hypernetworks = exact.pp("output_hypernetworks_mlps");
        let hypernetworks = (0..MASKS)
            .map(|index| Mlp::new(&[dim, dim, dim, dim / 8], &vb_hypernetworks.pp(index)))
            .collect::<Result<_>>()?;
        let hidden = config.iou_hidden;
        Ok(Self {
            tokens: cat(&tokens.iter().collect::<Vec<_>>(), 0)?,
            transformer: TwoWayTransformer::new(config, &vb.pp("transformer"))?,
            upscale: Upscale::new(config, &vb.pp("output_upscaling"))?,
            narrow: [
                pointwise(dim, dim / 8, &vb.pp("conv_s0"))?,
                pointwise(dim, dim / 4, &vb.pp("conv_s1"))?,
            ],
            hypernetworks,
            iou_head: Mlp::new(&[dim, hidden, hidden, MASKS], &exact.pp("iou_prediction_head"))?,
            dynamic: config.dynamic_multimask,
        })
    }

    /// Reduces the channels of the neck's two finest maps, to
    /// `(images, 4 · side, 4 · side, d_model/8)` and `(images, 2 · side, 2 · side, d_model/4)` (the
    /// reference's `high_res_feats`).
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn narrowed(&self, finest: &Tensor, half: &Tensor) -> Result<[Tensor; 2]> {
        Ok([self.narrow[0].forward(finest)?, self.narrow[1].forward(half)?])
    }

    /// Decodes prompts, `sparse (prompts, n, d_model)` if they have points, about images. `observe`
    /// receives tokens and image after each layer of the transformer.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn decode(
        &self,
        sparse: Option<&Tensor>,
        image: &ImageTokens<'_>,
        observe: impl FnMut(&TwoWayState),
    ) -> Result<DecodedPrompts> {
        let prompts = image.image_of.len();
        let (count, dim) = self.tokens.dims2()?;
        let learned = self.tokens.unsqueeze(0)?.broadcast_as((prompts, count, dim))?.dense()?;
        let tokens = match sparse {
            Some(sparse) => cat(&[&learned, sparse], 1)?,
            None => learned,
        };
        let TwoWayState { queries, keys } = self.transformer.forward(&tokens, image, observe)?;
        let iou = self.iou_head.forward(&queries.i((.., 1, ..))?.dense()?)?;
        Ok(DecodedPrompts {
            mask_tokens: queries.narrow(1, LEADING_TOKENS, MASKS)?.dense()?,
            image: keys,
            iou: iou.each(Function::Sigmoid)?,
        })
    }

    /// Draws some of the masks: logits `(prompts, masks, 4 · side, 4 · side)` in `f32`. `image_of`
    /// has the image of each prompt.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn masks(
        &self,
        decoded: &DecodedPrompts,
        fine: &FineFeatures,
        image_of: &[usize],
        masks: std::ops::Range<usize>,
    ) -> Result<Tensor> {
        let vector = |mask: usize| {
            let token = decoded.mask_tokens.i((.., mask, ..))?.dense()?;
            self.hypernetworks[mask].forward(&token)
        };
        forward(decoded.image.device(), || {
            let vectors = masks.map(vector).collect::<Result<Vec<_>>>()?;
            self.upscale.masks(&decoded.image, fine, image_of, &stack(&vectors, 1)?)
        })
    }

    /// The transposed convolutions.
    pub fn upscale(&self) -> &Upscale {
        &self.upscale
    }

    /// Chooses one of the four masks `(prompts, 4, h, w)` of each prompt: the first if it is
    /// stable, else that with the highest predicted intersection over union.
    ///
    /// Returns its index and the stability of the first mask, which is 1 without the dynamic rule.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn choose_one(&self, masks: &Tensor, iou: &Tensor) -> Result<Vec<(usize, f32)>> {
        let Some(DynamicMultimask { delta, threshold }) = self.dynamic else {
            return Ok(vec![(0, 1.0); masks.dim(0)?]);
        };
        let first = masks.i((.., 0, .., ..))?.flatten_from(1)?;
        let above = |limit: f32| -> Result<Vec<f32>> {
            to_cpu(&first.gt(limit)?.to_dtype(DType::F32)?.sum(D::Minus1)?)?.to_vec1()
        };
        let (sure, possible) = (above(delta)?, above(-delta)?);
        let iou: Vec<Vec<f32>> = to_cpu(iou)?.to_vec2()?;
        let choose = |((sure, possible), iou): ((f32, f32), Vec<f32>)| {
            let stability = if possible == 0.0 { 1.0 } else { sure / possible };
            if stability >= threshold {
                return (0, stability);
            }
            let mut best = 1;
            for mask in 2..MASKS {
                if iou[mask] > iou[best] {
                    best = mask;
                }
            }
            (best, stability)
        };
        Ok(sure.into_iter().zip(possible).zip(iou).map(choose).collect())
    }
}
