//! The language model: Qwen2, with some layers that attend to images.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::models::layers::{Matrix, RmsNorm, Rotary, add_residual, silu_gate};
use crate::models::mplug_owl3::config::{Config, Generation};
use crate::models::mplug_owl3::hyper_attention::{Attended, Attention};
use crate::models::mplug_owl3::kv_cache::KvCache;
use crate::models::mplug_owl3::named_tensors::Tensors;
use crate::models::mplug_owl3::run_tables::RunTables;
use crate::models::ops::{TensorOps, upload};

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

    /// Creates an empty cache for some sequences.
    pub fn empty_cache(&self, sequences: usize) -> KvCache {
        KvCache::new(sequences, self.layers.len())
    }

    /// Embeds rows of tokens of one length: `(rows, tokens, hidden)`.
    ///
    /// # Errors
    /// Fails on a token that the embedding does not have.
    pub fn embed(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let ids: Vec<u32> = rows.concat();
        let shape = (rows.len(), ids.len() / rows.len().max(1), self.embedding.width()?);
        let count = ids.len();
        let ids = upload(ids, count, &self.device)?;
        self.embedding.rows(&ids)?.cast(self.dtype)?.reshaped(shape)
    }

    /// Stores the keys and values of images in the cache, once for each hyper layer.
    ///
    /// # Shapes
    /// - `embeds`: `(images, tokens, hidden)`, the images of the first sequence, then those of the
    ///   second, …
    /// - `starts`: for each image of a sequence, the first token of its placeholder; equal in all
    ///   sequences
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn cache_image_kv(
        &self,
        embeds: &Tensor,
        cache: &mut KvCache,
        starts: &[usize],
    ) -> Result<()> {
        let (images, tokens, _) = embeds.dims3()?;
        debug_assert_eq!(cache.sequences() * starts.len(), images, "each image has a position");
        cache.set_images(starts, tokens);
        if images == 0 {
            return Ok(());
        }
        // All keys of an image are at one position: a row of angles, repeated on the device.
        let offset = self.generation.image_offset();
        let positions = starts.iter().map(|start| start + offset);
        let angles = self.rotary.at(positions, self.dtype, &self.device)?.repeated(tokens)?;
        let hyper_layers =
            self.layers.iter().enumerate().filter(|(_, layer)| layer.attention.is_hyper());
        for (index, layer) in hyper_layers {
            let kv = layer.attention.image_rows(&layer.input_norm.forward(embeds)?)?;
            let rows = angles.rotate(kv.flatten(0, 1)?, layer.attention.heads().kv_heads)?;
            let shape = (cache.sequences(), starts.len() * tokens, rows.dim(1)?);
            cache.set_image_rows(index, rows.reshaped(shape)?);
        }
        Ok(())
    }

    /// Runs a range of layers on the next tokens of each sequence, and appends their keys and
    /// values to the cache.
    ///
    /// # Shapes
    /// - `xs`: `(sequences, n, hidden)`
    /// - result: `(sequences, n, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn run(&self, xs: Tensor, layers: Range<usize>, cache: &mut KvCache) -> Result<Tensor> {
        let count = xs.dim(1)?;
        let tables = self.tables(layers.start, cache, count, count)?;
        self.run_with(xs, layers, &tables, cache)
    }

    fn run_with(
        &self,
        mut xs: Tensor,
        layers: Range<usize>,
        tables: &RunTables,
        cache: &mut KvCache,
    ) -> Result<Tensor> {
        for layer in &self.layers[layers] {
            xs = layer.forward(&xs, tables, cache)?;
        }
        Ok(xs)
    }

    /// Runs the layers starting at `first`, and the last norm, for the last token of each sequence.
    /// The last layer computes only keys and values for the other tokens.
    ///
    /// # Shapes
    /// - `xs`: `(sequences, n, hidden)`
    /// - result: `(sequences, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn run_to_end(&self, xs: Tensor, first: usize, cache: &mut KvCache) -> Result<Tensor> {
        let last = self.layers.len() - 1;
        let count = xs.dim(1)?;
        let tables = self.tables(first, cache, count, count)?;
        let of_last = self.tables(last, cache, count, 1)?;
        let before_last = self.run_with(xs, first..last, &tables, cache)?;
        let hidden = self.layers[last].forward(&before_last, &of_last, cache)?;
        self.norm.forward(&hidden.squeeze(1)?)
    }

    /// Projects normalised hidden states `(…, hidden)` to logits `(…, vocabulary)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.product(hidden)?.cast(DType::F32)
    }

    /// Creates the tables of the next `count` tokens in a layer, of which the last `queries`
    /// attend. The angles are rounded to the model's dtype as in the reference.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn tables(
        &self,
        layer: usize,
        cache: &KvCache,
        count: usize,
        queries: usize,
    ) -> Result<RunTables> {
        let len = cache.text_len(layer)?;
        let angles = self.rotary.at(len..len + count, self.dtype, &self.device)?;
        let offset = self.generation.image_offset();
        Ok(RunTables::new(angles, len + count, queries, cache, offset))
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

    /// Runs the layer on the next tokens of each sequence, for as many of the last as the tables
    /// have queries.
    ///
    /// # Shapes
    /// - `xs`: `(sequences, n, hidden)`
    /// - result: `(sequences, queries, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor, tables: &RunTables, cache: &mut KvCache) -> Result<Tensor> {
        let attended = self.attend(xs, tables, cache)?;
        let queries = tables.queries();
        let shortcut = xs.narrow(1, xs.dim(1)? - queries, queries)?.dense()?;
        self.finish(&attended.output, &shortcut)
    }

    /// The first half of [`DecoderLayer::forward`]: norm and attention, before the output
    /// projection.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn attend(&self, xs: &Tensor, tables: &RunTables, cache: &mut KvCache) -> Result<Attended> {
        self.attention.attend(&self.input_norm.forward(xs)?, tables, cache)
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
