//! The projection from the vision tower's width to the language model's (`vision2text_model`).

use candle_core::{Result, Tensor};

use crate::models::layers::Linear;
use crate::models::mplug_owl3::config::{Config, Generation};
use crate::models::mplug_owl3::named_tensors::Tensors;

/// One linear layer; in the last generation two, with a GELU between them.
#[derive(Debug, Clone)]
pub struct Projector {
    first: Linear,
    second: Option<Linear>,
}

impl Projector {
    /// Builds the projector of a generation.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, generation: Generation, tensors: &Tensors<'_>) -> Result<Self> {
        let (width, hidden) = (config.vision_config.hidden_size, config.hidden_size);
        Ok(match generation {
            Generation::V240728 | Generation::V241014 => {
                Self { first: tensors.linear(width, hidden)?, second: None }
            }
            Generation::V241101 => Self {
                first: tensors.pp(0).linear(width, hidden)?,
                second: Some(tensors.pp(2).linear(hidden, hidden)?),
            },
        })
    }

    /// `(views, tokens, vision hidden)` to `(views, tokens, hidden)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        match &self.second {
            None => self.first.forward(tokens),
            Some(second) => second.forward(&self.first.forward_gelu(tokens)?),
        }
    }
}
