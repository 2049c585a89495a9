//! Attention of a decoder layer. In *hyper* layers the text's queries attend to images, too; the
//! generations differ in how both results are fused.
//!
//! ```text
//!  text ─── qkv, rotary ─┬─ keys, values ─► cache ─► attention to text ────┐
//!                        └─ queries ─────────────────┤                     ├─ fusion ─► out
//!  images ─ image_kv, rotary ─────────────► cache ─► attention to images ──┘
//! ```

use candle_core::{D, Result, Tensor};

use crate::models::layers::{HeadLayout, Matrix, add_bias, grouped_attention};
use crate::models::mplug_owl3::config::{Config, Generation};
use crate::models::mplug_owl3::kv_cache::KvCache;
use crate::models::mplug_owl3::named_tensors::Tensors;
use crate::models::mplug_owl3::run_tables::RunTables;
use crate::models::ops::{Function, TensorOps, matmul};

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

    /// Appends the keys and values of the next tokens to the cache, and attends from the last of
    /// them: as many as the tables have queries.
    ///
    /// # Shapes
    /// - `normed`: `(sequences, n, hidden)`, normalised by the layer's input norm
    /// - result: `(sequences, queries, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn attend(
        &self,
        normed: &Tensor,
        tables: &RunTables,
        cache: &mut KvCache,
    ) -> Result<Attended> {
        let HeadLayout { query_heads, kv_heads, head_dim } = self.heads;
        // 1. Project: (sequences, n, [queries | keys | values]), all heads of each.
        let qkv = self.project(normed, tables)?;
        // 2. Append keys and values to the cache.
        let kv = qkv.narrow(2, query_heads * head_dim, 2 * kv_heads * head_dim)?;
        cache.append_text(self.layer, &kv)?;
        let count = tables.queries();
        let queries = qkv.narrow(1, qkv.dim(1)? - count, count)?.dense()?;
        let text = cache.text_rows(self.layer);
        let (Some(hyper), Some(images)) = (&self.hyper, cache.image_rows(self.layer)) else {
            // 3. Attend to the text alone …
            let output = grouped_attention(&queries, &[text], tables.text(), self.heads)?;
            return Ok(Attended::without_parts(output));
        };
        // … or to both, and fuse.
        match &hyper.fusion {
            Fusion::Joint => {
                let output =
                    grouped_attention(&queries, &[images, text], tables.both(), self.heads)?;
                Ok(Attended::without_parts(output))
            }
            Fusion::Gated(gate) => {
                let text = grouped_attention(&queries, &[text], tables.text(), self.heads)?;
                let images = grouped_attention(&queries, &[images], tables.images(), self.heads)?;
                self.fuse(gate, text, images, tables)
            }
        }
    }

    /// Projects text tokens, `(sequences, n, hidden)`, to queries, keys and values, and rotates the
    /// queries and keys: `(sequences, n, (query_heads + 2 · kv_heads) · head_dim)`.
    fn project(&self, normed: &Tensor, tables: &RunTables) -> Result<Tensor> {
        let (sequences, count, _) = normed.dims3()?;
        let product = add_bias(self.qkv.product(normed)?, &self.qkv_bias)?;
        let columns = product.dim(D::Minus1)?;
        let rows = product.reshaped((sequences * count, columns))?;
        let heads = self.heads.query_heads + self.heads.kv_heads;
        tables.angles().rotate(rows, heads)?.reshaped((sequences, count, columns))
    }

    /// Mixes attention over the text and over the images: `(1 − share) · text + share · images`.
    fn fuse(
        &self,
        gate: &FusionGate,
        text: Tensor,
        images: Tensor,
        tables: &RunTables,
    ) -> Result<Attended> {
        let gate = gate.image_share(&text, self.heads)?;
        // A token that attends to no image keeps its text result.
        let share = match tables.images().sighted(text.dtype(), text.device())? {
            Some(sighted) => gate.broadcast_as(text.shape())?.times_repeated(&sighted)?,
            None => gate.clone(),
        };
        let rest = share.affine_of(-1.0, 1.0)?;
        let output = text.times_repeated(&rest)?.plus(&images.times_repeated(&share)?)?;
        Ok(Attended { text: Some(text), images: Some(images), gate: Some(gate), output })
    }
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
            .reshaped((kv_heads, 2, head_dim, hidden))?
            .transpose(0, 1)?
            .reshaped((width, hidden))?;
        let bias = projection
            .get(width, "bias")?
            .reshaped((kv_heads, 2, head_dim))?
            .transpose(0, 1)?
            .reshaped(width)?;
        let fusion = match generation {
            Generation::V240728 => {
                let gate = tensors.pp("gate_proj.0");
                let weight = gate.get((head_dim, head_dim), "weight")?;
                Fusion::Gated(FusionGate::Dynamic { weight, bias: gate.get(head_dim, "bias")? })
            }
            Generation::V241014 => {
                let share = tensors.get(hidden, "gate")?.each(Function::Sigmoid)?;
                Fusion::Gated(FusionGate::Static { share })
            }
            Generation::V241101 => Fusion::Joint,
        };
        Ok(Self { image_kv: Matrix::Plain(weight), image_bias: bias, fusion })
    }
}

impl FusionGate {
    /// Computes the images' share from the text's result `(sequences, n, hidden)`: of the same
    /// shape, or `(hidden)`.
    fn image_share(&self, text: &Tensor, heads: HeadLayout) -> Result<Tensor> {
        match self {
            Self::Dynamic { weight, bias } => {
                // Each head of each token is a row.
                let rows = text.reshaped((text.elem_count() / heads.head_dim, heads.head_dim))?;
                let logits = matmul(&rows, &weight.t()?)?.plus_repeated(bias)?;
                logits.each(Function::Sigmoid)?.reshaped(text.shape())
            }
            Self::Static { share } => Ok(share.clone()),
        }
    }
}
