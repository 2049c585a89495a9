//! The feature pyramid on top of the trunk (`sam2/modeling/backbones/image_encoder.py`).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::Linear;
use crate::models::ops::TensorOps;
use crate::models::sam2::config::Config;
use crate::models::sam2::load::pointwise;

/// One pointwise convolution for each stage. Level 0 is the finest; level 3 is added to level 2.
#[derive(Debug, Clone)]
pub struct Neck {
    /// One for each level, the finest first. The checkpoint counts from the coarsest.
    levels: Vec<Linear>,
}

impl Neck {
    /// Loads the weights below `image_encoder.neck`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let last = config.trunk.stages.len() - 1;
        let level = |level: usize| {
            let vb = vb.pp(format!("convs.{}.conv", last - level));
            pointwise(config.trunk.embed_dim << level, config.d_model, &vb)
        };
        Ok(Self { levels: (0..=last).map(level).collect::<Result<_>>()? })
    }

    /// Maps each stage's map, the finest first, to one of `d_model` channels. The last one is
    /// included, which the reference drops afterwards.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(&self, stages: &[Tensor]) -> Result<Vec<Tensor>> {
        let levels = self.levels.iter().zip(stages);
        let mut maps =
            levels.map(|(level, stage)| level.forward(stage)).collect::<Result<Vec<_>>>()?;
        maps[2] = maps[2].plus(&repeated(&maps[3])?)?;
        Ok(maps)
    }
}

/// Repeats each token twice along both axes.
fn repeated(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    map.reshaped(&[batch, height, 1, width, 1, channels])?
        .broadcast_as(&[batch, height, 2, width, 2, channels][..])?
        .dense()?
        .reshaped((batch, 2 * height, 2 * width, channels))
}
