//! Rotary position embedding, the half-split form (`rotate_half`).

use candle_core::{DType, Device, Result, Tensor};

use crate::models::kernels;
use crate::models::ops::{self, TensorOps, cat, to_device};

/// The rotary frequencies of a head, from which the angles of positions are computed.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `theta^(−2i/head_dim)`, the fastest rotating pair first.
    frequencies: Vec<f32>,
}

/// The cosines and sines of some rows, each `(rows, head_dim / 2)` f32.
#[derive(Debug, Clone)]
pub struct Angles {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotary {
    /// Computes the frequencies of heads of `head_dim` values.
    pub fn new(head_dim: usize, theta: f32) -> Self {
        let frequency = |pair| 1.0 / theta.powf(2.0 * pair as f32 / head_dim as f32);
        Self { frequencies: (0..head_dim / 2).map(frequency).collect() }
    }

    /// Computes the angles of rows at these positions, and rounds cosines and sines to `dtype`, as
    /// a model's reference does that computes them in that dtype.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn at(
        &self,
        positions: impl Iterator<Item = usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Angles> {
        let turns = |position| self.frequencies.iter().map(move |&f| position as f32 * f);
        let angles: Vec<f32> = positions.flat_map(turns).collect();
        let shape = (angles.len() / self.frequencies.len(), self.frequencies.len());
        let of = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| function(angle)).collect();
            let exact = Tensor::from_vec(values, shape, &Device::Cpu)?;
            to_device(&exact.to_dtype(dtype)?.to_dtype(DType::F32)?, device)
        };
        Ok(Angles { cosines: of(f32::cos)?, sines: of(f32::sin)? })
    }
}

impl Angles {
    /// Rotates the first `heads` heads of each row, `(sequences · n, columns)` for angles of `n`
    /// rows, and leaves the columns after them unchanged. May overwrite `rows`; their storage must
    /// not be shared.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn rotate(&self, rows: Tensor, heads: usize) -> Result<Tensor> {
        if kernels::accepts(&rows) {
            kernels::rotate(rows, &self.cosines, &self.sines, heads)
        } else {
            self.plain(&rows, heads)
        }
    }

    /// Repeats each row `run` times.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn repeated(&self, run: usize) -> Result<Self> {
        let (count, half) = self.cosines.dims2()?;
        let repeated = |table: &Tensor| {
            table.unsqueeze(1)?.broadcast_as((count, run, half))?.reshaped((count * run, half))
        };
        Ok(Self { cosines: repeated(&self.cosines)?, sines: repeated(&self.sines)? })
    }

    fn plain(&self, rows: &Tensor, heads: usize) -> Result<Tensor> {
        let (all, columns) = rows.dims2()?;
        let (count, half) = self.cosines.dims2()?;
        let rotated = 2 * half * heads;
        // The library's operation in a half format would round every product.
        let heads = rows.narrow(1, 0, rotated)?.cast(DType::F32)?.reshaped((
            all / count,
            count,
            heads,
            2 * half,
        ))?;
        let turned = ops::rotate(&heads, &self.cosines, &self.sines)?
            .reshaped((all, rotated))?
            .cast(rows.dtype())?;
        if rotated == columns {
            return Ok(turned);
        }
        cat(&[&turned, &rows.narrow(1, rotated, columns - rotated)?], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        for (rows, head_dim, heads, columns) in [(1, 2, 1, 2), (7, 16, 3, 80), (40, 128, 2, 256)] {
            let positions = (0..rows).map(|row| 3 * row);
            let angles = Rotary::new(head_dim, 1e6).at(positions, DType::F32, &Device::Cpu)?;
            // Three sequences with the same positions.
            let values = random(0.0, 2.0, &[3 * rows, columns])?;
            let ours = angles.rotate(values.copy()?, heads)?;
            assert_close(&ours, &angles.plain(&values, heads)?, 1e-6)?;
        }
        Ok(())
    }

    #[test]
    fn a_quarter_turn_moves_the_first_half_into_the_second() -> Result<()> {
        let quarter = Angles {
            cosines: Tensor::new(&[[0_f32]], &Device::Cpu)?,
            sines: Tensor::new(&[[1_f32]], &Device::Cpu)?,
        };
        let rotated = quarter.rotate(Tensor::new(&[[2_f32, 3.0, 5.0]], &Device::Cpu)?, 1)?;
        assert_eq!(rotated.to_vec2::<f32>()?, [[-3.0, 2.0, 5.0]]);
        Ok(())
    }
}
