//! Rotary position embedding, the half-split form (`rotate_half`).

use candle_core::{D, DType, Device, Result, Tensor};

use crate::models::kernels;

/// The rotary frequencies of a head, from which the angles of positions are computed.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `theta^(−2i/head_dim)`, the fastest rotating pair first.
    frequencies: Vec<f32>,
}

/// The cosines and sines of rows, each `(rows, head_dim / 2)` f32.
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

    /// Computes the angles of rows at these positions, in single precision.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn at(&self, positions: impl Iterator<Item = usize>, device: &Device) -> Result<Angles> {
        let turns = |position| self.frequencies.iter().map(move |&f| position as f32 * f);
        let angles: Vec<f32> = positions.flat_map(turns).collect();
        let shape = (angles.len() / self.frequencies.len(), self.frequencies.len());
        let of = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| function(angle)).collect();
            Tensor::from_vec(values, shape, device)
        };
        Ok(Angles { cosines: of(f32::cos)?, sines: of(f32::sin)? })
    }
}

impl Angles {
    /// Rounds to a dtype, for a model whose reference computes its angles in that dtype.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn rounded_to(&self, dtype: DType) -> Result<Self> {
        let round = |tensor: &Tensor| tensor.to_dtype(dtype)?.to_dtype(DType::F32);
        Ok(Self { cosines: round(&self.cosines)?, sines: round(&self.sines)? })
    }

    /// Rotates the first `heads` heads of each row, `(rows, columns)`, and leaves the columns after
    /// them unchanged. May overwrite `rows`; their storage must not be shared.
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

    fn plain(&self, rows: &Tensor, heads: usize) -> Result<Tensor> {
        let (count, columns) = rows.dims2()?;
        let half = self.cosines.dim(1)?;
        let rotated = 2 * half * heads;
        // (rows, heads, 2, half): the two halves of each head are the coordinates of its pairs.
        let pairs = rows
            .narrow(1, 0, rotated)?
            .contiguous()?
            .to_dtype(DType::F32)?
            .reshape((count, heads, 2, half))?;
        let (first, second) = (pairs.narrow(2, 0, 1)?, pairs.narrow(2, 1, 1)?);
        let shape = (count, 1, 1, half);
        let (cosines, sines) = (self.cosines.reshape(shape)?, self.sines.reshape(shape)?);
        let turn = |along: &Tensor, across: &Tensor| {
            along.broadcast_mul(&cosines)? + across.broadcast_mul(&sines)?
        };
        let heads = Tensor::cat(&[turn(&first, &second.neg()?)?, turn(&second, &first)?], 2)?
            .reshape((count, rotated))?
            .to_dtype(rows.dtype())?;
        if rotated == columns {
            return Ok(heads);
        }
        Tensor::cat(&[heads, rows.narrow(1, rotated, columns - rotated)?], D::Minus1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        for (rows, head_dim, heads, columns) in [(1, 2, 1, 2), (7, 16, 3, 80), (40, 128, 2, 256)] {
            let angles =
                Rotary::new(head_dim, 1e6).at((0..rows).map(|row| 3 * row), &Device::Cpu)?;
            let values = random(0.0, 2.0, &[rows, columns])?;
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
