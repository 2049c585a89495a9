//! Attention of a decoder layer. Some layers are *hyper* layers: their queries look at images, too. How
//! both meet is what sets the generations apart.

use candle_core::{D, Result, Tensor};

use super::config::{Config, Generation};
use super::context::Context;
use super::load::Tensors;
use crate::models::layers::{
    Angles, Heads, Look, Matrix, Seen, add_bias, grouped_attention, matmul,
};

/// Queries, keys and values of the text, keys and values of images where the layer has them.
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Matrix,
    qkv_bias: Tensor,
    out: Matrix,
    heads: Heads,
    hyper: Option<Hyper>,
}

/// What a hyper layer has besides.
#[derive(Debug, Clone)]
struct Hyper {
    /// `v_kv_proj`, its rows reordered: all heads' keys, then all heads' values.
    image_kv: Matrix,
    image_bias: Tensor,
    /// See [`Generation::image_offset`].
    image_offset: usize,
    fusion: Fusion,
}

/// How text and images meet.
#[derive(Debug, Clone)]
enum Fusion {
    /// In two softmaxes, mixed.
    Apart(Gate),
    /// In one softmax over the keys of images and text.
    Joint,
}

/// The images' share of a mix.
#[derive(Debug, Clone)]
enum Gate {
    /// The sigmoid of a product with the text's result, for each head alike: weight `(head_dim, head_dim)`
    /// and bias `(head_dim)`.
    Dynamic { weight: Tensor, bias: Tensor },
    /// Learnt, `(hidden)`.
    Static { share: Tensor },
}

/// The result of an attention and, where they exist, the parts of it; each `(sequences, n, hidden)`.
#[derive(Debug, Clone)]
pub struct Attended {
    /// Of the text alone.
    pub text: Option<Tensor>,
    /// Of the images alone; zeros where no image is seen.
    pub images: Option<Tensor>,
    /// Share of the images, before it is set to 0 for tokens that see none; or `(hidden)`.
    pub gate: Option<Tensor>,
    /// What goes on to the output projection.
    pub context: Tensor,
}

impl Attention {
    /// Builds a layer's attention; of a layer that sees images as its generation does.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, hyper: Option<Generation>, tensors: &Tensors<'_>) -> Result<Self> {
        let heads = Heads {
            queries: config.num_attention_heads,
            keys: config.num_key_value_heads,
            head_dim: config.head_dim(),
        };
        let hidden = config.hidden_size;
        let keys = heads.keys * heads.head_dim;
        let parts = [("q_proj", hidden), ("k_proj", keys), ("v_proj", keys)];
        let hyper = hyper.map(|generation| Hyper::new(heads, hidden, generation, tensors));
        Ok(Self {
            qkv: tensors.matrix(hidden, &parts)?,
            qkv_bias: tensors.biases(&parts)?,
            out: tensors.matrix(hidden, &[("o_proj", hidden)])?,
            heads,
            hyper: hyper.transpose()?,
        })
    }

    /// The output projection; it has no bias.
    pub fn out(&self) -> &Matrix {
        &self.out
    }

    /// How heads lie in rows.
    pub fn heads(&self) -> Heads {
        self.heads
    }

    /// Whether the layer sees images.
    pub fn is_hyper(&self) -> bool {
        self.hyper.is_some()
    }

    /// Keys and values of images, `(images, tokens, hidden)` normalised by the layer's own norm, to
    /// `(images, tokens, 2 · keys · head_dim)`: all heads' keys, not yet turned, then all values.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    ///
    /// # Panics
    /// When this is no hyper layer.
    pub fn image_rows(&self, normed: &Tensor) -> Result<Tensor> {
        let hyper = self.hyper.as_ref().expect("only hyper layers are shown images");
        add_bias(hyper.image_kv.product(normed)?, &hyper.image_bias)
    }

    /// Attends from further tokens, `(sequences, n, hidden)` normalised, and keeps their keys and values
    /// in the contexts. The result is of the last `wanted` tokens of each sequence.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn attend(
        &self,
        normed: &Tensor,
        angles: &Angles,
        (layer, contexts): (usize, &mut [Context]),
        wanted: usize,
    ) -> Result<Attended> {
        let (sequences, count, _) = normed.dims3()?;
        let Heads { queries, keys, head_dim } = self.heads;
        let rows = add_bias(self.qkv.product(normed)?, &self.qkv_bias)?;
        let columns = rows.dim(D::Minus1)?;
        let rows = angles.turn(rows.reshape((sequences * count, columns))?, queries + keys)?;
        let rows = rows.reshape((sequences, count, columns))?;
        let kept = rows.narrow(2, queries * head_dim, 2 * keys * head_dim)?;
        for (index, context) in contexts.iter_mut().enumerate() {
            context.extend(layer, kept.get(index)?.contiguous()?)?;
        }
        let asked = if wanted == count {
            rows
        } else {
            rows.narrow(1, count - wanted, wanted)?.contiguous()?
        };
        let contexts = &*contexts;
        let texts = contexts.iter().map(|context| text_of(context, layer, wanted));
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let seen_by = |context: &Context| !context.starts().is_empty();
        match self.hyper.as_ref().filter(|_| contexts.iter().any(seen_by)) {
            None => {
                let looks = texts.into_iter().map(|text| Look { seen: vec![text] });
                let context = grouped_attention(&asked, &looks.collect::<Vec<_>>(), self.heads)?;
                Ok(Attended { text: None, images: None, gate: None, context })
            }
            Some(hyper) => self.with_images(hyper, &asked, texts, (layer, contexts)),
        }
    }

    fn with_images(
        &self,
        hyper: &Hyper,
        asked: &Tensor,
        texts: Vec<Seen<'_>>,
        (layer, contexts): (usize, &[Context]),
    ) -> Result<Attended> {
        let wanted = asked.dim(1)?;
        let images = contexts.iter().map(|context| images_of(context, layer, wanted, hyper));
        let images = images.collect::<Result<Vec<_>>>()?;
        let Fusion::Apart(gate) = &hyper.fusion else {
            let looks = texts.into_iter().zip(images);
            let looks = looks
                .map(|(text, images)| Look { seen: images.into_iter().chain([text]).collect() });
            let context = grouped_attention(asked, &looks.collect::<Vec<_>>(), self.heads)?;
            return Ok(Attended { text: None, images: None, gate: None, context });
        };
        let sees = images.iter().flat_map(|images| {
            (0..wanted).map(move |query| images.as_ref().is_some_and(|seen| seen.counts[query] > 0))
        });
        let sees: Vec<f32> = sees.map(|sees| if sees { 1.0 } else { 0.0 }).collect();
        let looks = |seen: Vec<Option<Seen<'_>>>| {
            let looks = seen.into_iter().map(|seen| Look { seen: seen.into_iter().collect() });
            grouped_attention(asked, &looks.collect::<Vec<_>>(), self.heads)
        };
        let text = looks(texts.into_iter().map(Some).collect())?;
        let images = looks(images)?;
        let gate = gate.share(&text, self.heads)?;
        let share = if sees.contains(&0.0) {
            let sees = Tensor::from_vec(sees, (contexts.len(), wanted, 1), text.device())?;
            gate.broadcast_as(text.shape())?.broadcast_mul(&sees.to_dtype(text.dtype())?)?
        } else {
            gate.clone()
        };
        let rest = share.affine(-1.0, 1.0)?;
        let context = (text.broadcast_mul(&rest)? + images.broadcast_mul(&share)?)?;
        Ok(Attended { text: Some(text), images: Some(images), gate: Some(gate), context })
    }
}

/// The text that each of the last `wanted` tokens sees: all before it, and itself.
fn text_of(context: &Context, layer: usize, wanted: usize) -> Result<Seen<'_>> {
    let read = context.read(layer)?;
    Ok(Seen { rows: context.text(layer), counts: (read - wanted + 1..=read).collect() })
}

/// The images that each of the last `wanted` tokens sees: those whose place it has reached.
fn images_of<'a>(
    context: &'a Context,
    layer: usize,
    wanted: usize,
    hyper: &Hyper,
) -> Result<Option<Seen<'a>>> {
    let Some(rows) = context.images(layer).filter(|_| !context.starts().is_empty()) else {
        return Ok(None);
    };
    let read = context.read(layer)?;
    let tokens = rows.dim(0)? / context.starts().len();
    let seen_at = |position: usize| {
        context.starts().iter().filter(|&&start| start + hyper.image_offset <= position).count()
            * tokens
    };
    Ok(Some(Seen { rows, counts: (read - wanted..read).map(seen_at).collect() }))
}

impl Hyper {
    fn new(
        heads: Heads,
        hidden: usize,
        generation: Generation,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let Heads { keys, head_dim, .. } = heads;
        let projection = tensors.pp("v_kv_proj");
        let width = 2 * keys * head_dim;
        // Stored as key and value of the first head, of the second, …
        let weight = projection.get((width, hidden), "weight")?;
        let weight = weight.reshape((keys, 2, head_dim, hidden))?.transpose(0, 1)?;
        let bias = projection.get(width, "bias")?.reshape((keys, 2, head_dim))?.transpose(0, 1)?;
        let fusion = match generation {
            Generation::V240728 => {
                let gate = tensors.pp("gate_proj.0");
                let weight = gate.get((head_dim, head_dim), "weight")?;
                Fusion::Apart(Gate::Dynamic { weight, bias: gate.get(head_dim, "bias")? })
            }
            Generation::V241014 => {
                let share = candle_nn::ops::sigmoid(&tensors.get(hidden, "gate")?)?;
                Fusion::Apart(Gate::Static { share })
            }
            Generation::V241101 => Fusion::Joint,
        };
        Ok(Self {
            image_kv: Matrix::Plain(weight.reshape((width, hidden))?),
            image_bias: bias.reshape(width)?,
            image_offset: generation.image_offset(),
            fusion,
        })
    }
}

impl Gate {
    /// The share of each token, of the text's result `(sequences, n, hidden)`.
    fn share(&self, text: &Tensor, heads: Heads) -> Result<Tensor> {
        match self {
            Self::Dynamic { weight, bias } => {
                let rows = text.elem_count() / heads.head_dim;
                let logits = matmul(&text.reshape((rows, heads.head_dim))?, &weight.t()?)?;
                candle_nn::ops::sigmoid(&logits.broadcast_add(bias)?)?.reshape(text.shape())
            }
            Self::Static { share } => Ok(share.clone()),
        }
    }
}
