//! The feature pyramid on top of the trunk (`sam2/modeling/backbones/image_encoder.py`).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::Config;
use super::load::pointwise;
use crate::models::layers::Linear;

/// One pointwise convolution for each stage; level 2 takes in level 3. Level 0 is the finest.
#[derive(Debug, Clone)]
pub struct Neck {
    /// By level, the finest first. The checkpoint counts them from the coarsest.
    levels: Vec<Linear>,
}

impl Neck {
    /// Opens the weights below `image_encoder.neck`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let last = config.trunk.stages.len() - 1;
        let level = |level: usize| {
            let vb = vb.pp(format!("convs.{}.conv", last - level));
            pointwise(config.trunk.embed_dim << level, config.d_model, &vb)
        };
        Ok(Self { levels: (0..=last).map(level).collect::<Result<_>>()? })
    }

    /// The stages' maps, the finest first, to as many maps of `d_model` channels. The last one, which
    /// the reference drops afterwards, is among them.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn forward(&self, stages: &[Tensor]) -> Result<Vec<Tensor>> {
        let maps = self.levels.iter().zip(stages).map(|(level, stage)| level.forward(stage));
        let mut maps = maps.collect::<Result<Vec<_>>>()?;
        maps[2] = (&maps[2] + repeated(&maps[3])?)?;
        Ok(maps)
    }
}

/// Each token twice along both sides.
fn repeated(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    map.reshape(&[batch, height, 1, width, 1, channels][..])?
        .broadcast_as(&[batch, height, 2, width, 2, channels][..])?
        .contiguous()?
        .reshape((batch, 2 * height, 2 * width, channels))
}
