//! Attention of a decoder layer. In *hyper* layers the text's queries attend to images, too; the
//! generations differ in how both results are fused.
//!
//! ```text
//!  text ─── qkv, rotary ─┬─ keys, values ─► cache ─► attention to text ────┐
//!                        └─ queries ─────────────────┤                     ├─ fusion ─► out
//!  images ─ image_kv, rotary ─────────────► cache ─► attention to images ──┘
//! ```

use candle_core::{D, Result, Tensor};

use crate::models::layers::{
    Angles, AttentionContext, HeadLayout, KvSegment, Matrix, add_bias, grouped_attention, matmul,
};
use crate::models::mplug_owl3::config::{Config, Generation};
use crate::models::mplug_owl3::kv_cache::KvCache;
use crate::models::mplug_owl3::named_tensors::Tensors;

/// The attention of one decoder layer. [`Attention::attend`] stops before the output projection,
/// [`Attention::out`].
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Matrix,
    qkv_bias: Tensor,
    out: Matrix,
    heads: HeadLayout,
    /// Index of the layer, and of its part of a cache.
    layer: usize,
    hyper: Option<Hyper>,
}

/// The additional weights of a hyper layer.
#[derive(Debug, Clone)]
struct Hyper {
    /// `v_kv_proj` with its rows reordered: the keys of all heads, then the values of all heads.
    image_kv: Matrix,
    image_bias: Tensor,
    /// See [`Generation::image_offset`].
    image_offset: usize,
    fusion: Fusion,
}

/// The fusion of text and images in a hyper layer.
#[derive(Debug, Clone)]
enum Fusion {
    /// A softmax over the text and another over the images, mixed by a gate.
    Gated(FusionGate),
    /// One softmax over images and text.
    Joint,
}

/// The share of the images in a mix.
#[derive(Debug, Clone)]
enum FusionGate {
    /// The sigmoid of a product with the text's result, with the same weights for every head:
    /// `weight (head_dim, head_dim)` and `bias (head_dim)`.
    Dynamic { weight: Tensor, bias: Tensor },
    /// A learned constant, `(hidden)`.
    Static { share: Tensor },
}

/// The result of an attention and its parts, each `(sequences, n, hidden)`. Only gated fusion has
/// parts.
#[derive(Debug, Clone)]
pub struct Attended {
    /// Attention over the text alone.
    pub text: Option<Tensor>,
    /// Attention over the images alone; zeros for a token that attends to no image.
    pub images: Option<Tensor>,
    /// The images' share, before it is set to 0 for tokens that attend to no image; or `(hidden)`.
    pub gate: Option<Tensor>,
    /// The input of the output projection.
    pub output: Tensor,
}

impl Attended {
    fn without_parts(output: Tensor) -> Self {
        Self { text: None, images: None, gate: None, output }
    }
}

impl Attention {
    /// Builds the attention of the layer with this index.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(
        config: &Config,
        generation: Generation,
        layer: usize,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let heads = HeadLayout {
            query_heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim(),
        };
        let hidden = config.hidden_size;
        let kv_width = heads.kv_heads * heads.head_dim;
        let parts = [("q_proj", hidden), ("k_proj", kv_width), ("v_proj", kv_width)];
        let hyper = config.is_hyper(layer).then(|| Hyper::new(heads, hidden, generation, tensors));
        Ok(Self {
            qkv: tensors.matrix(hidden, &parts)?,
            qkv_bias: tensors.biases(&parts)?,
            out: tensors.matrix(hidden, &[("o_proj", hidden)])?,
            heads,
            layer,
            hyper: hyper.transpose()?,
        })
    }

    /// Returns the output projection; it has no bias.
    pub fn out(&self) -> &Matrix {
        &self.out
    }

    /// Returns the numbers of heads, and their width.
    pub fn heads(&self) -> HeadLayout {
        self.heads
    }

    /// Returns true if the layer attends to images.
    pub fn is_hyper(&self) -> bool {
        self.hyper.is_some()
    }

    /// Projects images to keys and values.
    ///
    /// # Shapes
    /// - `normed`: `(images, tokens, hidden)`, normalised by the layer's input norm
    /// - result: `(images, tokens, 2 · kv_heads · head_dim)`: the keys of all heads, not yet
    ///   rotated, then the values of all heads
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    ///
    /// # Panics
    /// Panics if this is not a hyper layer.
    pub fn image_rows(&self, normed: &Tensor) -> Result<Tensor> {
        let hyper = self.hyper.as_ref().expect("only hyper layers project images");
        add_bias(hyper.image_kv.product(normed)?, &hyper.image_bias)
    }

    /// Appends the keys and values of the next tokens to the caches, and attends from the last
    /// `query_count` of them.
    ///
    /// # Shapes
    /// - `normed`: `(sequences, n, hidden)`, normalised by the layer's input norm
    /// - `angles`: a row for each token, `(sequences · n, head_dim / 2)`
    /// - `caches`: one for each sequence
    /// - result: `(sequences, query_count, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn attend(
        &self,
        normed: &Tensor,
        angles: &Angles,
        caches: &mut [KvCache],
        query_count: usize,
    ) -> Result<Attended> {
        let HeadLayout { query_heads, kv_heads, head_dim } = self.heads;
        // 1. Project: (sequences, n, [queries | keys | values]), all heads of each.
        let qkv = self.project(normed, angles)?;
        // 2. Append keys and values to the caches.
        let kv = qkv.narrow(2, query_heads * head_dim, 2 * kv_heads * head_dim)?;
        for (index, cache) in caches.iter_mut().enumerate() {
            cache.append_text(self.layer, kv.get(index)?.contiguous()?)?;
        }
        // 3. Find the rows that are visible to each query.
        let queries = qkv.narrow(1, qkv.dim(1)? - query_count, query_count)?.contiguous()?;
        let caches = &*caches;
        let texts = caches
            .iter()
            .map(|cache| self.text_segment(cache, query_count))
            .collect::<Result<Vec<_>>>()?;
        let has_images = caches.iter().any(|cache| !cache.image_starts().is_empty());
        let Some(hyper) = self.hyper.as_ref().filter(|_| has_images) else {
            // 4. Attend to the text alone …
            let output = self.attend_to(&queries, texts.into_iter().map(|text| vec![text]))?;
            return Ok(Attended::without_parts(output));
        };
        let images = caches
            .iter()
            .map(|cache| self.image_segment(hyper, cache, query_count))
            .collect::<Result<Vec<_>>>()?;
        // … or to both, and fuse.
        match &hyper.fusion {
            Fusion::Joint => {
                let both = images.into_iter().zip(texts);
                let output = self.attend_to(
                    &queries,
                    both.map(|(image, text)| image.into_iter().chain([text]).collect()),
                )?;
                Ok(Attended::without_parts(output))
            }
            Fusion::Gated(gate) => self.attend_gated(gate, &queries, texts, images),
        }
    }

    /// Projects text tokens, `(sequences, n, hidden)`, to queries, keys and values, and rotates the
    /// queries and keys: `(sequences, n, (query_heads + 2 · kv_heads) · head_dim)`.
    fn project(&self, normed: &Tensor, angles: &Angles) -> Result<Tensor> {
        let (sequences, count, _) = normed.dims3()?;
        let product = add_bias(self.qkv.product(normed)?, &self.qkv_bias)?;
        let columns = product.dim(D::Minus1)?;
        let rows = product.reshape((sequences * count, columns))?;
        let rotated = angles.rotate(rows, self.heads.query_heads + self.heads.kv_heads)?;
        rotated.reshape((sequences, count, columns))
    }

    /// The text that each of the last `query_count` tokens attends to: all tokens before it, and
    /// itself.
    fn text_segment<'a>(&self, cache: &'a KvCache, query_count: usize) -> Result<KvSegment<'a>> {
        let len = cache.text_len(self.layer)?;
        let visible_rows = (len - query_count + 1..=len).collect();
        Ok(KvSegment { rows: cache.text_rows(self.layer), visible_rows })
    }

    /// The images that each of the last `query_count` tokens attends to: those at or before its
    /// position. `None` if the sequence has no image.
    fn image_segment<'a>(
        &self,
        hyper: &Hyper,
        cache: &'a KvCache,
        query_count: usize,
    ) -> Result<Option<KvSegment<'a>>> {
        let starts = cache.image_starts();
        let Some(rows) = cache.image_rows(self.layer).filter(|_| !starts.is_empty()) else {
            return Ok(None);
        };
        let len = cache.text_len(self.layer)?;
        let image_tokens = rows.dim(0)? / starts.len();
        let visible_at = |position: usize| {
            let is_visible = |&&start: &&usize| start + hyper.image_offset <= position;
            starts.iter().filter(is_visible).count() * image_tokens
        };
        Ok(Some(KvSegment {
            rows,
            visible_rows: (len - query_count..len).map(visible_at).collect(),
        }))
    }

    /// Attends in one softmax to all segments of each sequence.
    fn attend_to<'a>(
        &self,
        queries: &Tensor,
        segments: impl Iterator<Item = Vec<KvSegment<'a>>>,
    ) -> Result<Tensor> {
        let contexts: Vec<AttentionContext<'_>> =
            segments.map(|segments| AttentionContext { segments }).collect();
        grouped_attention(queries, &contexts, self.heads)
    }

    /// Attends to text and images in a softmax each, and mixes the results:
    /// `(1 − share) · text + share · images`.
    fn attend_gated(
        &self,
        gate: &FusionGate,
        queries: &Tensor,
        texts: Vec<KvSegment<'_>>,
        images: Vec<Option<KvSegment<'_>>>,
    ) -> Result<Attended> {
        let visibility = image_visibility(&images, queries.dim(1)?);
        let text = self.attend_to(queries, texts.into_iter().map(|text| vec![text]))?;
        let images =
            self.attend_to(queries, images.into_iter().map(|image| image.into_iter().collect()))?;
        let gate = gate.image_share(&text, self.heads)?;
        // A token that attends to no image keeps its text result.
        let share = if visibility.contains(&0.0) {
            let (sequences, count, _) = text.dims3()?;
            let mask = Tensor::from_vec(visibility, (sequences, count, 1), text.device())?;
            gate.broadcast_as(text.shape())?.broadcast_mul(&mask.to_dtype(text.dtype())?)?
        } else {
            gate.clone()
        };
        let rest = share.affine(-1.0, 1.0)?;
        let output = (text.broadcast_mul(&rest)? + images.broadcast_mul(&share)?)?;
        Ok(Attended { text: Some(text), images: Some(images), gate: Some(gate), output })
    }
}

/// Returns 1 for each token of each sequence that attends to an image, and 0 for the others.
fn image_visibility(images: &[Option<KvSegment<'_>>], query_count: usize) -> Vec<f32> {
    let sees = |image: &Option<KvSegment<'_>>, query: usize| {
        image.as_ref().is_some_and(|image| image.visible_rows[query] > 0)
    };
    images
        .iter()
        .flat_map(|image| (0..query_count).map(move |query| sees(image, query)))
        .map(|sees| if sees { 1.0 } else { 0.0 })
        .collect()
}

impl Hyper {
    fn new(
        heads: HeadLayout,
        hidden: usize,
        generation: Generation,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let HeadLayout { kv_heads, head_dim, .. } = heads;
        let width = 2 * kv_heads * head_dim;
        // Stored as key and value of the first head, of the second, …
        let projection = tensors.pp("v_kv_proj");
        let weight = projection
            .get((width, hidden), "weight")?
            .reshape((kv_heads, 2, head_dim, hidden))?
            .transpose(0, 1)?
            .reshape((width, hidden))?;
        let bias = projection
            .get(width, "bias")?
            .reshape((kv_heads, 2, head_dim))?
            .transpose(0, 1)?
            .reshape(width)?;
        let fusion = match generation {
            Generation::V240728 => {
                let gate = tensors.pp("gate_proj.0");
                let weight = gate.get((head_dim, head_dim), "weight")?;
                Fusion::Gated(FusionGate::Dynamic { weight, bias: gate.get(head_dim, "bias")? })
            }
            Generation::V241014 => {
                let share = candle_nn::ops::sigmoid(&tensors.get(hidden, "gate")?)?;
                Fusion::Gated(FusionGate::Static { share })
            }
            Generation::V241101 => Fusion::Joint,
        };
        Ok(Self {
            image_kv: Matrix::Plain(weight),
            image_bias: bias,
            image_offset: generation.image_offset(),
            fusion,
        })
    }
}

impl FusionGate {
    /// Computes the images' share from the text's result `(sequences, n, hidden)`: of the same
    /// shape, or `(hidden)`.
    fn image_share(&self, text: &Tensor, heads: HeadLayout) -> Result<Tensor> {
        match self {
            Self::Dynamic { weight, bias } => {
                // Each head of each token is a row.
                let rows = text.reshape((text.elem_count() / heads.head_dim, heads.head_dim))?;
                let logits = matmul(&rows, &weight.t()?)?.broadcast_add(bias)?;
                candle_nn::ops::sigmoid(&logits)?.reshape(text.shape())
            }
            Self::Static { share } => Ok(share.clone()),
        }
    }
}
