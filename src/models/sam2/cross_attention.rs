//! Attention between a few prompt tokens and the many tokens of an image.
//!
//! Prompts that share an image, as in the first layer, share one projection of it. Once each prompt
//! has its own image, the image is not projected at all. Each head's key projection is applied to
//! the queries instead, `q·(W x)ᵀ = (q W)·xᵀ`. Its value projection is applied after the weighted
//! sum. The opposite direction works in the same way. Eight heads of a few tokens are some sixty
//! rows of the image's width, half the arithmetic of projecting 4,096 tokens. The keys' bias adds
//! one constant to all scores of a row, so that the softmax cancels it.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::kernels::cross_attention as kernel;
use crate::models::kernels::cross_attention::{ImageKeyValues, ImageTokens, ImageUpdate};
use crate::models::layers::{LayerNorm, Linear, softmax_attention};
use crate::models::ops::{TensorOps, cat, matmul, softmax_last_dim};
use crate::models::sam2::load::{linear, select_images};

/// The shape of an attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    pub(crate) heads: usize,
    /// Channels of the tokens.
    pub(crate) width: usize,
    /// Channels of all heads together.
    pub(crate) inner_width: usize,
}

/// The projections of an attention.
#[derive(Debug, Clone)]
struct Projections {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl Projections {
    fn new(shape: AttentionShape, vb: &VarBuilder<'_>) -> Result<Self> {
        let AttentionShape { heads, width, inner_width } = shape;
        Ok(Self {
            heads,
            query: linear(width, inner_width, &vb.pp("q_proj"))?,
            key: linear(width, inner_width, &vb.pp("k_proj"))?,
            value: linear(width, inner_width, &vb.pp("v_proj"))?,
            out: linear(inner_width, width, &vb.pp("out_proj"))?,
        })
    }

    fn head_dim(&self) -> Result<usize> {
        Ok(self.query.bias().dim(0)? / self.heads)
    }

    fn scale(&self) -> Result<f64> {
        Ok((self.head_dim()? as f64).powf(-0.5))
    }

    /// Multiplies `(prompts, n, heads · head_dim)` with `weight (heads · head_dim, width)` head by
    /// head. Returns `(prompts, n · heads, width)`, all heads of a token in consecutive rows.
    fn multiply_by_head(&self, tokens: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (prompts, count, _) = tokens.dims3()?;
        let (head_dim, width) = (self.head_dim()?, weight.dim(1)?);
        let by_head = tokens.reshaped((prompts * count, self.heads, head_dim))?.transpose(0, 1)?;
        let weights = weight.reshaped((self.heads, head_dim, width))?;
        let rows = matmul(&by_head.dense()?, &weights)?;
        rows.transpose(0, 1)?.reshaped((prompts, count * self.heads, width))
    }
}

/// The attention of tokens to the image.
#[derive(Debug, Clone)]
pub(crate) struct TokenToImage(Projections);

impl TokenToImage {
    pub(crate) fn new(shape: AttentionShape, vb: &VarBuilder<'_>) -> Result<Self> {
        Projections::new(shape, vb).map(Self)
    }

    /// Tokens `(prompts, n, width)`, with their position, to the same shape.
    pub(crate) fn forward(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        if image.tokens.dim(0)? < image.image_of.len() {
            self.forward_shared(tokens, image)
        } else {
            self.forward_absorbed(tokens, image)
        }
    }

    /// Projects each image once, and multiplies it with the queries of all its prompts at once.
    fn forward_shared(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        let projections = &self.0;
        let (_, count, _) = tokens.dims3()?;
        let (images, area, _) = image.tokens.dims3()?;
        let (heads, head_dim) = (projections.heads, projections.head_dim()?);
        let by_head = |projected: Tensor| {
            projected
                .reshaped((images, area, heads, head_dim))?
                .transpose(1, 2)?
                .dense()?
                .reshaped((images * heads, area, head_dim))
        };
        let keys = by_head(projections.key.forward(positioned(image)?)?)?;
        let values = by_head(projections.value.forward(image.tokens)?)?;
        let queries = projections.query.forward(tokens)?.affine_of(projections.scale()?, 0.0)?;
        let mut attended = Vec::new();
        let mut first = 0;
        for run in image.image_of.chunk_by(|a, b| a == b) {
            let prompts = run.len();
            let queries_by_head = queries
                .narrow(0, first, prompts)?
                .reshaped((prompts * count, heads, head_dim))?
                .transpose(0, 1)?
                .dense()?;
            // A head of an image counts as an image.
            let image_of: Vec<usize> = (run[0] * heads..(run[0] + 1) * heads).collect();
            let attention = ImageKeyValues {
                keys: &keys,
                position: None,
                values: &values,
                image_of: &image_of,
            };
            let rows = if kernel::supports_attention(&queries_by_head, &attention) {
                kernel::attend(&queries_by_head, &attention)?
            } else {
                attend(&queries_by_head, &keys, &values, &image_of)?
            };
            let rows = rows.transpose(0, 1)?;
            attended.push(rows.reshaped((prompts, count, heads * head_dim))?);
            first += prompts;
        }
        projections.out.forward(&cat(&attended.iter().collect::<Vec<_>>(), 0)?)
    }

    /// Leaves the images as they are, and applies the projections to the tokens.
    fn forward_absorbed(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        let projections = &self.0;
        let (prompts, count, width) = tokens.dims3()?;
        let queries = projections.query.forward(tokens)?.affine_of(projections.scale()?, 0.0)?;
        let rows = projections.multiply_by_head(&queries, projections.key.weight())?;
        let &ImageTokens { tokens: keys, position, image_of, .. } = image;
        let attention = ImageKeyValues { keys, position: Some(position), values: keys, image_of };
        let attended = if kernel::supports_attention(&rows, &attention) {
            kernel::attend(&rows, &attention)?
        } else {
            attend(&rows, positioned(image)?, keys, image_of)?
        };
        // After the weighted sum, each head applies its own value projection.
        let (heads, head_dim) = (projections.heads, projections.head_dim()?);
        let by_head = attended.reshaped((prompts * count, heads, width))?.transpose(0, 1)?;
        let weights = projections.value.weight().reshaped((heads, head_dim, width))?;
        let values = matmul(&by_head.dense()?, &weights.transpose(1, 2)?)?
            .transpose(0, 1)?
            .reshaped((prompts, count, heads * head_dim))?;
        projections.out.forward(&values.plus_repeated(projections.value.bias())?)
    }
}

/// The attention of the image to the tokens, with residual and norm.
#[derive(Debug, Clone)]
pub(crate) struct ImageToToken {
    projections: Projections,
    /// The transposed weight of the output projection, `(heads · head_dim, width)`.
    out: Tensor,
    norm: LayerNorm,
}

impl ImageToToken {
    pub(crate) fn new(shape: AttentionShape, norm: LayerNorm, vb: &VarBuilder<'_>) -> Result<Self> {
        let projections = Projections::new(shape, vb)?;
        let out = projections.out.weight().t()?.dense()?;
        Ok(Self { projections, out, norm })
    }

    /// `norm(image + attention(image, keys, values))` as `(prompts, tokens, width)`, for keys and
    /// values `(prompts, n, width)`. The keys include their position.
    pub(crate) fn forward(
        &self,
        image: &ImageTokens<'_>,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let projections = &self.projections;
        let scaled_keys = projections.key.forward(keys)?.affine_of(projections.scale()?, 0.0)?;
        let query_bias = projections.query.bias().unsqueeze(1)?;
        let values = projections.value.forward(values)?;
        let update = ImageUpdate {
            keys: projections.multiply_by_head(&scaled_keys, projections.query.weight())?,
            offsets: projections.multiply_by_head(&scaled_keys, &query_bias)?.squeeze(2)?,
            values: projections.multiply_by_head(&values, &self.out)?,
            bias: projections.out.bias(),
            heads: projections.heads,
        };
        update_image(image, &update, &self.norm)
    }
}

/// Returns the image's tokens plus their position, computed once for both directions of a layer.
fn positioned<'a>(image: &'a ImageTokens<'_>) -> Result<&'a Tensor> {
    if let Some(positioned) = image.positioned.get() {
        return Ok(positioned);
    }
    let sum = image.tokens.plus_repeated(image.position)?;
    Ok(image.positioned.get_or_init(|| sum))
}

/// `softmax(queries · keysᵀ) · values` for queries `(prompts, rows, width)` and for keys and values
/// `(images, tokens, width)`. The softmax is computed in `f32`.
fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor, image_of: &[usize]) -> Result<Tensor> {
    let keys = select_images(keys, image_of)?;
    let scores = matmul(queries, &keys.transpose(1, 2)?)?.cast(DType::F32)?;
    let values = select_images(values, image_of)?;
    matmul(&softmax_last_dim(&scores)?.cast(values.dtype())?, &values)
}

/// `norm(tokens + softmax((tokens + position) · keysᵀ + offsets) · values + bias)` as
/// `(prompts, tokens, width)`. The softmax is computed in `f32`.
fn update_image(
    image: &ImageTokens<'_>,
    update: &ImageUpdate<'_>,
    norm: &LayerNorm,
) -> Result<Tensor> {
    if kernel::supports_update(image, update) {
        return kernel::update_image(image, update, norm.parts());
    }
    norm.forward(&updated(image, update)?)
}

/// The plain form of [`update_image`], before the norm.
fn updated(image: &ImageTokens<'_>, update: &ImageUpdate<'_>) -> Result<Tensor> {
    let (prompts, rows, width) = update.keys.dims3()?;
    let (heads, count) = (update.heads, image.tokens.dim(1)?);
    // All tokens of a head in consecutive rows, so that the softmax is over the last dimension.
    let by_head = |rows: &Tensor| {
        let width = rows.elem_count() / (prompts * update.offsets.dim(1)?);
        rows.reshaped((prompts, update.offsets.dim(1)? / heads, heads, width))?.transpose(1, 2)
    };
    let keys = by_head(&update.keys)?.reshaped((prompts, rows, width))?;
    let offsets = by_head(&update.offsets)?.reshaped((prompts, 1, rows))?;
    // The weights of a head have the sum 1, so each head adds its part of the bias.
    let share = update.bias.affine_of((heads as f64).recip(), 0.0)?;
    let values =
        by_head(&update.values)?.reshaped((prompts, rows, width))?.plus_repeated(&share)?;
    let queries = select_images(positioned(image)?, image.image_of)?;
    let scores = matmul(&queries, &keys.transpose(1, 2)?)?.cast(DType::F32)?;
    let scores = scores.plus_repeated(&offsets.cast(DType::F32)?)?;
    let by_token = scores.reshaped((prompts, count, heads, rows / heads))?;
    let weights = softmax_last_dim(&by_token)?.reshaped((prompts, count, rows))?;
    let attended = matmul(&weights.cast(values.dtype())?, &values)?;
    let tokens = select_images(image.tokens, image.image_of)?;
    attended.plus_repeated(&tokens)
}

/// Self-attention among a few tokens.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention(Projections);

impl SelfAttention {
    pub(crate) fn new(shape: AttentionShape, vb: &VarBuilder<'_>) -> Result<Self> {
        Projections::new(shape, vb).map(Self)
    }

    /// Queries and keys are projected from `positioned (prompts, n, width)`, values from `tokens`
    /// of the same shape.
    pub(crate) fn forward(&self, positioned: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let projections = &self.0;
        let (prompts, count, width) = tokens.dims3()?;
        let heads = projections.heads;
        let by_head = |xs: Tensor| {
            xs.reshaped((prompts, count, heads, width / heads))?.transpose(1, 2)?.dense()
        };
        let attended = softmax_attention(
            &by_head(projections.query.forward(positioned)?)?,
            &by_head(projections.key.forward(positioned)?)?,
            &by_head(projections.value.forward(tokens)?)?,
        )?;
        projections.out.forward(&attended.transpose(1, 2)?.reshaped((prompts, count, width))?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::models::kernels::testing;

    fn assert_close(ours: &Tensor, expected: &Tensor) {
        testing::assert_close(ours, expected, 1e-4).unwrap();
    }

    fn random(shape: &[usize]) -> Tensor {
        testing::random(0.0, 1.0, shape).unwrap()
    }

    /// In `f64`, where only the plain forms run.
    fn plain(tensor: &Tensor) -> Tensor {
        tensor.to_dtype(DType::F64).unwrap()
    }

    /// Both are the same sums in another order.
    #[test]
    fn shared_and_absorbed_projections_agree() {
        let tensors = ["q_proj", "k_proj", "v_proj", "out_proj"].into_iter().flat_map(|name| {
            let (out, width) = if name == "out_proj" { (256, 128) } else { (128, 256) };
            let weight = (random(&[out, width]) * 0.06).unwrap();
            [(format!("{name}.weight"), weight), (format!("{name}.bias"), random(&[out]))]
        });
        let vb = VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu);
        let attention =
            TokenToImage::new(AttentionShape { heads: 8, width: 256, inner_width: 128 }, &vb)
                .unwrap();
        let (image, position) = (random(&[2, 144, 256]), random(&[144, 256]));
        let image_of = [0, 0, 1, 1, 1];
        let image = ImageTokens::new(&image, &position, &image_of);
        let tokens = random(&[5, 8, 256]);
        let shared = attention.forward_shared(&tokens, &image).unwrap();
        assert_close(&shared, &attention.forward_absorbed(&tokens, &image).unwrap());
    }

    #[test]
    fn the_kernels_equal_the_plain_forms() {
        // Images, image of each prompt, tokens of an image, rows, width.
        for (images, image_of, count, rows, width) in [
            (1, vec![0], 64, 64, 32),
            (2, vec![1, 0, 1], 100, 88, 64),
            (3, vec![0, 1, 2], 256, 48, 256),
        ] {
            let prompts = image_of.len();
            let (tokens, position) = (random(&[images, count, width]), random(&[count, width]));
            let image = ImageTokens::new(&tokens, &position, &image_of);
            let values = random(&[images, count, width]);
            let (exact_tokens, exact_position) = (plain(&tokens), plain(&position));
            let exact = ImageTokens::new(&exact_tokens, &exact_position, &image_of);
            let queries = (random(&[prompts, rows, width]) * 0.5).unwrap();
            for has_position in [true, false] {
                let attention = ImageKeyValues {
                    keys: &tokens,
                    position: has_position.then_some(&position),
                    values: &values,
                    image_of: &image_of,
                };
                assert!(kernel::supports_attention(&queries, &attention));
                let ours = kernel::attend(&queries, &attention).unwrap();
                let keys = if has_position { positioned(&exact).unwrap() } else { &exact_tokens };
                let expected = attend(&plain(&queries), keys, &plain(&values), &image_of).unwrap();
                assert_close(&ours, &expected.to_dtype(DType::F32).unwrap());
            }

            let bias = random(&[width]);
            let norm = LayerNorm::new(random(&[width]), random(&[width]), 1e-5);
            let update = ImageUpdate {
                keys: queries,
                offsets: random(&[prompts, rows]),
                values: random(&[prompts, rows, width]),
                bias: &bias,
                heads: 8,
            };
            assert!(kernel::supports_update(&image, &update));
            let ours = update_image(&image, &update, &norm).unwrap();
            let bias = plain(&bias);
            let update = ImageUpdate {
                keys: plain(&update.keys),
                offsets: plain(&update.offsets),
                values: plain(&update.values),
                bias: &bias,
                ..update
            };
            let expected = updated(&exact, &update).unwrap().to_dtype(DType::F32).unwrap();
            assert_close(&ours, &norm.forward(&expected).unwrap());
        }
    }
}
