//! The whole network.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::models::device::forward;
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{cat, to_device};
use crate::models::qwen3_5_vl::config::Config;
use crate::models::qwen3_5_vl::position::{Position, image_positions, text_positions};
use crate::models::qwen3_5_vl::processor::{Grid, Patches, normalise};
use crate::models::qwen3_5_vl::state::State;
use crate::models::qwen3_5_vl::text::{Decoder, TokenTables};
use crate::models::qwen3_5_vl::vision::VisionModel;

/// A Qwen3.5-VL of any size.
#[derive(Debug, Clone)]
pub struct Qwen3_5Vl {
    config: Config,
    vision: VisionModel,
    decoder: Decoder,
    dtype: DType,
    device: Device,
}

/// An image in tokens.
#[derive(Debug, Clone)]
pub struct EncodedImage {
    /// `(tokens, hidden)`.
    pub tokens: Tensor,
    /// The patches' places.
    pub grid: Grid,
}

/// A part of a sequence.
#[derive(Debug, Clone)]
pub enum Part<'a> {
    /// Embedded tokens of text, `(tokens, hidden)`.
    Text(&'a Tensor),
    /// An image.
    Image(&'a EncodedImage),
}

/// The next parts of a sequence that continues from a state.
pub type Parts<'a> = Vec<Part<'a>>;

impl Qwen3_5Vl {
    /// Builds the network from tensors with the checkpoint's names, and from its tables of tokens.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, tensors: &Tensors<'_>, tables: TokenTables) -> Result<Self> {
        let model = tensors.pp("model");
        Ok(Self {
            vision: VisionModel::new(&config.vision_config, &model.pp("visual"))?,
            decoder: Decoder::new(&config.text_config, &model.pp("language_model"), tables)?,
            config: config.clone(),
            dtype: tensors.vb().dtype(),
            device: tensors.vb().device().clone(),
        })
    }

    /// Encodes images.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn encode(&self, images: &[Patches]) -> Result<Vec<EncodedImage>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let samples: Vec<&Tensor> = images.iter().map(|image| &image.samples).collect();
        let samples = to_device(&cat(&samples, 0)?, &self.device)?;
        let grids: Vec<Grid> = images.iter().map(|image| image.grid).collect();
        let tokens = forward(&self.device, || self.vision.forward(&normalise(&samples)?, &grids))?;
        let mut first = 0;
        let encoded = grids.into_iter().map(|grid| {
            let tokens = tokens.narrow(0, first, grid.tokens())?;
            first += grid.tokens();
            Ok(EncodedImage { tokens, grid })
        });
        encoded.collect()
    }

    /// Reads the next parts of packed sequences, and updates their states. Returns the last token
    /// of each after the last norm, `(sequences, hidden)`.
    ///
    /// # Errors
    /// Fails on a sequence without a token, and on mismatched shapes, dtypes or devices.
    pub fn read(&self, sequences: &[Parts<'_>], states: &mut [State]) -> Result<Tensor> {
        let inputs = self.inputs(sequences, states)?;
        forward(&self.device, || {
            let tables = self.decoder.tables(&inputs.positions, states)?;
            let hidden = self.decoder.run_to_end(inputs.rows.clone(), &tables, states)?;
            inputs.advance(states);
            Ok(hidden)
        })
    }

    /// Reads the next parts of packed sequences as [`Qwen3_5Vl::read`] does. Returns all tokens
    /// before the last norm, `(rows, hidden)`.
    ///
    /// # Errors
    /// Fails on a sequence without a token, and on mismatched shapes, dtypes or devices.
    pub fn read_all(&self, sequences: &[Parts<'_>], states: &mut [State]) -> Result<Tensor> {
        let inputs = self.inputs(sequences, states)?;
        forward(&self.device, || {
            let tables = self.decoder.tables(&inputs.positions, states)?;
            let rows = self.decoder.run(inputs.rows.clone(), &tables, states, |_| Ok(()))?;
            inputs.advance(states);
            Ok(rows)
        })
    }

    /// Embeds and packs the next parts of sequences.
    ///
    /// # Errors
    /// Fails on a sequence without a token, and on mismatched shapes, dtypes or devices.
    pub fn inputs(&self, sequences: &[Parts<'_>], states: &[State]) -> Result<Inputs> {
        debug_assert_eq!(sequences.len(), states.len(), "each sequence has a state");
        let (mut rows, mut all, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (parts, state) in sequences.iter().zip(states) {
            let (mut positions, mut next) = (Vec::new(), state.next_position());
            for part in parts {
                let (tokens, (of_part, end)) = match part {
                    Part::Text(tokens) => (*tokens, text_positions(tokens.dim(0)?, next)),
                    Part::Image(image) => (&image.tokens, image_positions(image.grid, next)),
                };
                rows.push(tokens);
                positions.extend(of_part);
                next = end;
            }
            if positions.is_empty() {
                bail!("a sequence has no token");
            }
            all.push(positions);
            ends.push(next);
        }
        Ok(Inputs { rows: cat(&rows, 0)?, positions: all, next: ends })
    }

    /// Returns the shape of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the vision tower.
    pub fn vision(&self) -> &VisionModel {
        &self.vision
    }

    /// Returns the language model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the device that the network runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the dtype that the network runs in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// The next tokens of packed sequences.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `(rows, hidden)`.
    pub rows: Tensor,
    /// The positions of each sequence's tokens.
    pub positions: Vec<Vec<Position>>,
    /// The position of the token behind each sequence.
    pub next: Vec<u32>,
}

impl Inputs {
    /// Counts the tokens in the states that have read them.
    fn advance(&self, states: &mut [State]) {
        for ((state, positions), next) in states.iter_mut().zip(&self.positions).zip(&self.next) {
            state.advance(positions.len(), *next);
        }
    }
}
