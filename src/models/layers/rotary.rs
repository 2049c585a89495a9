//! Rotary position embedding, the half-split form (`rotate_half`).

use candle_core::{DType, Device, Result, Tensor};

use crate::models::kernels;
use crate::models::ops::{self, TensorOps, cat, to_device};

/// The rotary frequencies of a head, from which the angles of positions are computed.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `theta^(−2i/rotated)`, the fastest rotating pair first.
    frequencies: Vec<f32>,
    head_dim: usize,
}

/// The cosines and sines of some rows, each `(rows, rotated / 2)` f32, for the first `rotated`
/// values of each head.
#[derive(Debug, Clone)]
pub struct Angles {
    cosines: Tensor,
    sines: Tensor,
    /// Values in a head, of which those after the first `rotated` stay as they are.
    head_dim: usize,
}

impl Rotary {
    /// Computes the frequencies of heads of `head_dim` values, all of which rotate.
    pub fn new(head_dim: usize, theta: f32) -> Self {
        Self::partial(head_dim, head_dim, theta)
    }

    /// Computes the frequencies of heads of `head_dim` values, of which the first `rotated` rotate.
    pub fn partial(head_dim: usize, rotated: usize, theta: f32) -> Self {
        let frequency = |pair| 1.0 / theta.powf(2.0 * pair as f32 / rotated as f32);
        Self { frequencies: (0..rotated / 2).map(frequency).collect(), head_dim }
    }

    /// Returns the angle of each pair in one position step, the fastest rotating pair first.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
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
        self.of(&positions.flat_map(turns).collect::<Vec<f32>>(), dtype, device)
    }

    /// Takes the angles of rows, one for each pair of a head, and rounds cosines and sines to
    /// `dtype`.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn of(&self, angles: &[f32], dtype: DType, device: &Device) -> Result<Angles> {
        Angles::new(angles, self.frequencies.len(), self.head_dim, dtype, device)
    }
}

impl Angles {
    /// Takes the angles of rows, `pairs` for each, of heads of `head_dim` values. Rounds cosines
    /// and sines to `dtype`.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn new(
        angles: &[f32],
        pairs: usize,
        head_dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let shape = (angles.len() / pairs, pairs);
        let of = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| function(angle)).collect();
            let exact = Tensor::from_vec(values, shape, &Device::Cpu)?;
            to_device(&exact.to_dtype(dtype)?.to_dtype(DType::F32)?, device)
        };
        Ok(Self { cosines: of(f32::cos)?, sines: of(f32::sin)?, head_dim })
    }

    /// Returns the cosines and the sines, each `(rows, rotated / 2)` f32.
    pub fn tables(&self) -> (&Tensor, &Tensor) {
        (&self.cosines, &self.sines)
    }

    /// Rotates the first `heads` heads of each row, `(sequences · n, columns)` for angles of `n`
    /// rows, and leaves the columns after them unchanged. May overwrite `rows`; their storage must
    /// not be shared.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn rotate(&self, rows: Tensor, heads: usize) -> Result<Tensor> {
        if kernels::accepts(&rows) {
            kernels::rotate(rows, (&self.cosines, &self.sines), heads, self.head_dim)
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
        let (cosines, sines) = (repeated(&self.cosines)?, repeated(&self.sines)?);
        Ok(Self { cosines, sines, head_dim: self.head_dim })
    }

    fn plain(&self, rows: &Tensor, heads: usize) -> Result<Tensor> {
        let (all, columns) = rows.dims2()?;
        let (count, half) = self.cosines.dims2()?;
        let (width, rotated) = (self.head_dim * heads, 2 * half);
        // The library's operation in a half format would round every product.
        let heads = rows.narrow(1, 0, width)?.cast(DType::F32)?.reshaped((
            all / count,
            count,
            heads,
            self.head_dim,
        ))?;
        let mut turned = ops::rotate(&heads.narrow(3, 0, rotated)?, &self.cosines, &self.sines)?;
        if rotated < self.head_dim {
            turned = cat(&[&turned, &heads.narrow(3, rotated, self.head_dim - rotated)?], 3)?;
        }
        let turned = turned.reshaped((all, width))?.cast(rows.dtype())?;
        if width == columns {
            return Ok(turned);
        }
        cat(&[&turned, &rows.narrow(1, width, columns - width)?], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        for (rows, head_dim, rotated, heads, columns) in [
            (1, 2, 2, 1, 2),
            (7, 16, 16, 3, 80),
            (40, 128, 128, 2, 256),
            (7, 16, 4, 3, 48),
            (9, 64, 16, 2, 200),
        ] {
            let positions = (0..rows).map(|row| 3 * row);
            let rotary = Rotary::partial(head_dim, rotated, 1e6);
            let angles = rotary.at(positions, DType::F32, &Device::Cpu)?;
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
            head_dim: 3,
        };
        let rows = Tensor::new(&[[2_f32, 3.0, 5.0, 7.0, 1.0, 4.0, 9.0]], &Device::Cpu)?;
        for rotated in [quarter.plain(&rows, 2)?, quarter.rotate(rows, 2)?] {
            assert_eq!(rotated.to_vec2::<f32>()?, [[-3.0, 2.0, 5.0, -1.0, 7.0, 4.0, 9.0]]);
        }
        Ok(())
    }
}
