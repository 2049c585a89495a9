//! The state of a text that was read so far: what the decoder continues from.

use candle_core::Tensor;

/// The state of one sequence, layer by layer. A clone shares the tensors.
#[derive(Debug, Clone)]
pub struct State {
    layers: Vec<LayerState>,
    tokens: usize,
    next_position: u32,
}

/// The state of a layer.
#[derive(Debug, Clone)]
pub enum LayerState {
    /// Of a linear layer.
    Linear {
        /// The last inputs of the convolution, `(3, channels)` f32, the latest last.
        history: Tensor,
        /// `(value_heads, key_dim, value_dim)` f32.
        memory: Tensor,
    },
    /// Of a full layer: `(1, tokens, 2 · kv_heads · head_dim)`, the keys of all heads, rotated to
    /// their positions, then the values of all heads. `None` before the first token.
    Full(Option<Tensor>),
}

impl State {
    pub(crate) fn new(layers: Vec<LayerState>) -> Self {
        Self { layers, tokens: 0, next_position: 0 }
    }

    /// Returns the number of tokens that were read.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the position of the next token of text.
    pub fn next_position(&self) -> u32 {
        self.next_position
    }

    /// Counts tokens that all layers have read.
    pub(crate) fn advance(&mut self, tokens: usize, next_position: u32) {
        self.tokens += tokens;
        self.next_position = next_position;
    }

    /// Returns the state of a layer.
    pub fn layer(&self, layer: usize) -> &LayerState {
        &self.layers[layer]
    }

    pub(crate) fn set_layer(&mut self, layer: usize, state: LayerState) {
        self.layers[layer] = state;
    }
}
