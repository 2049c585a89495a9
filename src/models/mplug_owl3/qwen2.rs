//! The language model: Qwen2, some of whose layers see images.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::config::{Config, Generation};
use super::context::Context;
use super::hyper_attention::{Attended, Attention};
use super::load::Tensors;
use crate::models::layers::{Angles, Matrix, RmsNorm, Rotary, add_residual, silu_gate};

/// Tokens and images to hidden states and logits.
#[derive(Debug, Clone)]
pub struct Decoder {
    embedding: Matrix,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    head: Matrix,
    rotary: Rotary,
    generation: Generation,
    dtype: DType,
    device: Device,
}

/// One layer: attention, then a gated MLP, each on a normalised copy.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    input_norm: RmsNorm,
    attention: Attention,
    post_norm: RmsNorm,
    gate_up: Matrix,
    down: Matrix,
}

impl Decoder {
    /// Builds the decoder of a generation.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, generation: Generation, tensors: &Tensors<'_>) -> Result<Self> {
        let model = tensors.pp("model");
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let layer = |index| DecoderLayer::new(config, generation, index, &model.pp("layers"));
        let embedding = model.table(hidden, "embed_tokens", vocabulary)?;
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            tensors.table(hidden, "lm_head", vocabulary)?
        };
        Ok(Self {
            embedding,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: model.pp("norm").rms_norm(hidden, config.rms_norm_eps)?,
            head,
            rotary: Rotary::new(config.head_dim(), config.rope_theta),
            generation,
            dtype: tensors.vb().dtype(),
            device: tensors.vb().device().clone(),
        })
    }

    /// The layers, the first first.
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    /// What tokens are looked up in: `(vocabulary, hidden)`.
    pub fn embedding(&self) -> &Matrix {
        &self.embedding
    }

    /// The output head: `(vocabulary, hidden)`.
    pub fn head(&self) -> &Matrix {
        &self.head
    }

    /// The norm before the output head.
    pub fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A text of which nothing has been read.
    pub fn context(&self) -> Context {
        Context::new(self.layers.len())
    }

    /// Rows of tokens of one length to `(rows, tokens, hidden)`.
    ///
    /// # Errors
    /// A token that the embedding does not have.
    pub fn embed(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let ids: Vec<u32> = rows.concat();
        let shape = (rows.len(), ids.len() / rows.len().max(1), self.embedding.width()?);
        let ids = Tensor::new(ids, &self.device)?;
        self.embedding.rows(&ids)?.to_dtype(self.dtype)?.reshape(shape)
    }

    /// Shows images to contexts, each at the first tokens of its images' placeholders: all layers that
    /// see images take their keys and values, once. `embeds (images, tokens, hidden)` has the images of
    /// the first context, then those of the second, ….
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn show(
        &self,
        embeds: &Tensor,
        contexts: &mut [Context],
        starts: &[&[usize]],
    ) -> Result<()> {
        let (images, tokens, _) = embeds.dims3()?;
        let all = || starts.iter().flat_map(|starts| starts.iter());
        debug_assert_eq!(all().count(), images, "each image has its place");
        let offset = self.generation.image_offset();
        // All keys of an image are at one position.
        let positions = all().flat_map(|start| std::iter::repeat_n(start + offset, tokens));
        let angles = self.rotary.at(positions, &self.device)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if images == 0 || !layer.attention.is_hyper() {
                continue;
            }
            let rows = layer.attention.image_rows(&layer.input_norm.forward(embeds)?)?;
            let rows = angles.turn(rows.flatten(0, 1)?, layer.attention.heads().keys)?;
            let mut first = 0;
            for (context, starts) in contexts.iter_mut().zip(starts) {
                let count = starts.len() * tokens;
                if count > 0 {
                    context.set_images(index, rows.narrow(0, first, count)?.contiguous()?);
                }
                first += count;
            }
        }
        for (context, starts) in contexts.iter_mut().zip(starts) {
            context.place_images(starts);
        }
        Ok(())
    }

    /// Runs some layers on further tokens of each context, `(contexts, n, hidden)`.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn run(
        &self,
        mut xs: Tensor,
        layers: Range<usize>,
        contexts: &mut [Context],
    ) -> Result<Tensor> {
        let count = xs.dim(1)?;
        let angles = self.angles(layers.start, contexts, count)?;
        for index in layers {
            xs = self.layers[index].forward(&xs, &angles, (index, contexts), count)?;
        }
        Ok(xs)
    }

    /// Runs the layers from `first` on, and gives the last token's hidden state, `(contexts, hidden)`,
    /// behind the last norm. The last layer is spared all other tokens, but for their keys.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn run_to_end(&self, xs: Tensor, first: usize, contexts: &mut [Context]) -> Result<Tensor> {
        let (last, count) = (self.layers.len() - 1, xs.dim(1)?);
        let angles = self.angles(first, contexts, count)?;
        let xs = self.run(xs, first..last, contexts)?;
        let xs = self.layers[last].forward(&xs, &angles, (last, contexts), 1)?;
        self.norm.forward(&xs.squeeze(1)?)
    }

    /// `(…, hidden)` behind the last norm to logits, `(…, vocabulary)` f32.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.product(hidden)?.to_dtype(DType::F32)
    }

    /// Angles of the next `count` tokens of each context. The reference has them in the model's dtype.
    ///
    /// # Errors
    /// What candle says of the device.
    pub fn angles(&self, layer: usize, contexts: &[Context], count: usize) -> Result<Angles> {
        let read =
            contexts.iter().map(|context| context.read(layer)).collect::<Result<Vec<_>>>()?;
        let positions = read.into_iter().flat_map(|read| read..read + count);
        self.rotary.at(positions, &self.device)?.rounded_to(self.dtype)
    }
}

impl DecoderLayer {
    fn new(
        config: &Config,
        generation: Generation,
        index: usize,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let tensors = tensors.pp(index);
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| tensors.pp(name).rms_norm(hidden, config.rms_norm_eps);
        let hyper = config.is_hyper(index).then_some(generation);
        let mlp = tensors.pp("mlp");
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: Attention::new(config, hyper, &tensors.pp("self_attn"))?,
            post_norm: norm("post_attention_layernorm")?,
            gate_up: mlp.matrix(hidden, &[("gate_proj", inner), ("up_proj", inner)])?,
            down: mlp.matrix(inner, &[("down_proj", hidden)])?,
        })
    }

    /// Its attention.
    pub fn attention(&self) -> &Attention {
        &self.attention
    }

    /// The norm before its attention, of text and images.
    pub fn input_norm(&self) -> &RmsNorm {
        &self.input_norm
    }

    /// Further tokens of each context, `(contexts, n, hidden)`, to their attention.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn attend(
        &self,
        xs: &Tensor,
        angles: &Angles,
        at: (usize, &mut [Context]),
        wanted: usize,
    ) -> Result<Attended> {
        self.attention.attend(&self.input_norm.forward(xs)?, angles, at, wanted)
    }

    /// The rest of the layer: what was attended to, `(contexts, n, hidden)`, added to its input.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn finish(&self, context: &Tensor, xs: &Tensor) -> Result<Tensor> {
        let xs = add_residual(self.attention.out().product(context)?, xs)?;
        let inner = silu_gate(&self.gate_up.product(&self.post_norm.forward(&xs)?)?)?;
        add_residual(self.down.product(&inner)?, &xs)
    }

    /// The whole layer, for the last `wanted` tokens of each context.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn forward(
        &self,
        xs: &Tensor,
        angles: &Angles,
        at: (usize, &mut [Context]),
        wanted: usize,
    ) -> Result<Tensor> {
        let attended = self.attend(xs, angles, at, wanted)?;
        let count = xs.dim(1)?;
        self.finish(&attended.context, &xs.narrow(1, count - wanted, wanted)?.contiguous()?)
    }
}
