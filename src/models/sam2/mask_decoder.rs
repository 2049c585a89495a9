//! From prompts to masks (`sam2/modeling/sam/mask_decoder.py`).

use candle_core::{D, DType, IndexOp, Result, Tensor};
use candle_nn::VarBuilder;

use super::config::{Config, DynamicMultimask};
use super::load::{Mlp, pointwise, select_rows};
use super::two_way::{Exchange, ImageSide, TwoWayTransformer};
use super::upscale::{FineFeatures, Upscale};
use crate::models::device::forward;
use crate::models::layers::Linear;

/// Masks of a prompt: one for a prompt that is clear, and three for one that is not.
pub const MASKS: usize = 4;
/// Tokens before the masks': object score and intersection over union.
const LEADING: usize = 2;

/// The mask decoder.
#[derive(Debug, Clone)]
pub struct MaskDecoder {
    /// `(6, d_model)`: object score, intersection over union, four masks.
    tokens: Tensor,
    transformer: TwoWayTransformer,
    upscale: Upscale,
    /// Two pointwise convolutions that narrow the finest maps of the neck, once per image.
    narrow: [Linear; 2],
    hypernetworks: Vec<Mlp>,
    iou_head: Mlp,
    object_head: Mlp,
    dynamic: Option<DynamicMultimask>,
}

/// What is known of each prompt before its masks are drawn.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Tokens of the masks, `(prompts, 4, d_model)`.
    pub mask_tokens: Tensor,
    /// The image as each prompt has left it, `(prompts, side², d_model)`.
    pub image: Tensor,
    /// Predicted intersection over union of each mask, `(prompts, 4)` f32 in 0..=1.
    pub iou: Tensor,
    /// Token of the object score, `(prompts, d_model)`.
    object_token: Tensor,
}

impl Answers {
    /// The answers of some prompts, in this order.
    ///
    /// # Errors
    /// What candle says of the device.
    pub fn select(&self, prompts: &[usize]) -> Result<Self> {
        Ok(Self {
            mask_tokens: select_rows(&self.mask_tokens, prompts)?,
            image: select_rows(&self.image, prompts)?,
            iou: select_rows(&self.iou, prompts)?,
            object_token: select_rows(&self.object_token, prompts)?,
        })
    }
}

impl MaskDecoder {
    /// Opens the weights below `sam_mask_decoder`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let dim = config.d_model;
        let token = |count: usize, name: &str| vb.get((count, dim), &format!("{name}.weight"));
        let tokens =
            [token(1, "obj_score_token")?, token(1, "iou_token")?, token(MASKS, "mask_tokens")?];
        let hypernetworks = vb.pp("output_hypernetworks_mlps");
        let hypernetworks = (0..MASKS)
            .map(|index| Mlp::new(&[dim, dim, dim, dim / 8], &hypernetworks.pp(index)))
            .collect::<Result<_>>()?;
        let hidden = config.iou_hidden;
        Ok(Self {
            tokens: Tensor::cat(&tokens, 0)?,
            transformer: TwoWayTransformer::new(config, &vb.pp("transformer"))?,
            upscale: Upscale::new(config, &vb.pp("output_upscaling"))?,
            narrow: [
                pointwise(dim, dim / 8, &vb.pp("conv_s0"))?,
                pointwise(dim, dim / 4, &vb.pp("conv_s1"))?,
            ],
            hypernetworks,
            iou_head: Mlp::new(&[dim, hidden, hidden, MASKS], &vb.pp("iou_prediction_head"))?,
            object_head: Mlp::new(&[dim, dim, dim, 1], &vb.pp("pred_obj_score_head"))?,
            dynamic: config.dynamic_multimask,
        })
    }

    /// The two finest maps of the neck, narrowed: `(images, 4 · side, 4 · side, d_model/8)` and
    /// `(images, 2 · side, 2 · side, d_model/4)` (the reference's `high_res_feats`).
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn narrowed(&self, finest: &Tensor, half: &Tensor) -> Result<[Tensor; 2]> {
        Ok([self.narrow[0].forward(finest)?, self.narrow[1].forward(half)?])
    }

    /// Answers prompts, `sparse (prompts, n, d_model)`, about an image. `observe` sees tokens and image
    /// after each layer of the transformer.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn answer(
        &self,
        sparse: &Tensor,
        image: &ImageSide<'_>,
        observe: impl FnMut(&Exchange),
    ) -> Result<Answers> {
        let prompts = image.image_of.len();
        let (count, dim) = self.tokens.dims2()?;
        let own = self.tokens.unsqueeze(0)?.broadcast_as((prompts, count, dim))?;
        let tokens = if sparse.dim(1)? == 0 {
            own.contiguous()?
        } else {
            Tensor::cat(&[&own.contiguous()?, sparse], 1)?
        };
        let Exchange { queries, keys } = self.transformer.forward(&tokens, image, observe)?;
        let iou = self.iou_head.forward(&queries.i((.., 1, ..))?.contiguous()?)?;
        Ok(Answers {
            mask_tokens: queries.narrow(1, LEADING, MASKS)?.contiguous()?,
            image: keys,
            iou: candle_nn::ops::sigmoid(&iou.to_dtype(DType::F32)?)?,
            object_token: queries.i((.., 0, ..))?.contiguous()?,
        })
    }

    /// How surely there is an object at all, a logit `(prompts, 1)`. Nothing here depends on it.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn object_score(&self, answers: &Answers) -> Result<Tensor> {
        self.object_head.forward(&answers.object_token)
    }

    /// Logits of some of the masks, `(prompts, masks, 4 · side, 4 · side)` in `f32`.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn masks(
        &self,
        answers: &Answers,
        fine: (&FineFeatures, &[usize]),
        masks: std::ops::Range<usize>,
    ) -> Result<Tensor> {
        let vector = |mask: usize| {
            let token = answers.mask_tokens.i((.., mask, ..))?.contiguous()?;
            self.hypernetworks[mask].forward(&token)
        };
        forward(answers.image.device(), || {
            let vectors = masks.map(vector).collect::<Result<Vec<_>>>()?;
            self.upscale.masks(&answers.image, fine, &Tensor::stack(&vectors, 1)?)
        })
    }

    /// The transposed convolutions.
    pub fn upscale(&self) -> &Upscale {
        &self.upscale
    }

    /// Which of its four masks a prompt gets that asks for one, by index: the first if it is stable,
    /// else the one of the others with the highest predicted intersection over union.
    ///
    /// `masks (prompts, 4, h, w)`. Gives the choice and the stability of the first mask, which is 1
    /// without the dynamic rule.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn choose_one(&self, masks: &Tensor, iou: &Tensor) -> Result<Vec<(usize, f32)>> {
        let Some(DynamicMultimask { delta, threshold }) = self.dynamic else {
            return Ok(vec![(0, 1.0); masks.dim(0)?]);
        };
        let first = masks.i((.., 0, .., ..))?.flatten_from(1)?;
        let above = |limit: f32| -> Result<Vec<f32>> {
            first.gt(limit)?.to_dtype(DType::F32)?.sum(D::Minus1)?.to_vec1()
        };
        let (sure, possible) = (above(delta)?, above(-delta)?);
        let iou: Vec<Vec<f32>> = iou.to_vec2()?;
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
