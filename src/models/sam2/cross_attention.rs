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
use crate::models::layers::{LayerNorm, Linear, matmul, softmax_attention};
use crate::models::sam2::load::{linear, select_rows};

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
        let by_head = tokens.reshape((prompts * count, self.heads, head_dim))?.transpose(0, 1)?;
        let weights = weight.reshape((self.heads, head_dim, width))?;
        let rows = matmul(&by_head.contiguous()?, &weights)?;
        rows.transpose(0, 1)?.reshape((prompts, count * self.heads, width))
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
                .reshape((images, area, heads, head_dim))?
                .transpose(1, 2)?
                .contiguous()?
                .reshape((images * heads, area, head_dim))
        };
        let positioned = image.tokens.broadcast_add(image.position)?;
        let keys = by_head(projections.key.forward(&positioned)?)?;
        let values = by_head(projections.value.forward(image.tokens)?)?;
        let queries = (projections.query.forward(tokens)? * projections.scale()?)?;
        let mut attended = Vec::new();
        let mut first = 0;
        for run in image.image_of.chunk_by(|a, b| a == b) {
            let prompts = run.len();
            let queries_by_head = queries
                .narrow(0, first, prompts)?
                .reshape((prompts * count, heads, head_dim))?
                .transpose(0, 1)?
                .contiguous()?;
            // A head of an image counts as an image.
            let image_of: Vec<usize> = (run[0] * heads..(run[0] + 1) * heads).collect();
            let attention = ImageKeyValues {
                keys: &keys,
                position: None,
                values: &values,
                image_of: &image_of,
            };
            let rows = attend(&queries_by_head, &attention)?.transpose(0, 1)?;
            attended.push(rows.reshape((prompts, count, heads * head_dim))?);
            first += prompts;
        }
        projections.out.forward(&Tensor::cat(&attended, 0)?)
    }

    /// Leaves the images as they are, and applies the projections to the tokens.
    fn forward_absorbed(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        let projections = &self.0;
        let (prompts, count, width) = tokens.dims3()?;
        let queries = (projections.query.forward(tokens)? * projections.scale()?)?;
        let rows = projections.multiply_by_head(&queries, projections.key.weight())?;
        let ImageTokens { tokens: keys, position, image_of } = *image;
        let attention = ImageKeyValues { keys, position: Some(position), values: keys, image_of };
        let attended = attend(&rows, &attention)?;
        // After the weighted sum, each head applies its own value projection.
        let (heads, head_dim) = (projections.heads, projections.head_dim()?);
        let by_head = attended.reshape((prompts * count, heads, width))?.transpose(0, 1)?;
        let weights = projections.value.weight().reshape((heads, head_dim, width))?;
        let values = matmul(&by_head.contiguous()?, &weights.transpose(1, 2)?.contiguous()?)?
            .transpose(0, 1)?
            .reshape((prompts, count, heads * head_dim))?;
        projections.out.forward(&values.broadcast_add(projections.value.bias())?)
    }
}

/// The attention of the image to the tokens, with residual and norm.
#[derive(Debug, Clone)]
pub(crate) struct ImageToToken {
    projections: Projections,
    norm: LayerNorm,
}

impl ImageToToken {
    pub(crate) fn new(shape: AttentionShape, norm: LayerNorm, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { projections: Projections::new(shape, vb)?, norm })
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
        let scaled_keys = (projections.key.forward(keys)? * projections.scale()?)?;
        let query_bias = projections.query.bias().unsqueeze(1)?;
        let out = projections.out.weight().t()?.contiguous()?;
        let values = projections.value.forward(values)?;
        let update = ImageUpdate {
            keys: projections.multiply_by_head(&scaled_keys, projections.query.weight())?,
            offsets: projections.multiply_by_head(&scaled_keys, &query_bias)?.squeeze(2)?,
            values: projections.multiply_by_head(&values, &out)?,
            bias: projections.out.bias(),
            heads: projections.heads,
        };
        update_image(image, &update, &self.norm)
    }
}

/// `softmax(queries · (keys + position)ᵀ) · values` for queries `(prompts, rows, width)`. The
/// softmax is computed in `f32`.
fn attend(queries: &Tensor, image: &ImageKeyValues<'_>) -> Result<Tensor> {
    if kernel::supports_attention(queries, image) {
        return kernel::attend(queries, image);
    }
    let mut keys = select_images(image.keys, image.image_of)?;
    if let Some(position) = image.position {
        keys = keys.broadcast_add(position)?;
    }
    let scores = matmul(queries, &keys.transpose(1, 2)?)?.to_dtype(DType::F32)?;
    let probabilities = candle_nn::ops::softmax_last_dim(&scores)?;
    let values = select_images(image.values, image.image_of)?;
    matmul(&probabilities.to_dtype(values.dtype())?, &values)
}

/// `(images, …)` to `(prompts, …)`: the image of each prompt.
fn select_images(features: &Tensor, image_of: &[usize]) -> Result<Tensor> {
    if image_of.iter().copied().eq(0..features.dim(0)?) {
        return Ok(features.clone());
    }
    select_rows(features, image_of)
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
    let tokens = select_images(image.tokens, image.image_of)?;
    let queries = tokens.broadcast_add(image.position)?;
    let products = matmul(&queries, &update.keys.transpose(1, 2)?.contiguous()?)?;
    let scores = products.broadcast_add(&update.offsets.unsqueeze(1)?)?.to_dtype(DType::F32)?;
    let (prompts, count, rows) = scores.dims3()?;
    let by_token = scores.reshape((prompts, count, rows / update.heads, update.heads))?;
    let probabilities = candle_nn::ops::softmax(&by_token, 2)?.reshape((prompts, count, rows))?;
    let attended = matmul(&probabilities.to_dtype(tokens.dtype())?, &update.values)?;
    norm.forward(&(tokens + attended.broadcast_add(update.bias)?)?)
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
            xs.reshape((prompts, count, heads, width / heads))?.transpose(1, 2)?.contiguous()
        };
        let attended = softmax_attention(
            &by_head(projections.query.forward(positioned)?)?,
            &by_head(projections.key.forward(positioned)?)?,
            &by_head(projections.value.forward(tokens)?)?,
        )?;
        projections.out.forward(&attended.transpose(1, 2)?.reshape((prompts, count, width))?)
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
        let image = ImageTokens { tokens: &image, position: &position, image_of: &image_of };
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
            let image = ImageTokens { tokens: &tokens, position: &position, image_of: &image_of };
            let values = random(&[images, count, width]);
            let (exact_tokens, exact_position) = (plain(&tokens), plain(&position));
            let exact = ImageTokens {
                tokens: &exact_tokens,
                position: &exact_position,
                image_of: &image_of,
            };
            let queries = (random(&[prompts, rows, width]) * 0.5).unwrap();
            for has_position in [true, false] {
                let attention = ImageKeyValues {
                    keys: &tokens,
                    position: has_position.then_some(&position),
                    values: &values,
                    image_of: &image_of,
                };
                assert!(kernel::supports_attention(&queries, &attention));
                let ours = attend(&queries, &attention).unwrap();
                let exact_attention = ImageKeyValues {
                    keys: &exact_tokens,
                    position: has_position.then_some(&exact_position),
                    values: &plain(&values),
                    image_of: &image_of,
                };
                let expected = attend(&plain(&queries), &exact_attention).unwrap();
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
            let expected = update_image(&exact, &update, &norm).unwrap();
            assert_close(&ours, &expected.to_dtype(DType::F32).unwrap());
        }
    }
}
