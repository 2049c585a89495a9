//! The language model: embedded tokens and image tokens to hidden states.

use candle_core::{DType, Device, Result, Tensor};

use crate::models::layers::{Matrix, RmsNorm, Rotary, add_residual, silu_gate};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::TensorOps;
use crate::models::qwen3_5_vl::attention::Attention;
use crate::models::qwen3_5_vl::config::{LayerType, TextConfig};
use crate::models::qwen3_5_vl::delta_net::DeltaNet;
use crate::models::qwen3_5_vl::position::{Position, token_angles};
use crate::models::qwen3_5_vl::run_tables::RunTables;
use crate::models::qwen3_5_vl::state::{LayerState, State};
use crate::models::qwen3_5_vl::token_table::TokenTable;

/// The tables of tokens.
#[derive(Debug, Clone)]
pub struct TokenTables {
    /// The embedding, `(vocabulary, hidden)`.
    pub embedding: TokenTable,
    /// The output head, `(vocabulary, hidden)`; the embedding itself if the two are tied.
    pub head: TokenTable,
}

/// The decoder.
#[derive(Debug, Clone)]
pub struct Decoder {
    tables: TokenTables,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    rotary: Rotary,
    sections: [usize; 3],
    empty: State,
    dtype: DType,
    device: Device,
}

/// The mixer of a layer.
#[derive(Debug, Clone)]
pub enum Mixer {
    /// A gated delta rule.
    Linear(DeltaNet),
    /// Attention to all tokens before.
    Full(Attention),
}

/// One layer: a mixer, then a gated MLP, each on a normalised copy of its input.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    input_norm: RmsNorm,
    mixer: Mixer,
    post_norm: RmsNorm,
    gate_up: Matrix,
    down: Matrix,
}

impl Decoder {
    /// Builds the decoder.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &TextConfig, tensors: &Tensors<'_>, tables: TokenTables) -> Result<Self> {
        let layer = |index| DecoderLayer::new(config, index, &tensors.pp("layers"));
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<Vec<_>>>()?;
        let empty = layers.iter().map(|layer| match &layer.mixer {
            Mixer::Linear(mixer) => mixer.empty(),
            Mixer::Full(_) => Ok(LayerState::Full(None)),
        });
        let rope = &config.rope_parameters;
        Ok(Self {
            tables,
            empty: State::new(empty.collect::<Result<_>>()?),
            layers,
            norm: offset_norm(config, &tensors.pp("norm"))?,
            rotary: Rotary::partial(config.head_dim, config.rotated(), rope.rope_theta),
            sections: rope.mrope_section,
            dtype: tensors.vb().dtype(),
            device: tensors.vb().device().clone(),
        })
    }

    /// Returns the layers in order.
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    /// Returns the output head.
    pub fn head(&self) -> &TokenTable {
        &self.tables.head
    }

    /// Returns the norm before the output head.
    pub fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    /// Returns the device that the decoder runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the state before the first token.
    pub fn empty_state(&self) -> State {
        self.empty.clone()
    }

    /// Embeds tokens: `(tokens, hidden)`.
    ///
    /// # Errors
    /// Fails on a token that the embedding does not have.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.tables.embedding.rows(tokens, self.dtype, &self.device)
    }

    /// Creates the tables of the next tokens of sequences, by the positions of each. The angles are
    /// rounded to the model's dtype as in the reference.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn tables(&self, positions: &[Vec<Position>], states: &[State]) -> Result<RunTables> {
        let all = positions.concat();
        let angles = token_angles(&all, self.rotary.frequencies(), self.sections);
        let angles = self.rotary.of(&angles, self.dtype, &self.device)?;
        let lengths = positions.iter().map(Vec::len).collect();
        RunTables::new(lengths, angles, states, &self.device)
    }

    /// Runs all layers on the next tokens of packed sequences, and updates their states. Calls
    /// `observe` with the rows after each layer.
    ///
    /// # Shapes
    /// - `xs`: `(rows, hidden)`
    /// - result: `(rows, hidden)`, before the last norm
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices, and if `observe` fails.
    pub fn run(
        &self,
        mut xs: Tensor,
        tables: &RunTables,
        states: &mut [State],
        mut observe: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        for layer in &self.layers {
            xs = layer.forward(&xs, tables, states)?;
            observe(&xs)?;
        }
        Ok(xs)
    }

    /// Runs all layers and the last norm for the last token of each sequence: `(sequences,
    /// hidden)`. The last layer computes only keys and values for the other tokens.
    ///
    /// # Errors
    /// Fails on a network without layers, and on mismatched shapes, dtypes or devices.
    pub fn run_to_end(
        &self,
        mut xs: Tensor,
        tables: &RunTables,
        states: &mut [State],
    ) -> Result<Tensor> {
        let Some((last, before)) = self.layers.split_last() else {
            candle_core::bail!("the network has no layers");
        };
        for layer in before {
            xs = layer.forward(&xs, tables, states)?;
        }
        self.norm.forward(&last.forward_last(&xs, tables, states)?)
    }
}

impl DecoderLayer {
    fn new(config: &TextConfig, index: usize, tensors: &Tensors<'_>) -> Result<Self> {
        let tensors = tensors.pp(index);
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| offset_norm(config, &tensors.pp(name));
        let mlp = tensors.pp("mlp");
        let mixer = match config.layer_type(index) {
            LayerType::Linear => {
                Mixer::Linear(DeltaNet::new(config, index, &tensors.pp("linear_attn"))?)
            }
            LayerType::Full => {
                Mixer::Full(Attention::new(config, index, &tensors.pp("self_attn"))?)
            }
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            mixer,
            post_norm: norm("post_attention_layernorm")?,
            gate_up: mlp.matrix(hidden, &[("gate_proj", inner), ("up_proj", inner)])?,
            down: mlp.matrix(inner, &[("down_proj", hidden)])?,
        })
    }

    /// Returns the mixer.
    pub fn mixer(&self) -> &Mixer {
        &self.mixer
    }

    /// Returns the norm before the mixer.
    pub fn input_norm(&self) -> &RmsNorm {
        &self.input_norm
    }

    /// Returns the norm before the MLP.
    pub fn post_norm(&self) -> &RmsNorm {
        &self.post_norm
    }

    /// Runs the layer on the next tokens of packed sequences, and updates their states.
    ///
    /// # Shapes
    /// - `xs`: `(rows, hidden)`
    /// - result: `(rows, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, xs: &Tensor, tables: &RunTables, states: &mut [State]) -> Result<Tensor> {
        let mixed = self.mix(xs, tables, states)?;
        self.finish(mixed, xs)
    }

    /// Runs the layer as [`DecoderLayer::forward`] does, for the last token of each sequence only:
    /// `(sequences, hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward_last(
        &self,
        xs: &Tensor,
        tables: &RunTables,
        states: &mut [State],
    ) -> Result<Tensor> {
        let normed = self.input_norm.forward(xs)?;
        let mixed = match &self.mixer {
            Mixer::Full(mixer) => mixer.forward_last(&normed, tables, states)?,
            Mixer::Linear(mixer) => {
                let all = mixer.forward(&normed, tables.sequences(), states)?;
                all.entries(tables.last_rows(), 0)?
            }
        };
        self.finish(mixed, &xs.entries(tables.last_rows(), 0)?)
    }

    /// The first half of [`DecoderLayer::forward`]: norm and mixer, before the residual.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn mix(&self, xs: &Tensor, tables: &RunTables, states: &mut [State]) -> Result<Tensor> {
        let normed = self.input_norm.forward(xs)?;
        match &self.mixer {
            Mixer::Linear(mixer) => mixer.forward(&normed, tables.sequences(), states),
            Mixer::Full(mixer) => mixer.forward(&normed, tables, states),
        }
    }

    /// The MLP on normalised rows, before the residual.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn mlp(&self, normed: &Tensor) -> Result<Tensor> {
        // [gate | up] in one product, silu(gate) · up, down.
        self.down.product(&silu_gate(&self.gate_up.product(normed)?)?)
    }

    /// The second half of [`DecoderLayer::forward`]: both residuals and the MLP. May overwrite
    /// `mixed`; its storage must not be shared.
    fn finish(&self, mixed: Tensor, shortcut: &Tensor) -> Result<Tensor> {
        let xs = add_residual(mixed, shortcut)?;
        let mlp = self.mlp(&self.post_norm.forward(&xs)?)?;
        add_residual(mlp, &xs)
    }
}

/// Builds a norm that scales by one more than its weight.
fn offset_norm(config: &TextConfig, tensors: &Tensors<'_>) -> Result<RmsNorm> {
    let weight = tensors.get(config.hidden_size, "weight")?;
    RmsNorm::of_offset(&weight, config.norm_eps())
}
