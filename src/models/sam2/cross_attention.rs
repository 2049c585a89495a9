//! Attention between a few tokens and the many of an image.
//!
//! Where prompts share an image, in the first layer, it is projected once for all of them. Where each
//! has an image of its own it is not projected at all: each head's key projection is moved over to the
//! tokens' side, `q·(W x)ᵀ = (q W)·xᵀ`, its value projection behind the weighted sum, and likewise the
//! other way round. Eight heads of a few tokens are some sixty rows of the image's own width, half the
//! arithmetic of projecting 4,096 tokens. A key's bias adds the same to all scores of a row, so that
//! the softmax does not see it.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::cross_attention_cpu as cpu;
use super::load::{linear, select_rows};
use crate::models::layers::{LayerNorm, Linear, matmul};

/// The image's side of both attentions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageTokens<'a> {
    /// `(images, tokens, channels)`.
    pub(super) tokens: &'a Tensor,
    /// `(tokens, channels)`, added where tokens are keys or queries, not where they are values.
    pub(super) position: &'a Tensor,
    /// For each prompt the image that it is about.
    pub(super) image_of: &'a [usize],
}

/// Heads and projections of the tokens' side: what both directions share.
#[derive(Debug, Clone)]
struct Heads {
    count: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl Heads {
    /// An attention of `dim` channels inside, of `width` outside.
    fn new(count: usize, width: usize, dim: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            count,
            query: linear(width, dim, &vb.pp("q_proj"))?,
            key: linear(width, dim, &vb.pp("k_proj"))?,
            value: linear(width, dim, &vb.pp("v_proj"))?,
            out: linear(dim, width, &vb.pp("out_proj"))?,
        })
    }

    fn head_dim(&self) -> Result<usize> {
        Ok(self.query.bias().dim(0)? / self.count)
    }

    fn scale(&self) -> Result<f64> {
        Ok((self.head_dim()? as f64).powf(-0.5))
    }

    /// `(prompts, n, heads · head_dim)` times `weight (heads · head_dim, width)` head by head:
    /// `(prompts, n · heads, width)`, a token's heads one after the other.
    fn absorbed(&self, tokens: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (prompts, count, _) = tokens.dims3()?;
        let (head_dim, width) = (self.head_dim()?, weight.dim(1)?);
        let tokens = tokens.reshape((prompts * count, self.count, head_dim))?;
        let weight = weight.reshape((self.count, head_dim, width))?;
        let rows = matmul(&tokens.transpose(0, 1)?.contiguous()?, &weight)?;
        rows.transpose(0, 1)?.reshape((prompts, count * self.count, width))
    }
}

/// Tokens look at the image.
#[derive(Debug, Clone)]
pub(super) struct TokenToImage(Heads);

impl TokenToImage {
    pub(super) fn new(count: usize, width: usize, dim: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Heads::new(count, width, dim, vb).map(Self)
    }

    /// `(prompts, n, width)`, with their position, to what they find: the same shape.
    pub(super) fn forward(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        if image.tokens.dim(0)? < image.image_of.len() {
            self.forward_shared(tokens, image)
        } else {
            self.forward_absorbed(tokens, image)
        }
    }

    /// Where prompts share an image, it is projected once, and their queries of one head stand together.
    fn forward_shared(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        let heads = &self.0;
        let (_, count, _) = tokens.dims3()?;
        let (images, area, _) = image.tokens.dims3()?;
        let (heads_count, head_dim) = (heads.count, heads.head_dim()?);
        let by_head = |projected: Tensor| {
            projected
                .reshape((images, area, heads_count, head_dim))?
                .transpose(1, 2)?
                .contiguous()?
                .reshape((images * heads_count, area, head_dim))
        };
        let places = image.tokens.broadcast_add(image.position)?;
        let keys = by_head(heads.key.forward(&places)?)?;
        let values = by_head(heads.value.forward(image.tokens)?)?;
        let queries = (heads.query.forward(tokens)? * heads.scale()?)?;
        let mut found = Vec::new();
        let mut first = 0;
        for run in image.image_of.chunk_by(|a, b| a == b) {
            let prompts = run.len();
            let queries = queries
                .narrow(0, first, prompts)?
                .reshape((prompts * count, heads_count, head_dim))?
                .transpose(0, 1)?
                .contiguous()?;
            let image_of: Vec<usize> = (run[0] * heads_count..(run[0] + 1) * heads_count).collect();
            let sight = Sight { keys: &keys, position: None, values: &values, image_of: &image_of };
            let rows = gathered(&queries, &sight)?.transpose(0, 1)?;
            found.push(rows.reshape((prompts, count, heads_count * head_dim))?);
            first += prompts;
        }
        heads.out.forward(&Tensor::cat(&found, 0)?)
    }

    fn forward_absorbed(&self, tokens: &Tensor, image: &ImageTokens<'_>) -> Result<Tensor> {
        let heads = &self.0;
        let (prompts, count, width) = tokens.dims3()?;
        let queries = (heads.query.forward(tokens)? * heads.scale()?)?;
        let rows = heads.absorbed(&queries, heads.key.weight())?;
        let ImageTokens { tokens, position, image_of } = *image;
        let sight = Sight { keys: tokens, position: Some(position), values: tokens, image_of };
        let found = gathered(&rows, &sight)?;
        // Behind the weighted sum each head has a value projection of its own.
        let found = found.reshape((prompts * count, heads.count, width))?;
        let found = found.transpose(0, 1)?.contiguous()?;
        let weight = heads.value.weight().reshape((heads.count, heads.head_dim()?, width))?;
        let values = matmul(&found, &weight.transpose(1, 2)?.contiguous()?)?.transpose(0, 1)?;
        let values = values.reshape((prompts, count, heads.count * heads.head_dim()?))?;
        heads.out.forward(&values.broadcast_add(heads.value.bias())?)
    }
}

/// The image looks at the tokens, and takes in what it finds.
#[derive(Debug, Clone)]
pub(super) struct ImageToToken {
    heads: Heads,
    norm: LayerNorm,
}

impl ImageToToken {
    pub(super) fn new(
        (count, width, dim): (usize, usize, usize),
        norm: LayerNorm,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self { heads: Heads::new(count, width, dim, vb)?, norm })
    }

    /// `norm(image + attention(image, keys, values))`: keys and values `(prompts, n, width)`, the keys
    /// with their position. Gives `(prompts, tokens, width)`.
    pub(super) fn forward(
        &self,
        image: &ImageTokens<'_>,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let heads = &self.heads;
        let keys = (heads.key.forward(keys)? * heads.scale()?)?;
        let out = heads.out.weight().t()?.contiguous()?;
        let update = Update {
            keys: heads.absorbed(&keys, heads.query.weight())?,
            offsets: {
                let width = heads.query.bias().dim(0)?;
                let bias = heads.query.bias().reshape((width, 1))?;
                heads.absorbed(&keys, &bias)?.squeeze(2)?
            },
            values: heads.absorbed(&heads.value.forward(values)?, &out)?,
            bias: heads.out.bias(),
            heads: heads.count,
            norm: &self.norm,
        };
        updated(image, &update)
    }
}

/// What rows of queries look at.
pub(super) struct Sight<'a> {
    /// `(images, tokens, width)`.
    pub(super) keys: &'a Tensor,
    /// `(tokens, width)`, added to the keys.
    pub(super) position: Option<&'a Tensor>,
    /// `(images, tokens, width)`.
    pub(super) values: &'a Tensor,
    /// For each row of queries the image that it looks at.
    pub(super) image_of: &'a [usize],
}

/// `softmax(queries · (keys + position)ᵀ) · values` with queries `(prompts, rows, width)`; the softmax
/// in `f32`.
fn gathered(queries: &Tensor, sight: &Sight<'_>) -> Result<Tensor> {
    if cpu::takes_sight(queries, sight) {
        return cpu::gathered(queries, sight);
    }
    let mut keys = of_images(sight.keys, sight.image_of)?;
    if let Some(position) = sight.position {
        keys = keys.broadcast_add(position)?;
    }
    let scores = matmul(queries, &keys.transpose(1, 2)?)?.to_dtype(DType::F32)?;
    let shares = candle_nn::ops::softmax_last_dim(&scores)?;
    let values = of_images(sight.values, sight.image_of)?;
    matmul(&shares.to_dtype(values.dtype())?, &values)
}

/// `(prompts, …)` of `(images, …)`.
fn of_images(features: &Tensor, image_of: &[usize]) -> Result<Tensor> {
    if image_of.iter().copied().eq(0..features.dim(0)?) {
        return Ok(features.clone());
    }
    select_rows(features, image_of)
}

/// The tokens' side of an update of the image; rows are a token's heads one after the other.
pub(super) struct Update<'a> {
    /// `(prompts, rows, width)`.
    pub(super) keys: Tensor,
    /// `(prompts, rows)`, added to the scores.
    pub(super) offsets: Tensor,
    /// `(prompts, rows, width)`.
    pub(super) values: Tensor,
    /// `(width)`, added to what was found.
    pub(super) bias: &'a Tensor,
    /// How many heads a token has; the softmax is over the tokens, for each head.
    pub(super) heads: usize,
    pub(super) norm: &'a LayerNorm,
}

fn updated(image: &ImageTokens<'_>, update: &Update<'_>) -> Result<Tensor> {
    if cpu::takes(&update.keys, image) && update.heads == cpu::HEADS {
        return cpu::updated(image, update);
    }
    let tokens = of_images(image.tokens, image.image_of)?;
    let queries = tokens.broadcast_add(image.position)?;
    let scores = matmul(&queries, &update.keys.transpose(1, 2)?.contiguous()?)?;
    let scores = scores.broadcast_add(&update.offsets.unsqueeze(1)?)?.to_dtype(DType::F32)?;
    let (prompts, count, rows) = scores.dims3()?;
    let by_token = scores.reshape((prompts, count, rows / update.heads, update.heads))?;
    let shares = candle_nn::ops::softmax(&by_token, 2)?.reshape((prompts, count, rows))?;
    let found = matmul(&shares.to_dtype(tokens.dtype())?, &update.values)?;
    update.norm.forward(&(tokens + found.broadcast_add(update.bias)?)?)
}

/// Self-attention among a few tokens.
#[derive(Debug, Clone)]
pub(super) struct SelfAttention(Heads);

impl SelfAttention {
    pub(super) fn new(count: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Heads::new(count, width, width, vb).map(Self)
    }

    /// Queries and keys `(prompts, n, width)` from `places`, values from `tokens`.
    pub(super) fn forward(&self, places: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let heads = &self.0;
        let (prompts, count, width) = tokens.dims3()?;
        let split = |xs: Tensor| {
            xs.reshape((prompts, count, heads.count, width / heads.count))?
                .transpose(1, 2)?
                .contiguous()
        };
        let found = crate::models::layers::softmax_attention(
            &split(heads.query.forward(places)?)?,
            &split(heads.key.forward(places)?)?,
            &split(heads.value.forward(tokens)?)?,
        )?;
        heads.out.forward(&found.transpose(1, 2)?.reshape((prompts, count, width))?)
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

    /// The plain forms run in `f64`, whatever the ops take.
    fn plain(tensor: &Tensor) -> Tensor {
        tensor.to_dtype(DType::F64).unwrap()
    }

    /// Projecting an image once for all prompts, and moving the projections over to each prompt, are the
    /// same sums in another order.
    #[test]
    fn shared_and_absorbed_projections_find_the_same() {
        let tensors = ["q_proj", "k_proj", "v_proj", "out_proj"].into_iter().flat_map(|name| {
            let (out, width) = if name == "out_proj" { (256, 128) } else { (128, 256) };
            let weight = (random(&[out, width]) * 0.06).unwrap();
            [(format!("{name}.weight"), weight), (format!("{name}.bias"), random(&[out]))]
        });
        let vb = VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu);
        let attention = TokenToImage::new(8, 256, 128, &vb).unwrap();
        let (image, position) = (random(&[2, 144, 256]), random(&[144, 256]));
        let image_of = [0, 0, 1, 1, 1];
        let image = ImageTokens { tokens: &image, position: &position, image_of: &image_of };
        let tokens = random(&[5, 8, 256]);
        let shared = attention.forward_shared(&tokens, &image).unwrap();
        assert_close(&shared, &attention.forward_absorbed(&tokens, &image).unwrap());
    }

    #[test]
    fn the_ops_equal_the_plain_forms() {
        // Images, prompts, tokens of the image, rows, width.
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
            for is_placed in [true, false] {
                let sight = Sight {
                    keys: &tokens,
                    position: is_placed.then_some(&position),
                    values: &values,
                    image_of: &image_of,
                };
                assert!(cpu::takes_sight(&queries, &sight));
                let ours = gathered(&queries, &sight).unwrap();
                let exact_sight = Sight {
                    keys: &exact_tokens,
                    position: is_placed.then_some(&exact_position),
                    values: &plain(&values),
                    image_of: &image_of,
                };
                let expected = gathered(&plain(&queries), &exact_sight).unwrap();
                assert_close(&ours, &expected.to_dtype(DType::F32).unwrap());
            }

            let bias = random(&[width]);
            let norm = LayerNorm::new(random(&[width]), random(&[width]), 1e-5);
            let update = Update {
                keys: queries,
                offsets: random(&[prompts, rows]),
                values: random(&[prompts, rows, width]),
                bias: &bias,
                heads: 8,
                norm: &norm,
            };
            let ours = updated(&image, &update).unwrap();
            let bias = plain(&bias);
            let update = Update {
                keys: plain(&update.keys),
                offsets: plain(&update.offsets),
                values: plain(&update.values),
                bias: &bias,
                ..update
            };
            let expected = updated(&exact, &update).unwrap();
            assert_close(&ours, &expected.to_dtype(DType::F32).unwrap());
        }
    }
}
