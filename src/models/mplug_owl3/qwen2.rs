//! The language model: Qwen2, with some layers that attend to images.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::models::layers::{Angles, Matrix, RmsNorm, Rotary, add_residual, silu_gate};
use crate::models::mplug_owl3::config::{Config, Generation};
use crate::models::mplug_owl3::hyper_attention::{Attended, Attention};
use crate::models::mplug_owl3::kv_cache::KvCache;
use crate::models::mplug_owl3::named_tensors::Tensors;

/// The decoder: tokens and images to hidden states and logits.
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

/// One layer: attention, then a gated MLP, each on a normalised copy of its input.
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
    /// Fails on a missing or misshapen tensor.
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

    /// Returns the layers in order.
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    /// Returns the embedding, `(vocabulary, hidden)`.
    pub fn embedding(&self) -> &Matrix {
        &self.embedding
    }

    /// Returns the output head, `(vocabulary, hidden)`.
    pub fn head(&self) -> &Matrix {
        &self.head
    }

    /// Returns the norm before the output head.
    pub fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    /// Returns the device that the decoder runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Creates an empty cache for one sequence.
    pub fn empty_cache(&self) -> KvCache {
        KvCache::new(self.layers.len())
    }

    /// Embeds rows of tokens of one length: `(rows, tokens, hidden)`.
    ///
    /// # Errors
    /// Fails on a token that the embedding does not have.
    pub fn embed(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let ids: Vec<u32> = rows.concat();
        let shape = (rows.len(), ids.len() / rows.len().max(1), self.embedding.width()?);
        let ids = Tensor::new(ids, &self.device)?;
        self.embedding.rows(&ids)?.to_dtype(self.dtype)?.reshape(shape)
    }

    /// Stores the keys and values of images in the caches, once for each hyper layer.
    ///
    /// # Shapes
    /// - `embeds`: `(images, tokens, hidden)`, the images of the first sequence, then those of the
    ///   second, …
    /// - `caches`: one for each sequence
    /// - `starts`: for each sequence, the first token of each image's placeholder
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn cache_image_kv(
        &self,
        embeds: &Tensor,
        caches: &mut [KvCache],
        starts: &[&[usize]],
    ) -> Result<()> {
        let (images, tokens, _) = embeds.dims3()?;
        let all_starts = || starts.iter().flat_map(|starts| starts.iter());
        debug_assert_eq!(all_starts().count(), images, "each image has a position");
        for (cache, starts) in caches.iter_mut().zip(starts) {
            cache.set_image_starts(starts);
        }
        if images == 0 {
            return Ok(());
        }
        // All keys of an image are at one position.
        let offset = self.generation.image_offset();
        let positions = all_starts().flat_map(|start| std::iter::repeat_n(start + offset, tokens));
        let angles = self.rotary.at(positions, &self.device)?;
        let hyper_layers =
            self.layers.iter().enumerate().filter(|(_, layer)| layer.attention.is_hyper());
        for (index, layer) in hyper_layers {
            let kv = layer.attention.image_rows(&layer.input_norm.forward(embeds)?)?;
            // (images · tokens, 2 · kv_heads · head_dim), keys rotated.
            let rows = angles.rotate(kv.flatten(0, 1)?, layer.attention.heads().kv_heads)?;
            let mut first = 0;
            for (cache, starts) in caches.iter_mut().zip(starts) {
                let count = starts.len() * tokens;
                if count > 0 {
                    cache.set_image_rows(index, rows.narrow(0, first, count)?.contiguous()?);
                }
                first += count;
            }
        }
        Ok(())
    }

    /// Runs a range of layers on the next tokens of each sequence, and appends their keys and
    /// values to the caches.
    ///
    /// # Shapes
    /// - `xs`: `(sequences, n, hidden)`
    /// - `caches`: one for each sequence
    /// - result: `(sequences, n, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn run(
        &self,
        mut xs: Tensor,
        layers: Range<usize>,
        caches: &mut [KvCache],
    ) -> Result<Tensor> {
        let count = xs.dim(1)?;
        let angles = self.angles(layers.start, caches, count)?;
        for layer in &self.layers[layers] {
            xs = layer.forward(&xs, &angles, caches, count)?;
        }
        Ok(xs)
    }

    /// Runs the layers starting at `first`, and the last norm, for the last token of each sequence.
    /// The last layer computes only keys and values for the other tokens.
    ///
    /// # Shapes
    /// - `xs`: `(sequences, n, hidden)`
    /// - `caches`: one for each sequence
    /// - result: `(sequences, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn run_to_end(&self, xs: Tensor, first: usize, caches: &mut [KvCache]) -> Result<Tensor> {
        let last = self.layers.len() - 1;
        let angles = self.angles(first, caches, xs.dim(1)?)?;
        let before_last = self.run(xs, first..last, caches)?;
        let hidden = self.layers[last].forward(&before_last, &angles, caches, 1)?;
        self.norm.forward(&hidden.squeeze(1)?)
    }

    /// Projects normalised hidden states `(…, hidden)` to logits `(…, vocabulary)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.product(hidden)?.to_dtype(DType::F32)
    }

    /// Computes the angles of the next `count` tokens of each sequence in a layer, rounded to the
    /// model's dtype as in the reference.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn angles(&self, layer: usize, caches: &[KvCache], count: usize) -> Result<Angles> {
        let lengths =
            caches.iter().map(|cache| cache.text_len(layer)).collect::<Result<Vec<_>>>()?;
        let positions = lengths.into_iter().flat_map(|length| length..length + count);
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
        let mlp = tensors.pp("mlp");
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: Attention::new(config, generation, index, &tensors.pp("self_attn"))?,
            post_norm: norm("post_attention_layernorm")?,
            gate_up: mlp.matrix(hidden, &[("gate_proj", inner), ("up_proj", inner)])?,
            down: mlp.matrix(inner, &[("down_proj", hidden)])?,
        })
    }

    /// Returns the attention.
    pub fn attention(&self) -> &Attention {
        &self.attention
    }

    /// Returns the norm before the attention, used for text and images.
    pub fn input_norm(&self) -> &RmsNorm {
        &self.input_norm
    }

    /// Runs the layer on the next tokens of each sequence, for the last `query_count` of them.
    ///
    /// # Shapes
    /// - `xs`: `(sequences, n, hidden)`
    /// - `angles`: a row for each token, `(sequences · n, head_dim / 2)`
    /// - `caches`: one for each sequence
    /// - result: `(sequences, query_count, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(
        &self,
        xs: &Tensor,
        angles: &Angles,
        caches: &mut [KvCache],
        query_count: usize,
    ) -> Result<Tensor> {
        let attended = self.attend(xs, angles, caches, query_count)?;
        let shortcut = xs.narrow(1, xs.dim(1)? - query_count, query_count)?.contiguous()?;
        self.finish(&attended.output, &shortcut)
    }

    /// The first half of [`DecoderLayer::forward`]: norm and attention, before the output
    /// projection.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn attend(
        &self,
        xs: &Tensor,
        angles: &Angles,
        caches: &mut [KvCache],
        query_count: usize,
    ) -> Result<Attended> {
        self.attention.attend(&self.input_norm.forward(xs)?, angles, caches, query_count)
    }

    /// The second half of [`DecoderLayer::forward`]: output projection and MLP.
    ///
    /// # Shapes
    /// - `attended`: `(sequences, n, hidden)`, see [`Attended::output`]
    /// - `shortcut`: `(sequences, n, hidden)`, the layer's input
    /// - result: `(sequences, n, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn finish(&self, attended: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        // 1. Attention's output projection and residual.
        let xs = add_residual(self.attention.out().product(attended)?, shortcut)?;
        // 2. MLP: [gate | up] in one product, silu(gate) · up, down.
        let gate_up = self.gate_up.product(&self.post_norm.forward(&xs)?)?;
        let mlp = self.down.product(&silu_gate(&gate_up)?)?;
        // 3. Residual.
        add_residual(mlp, &xs)
    }
}
