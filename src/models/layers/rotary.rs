//! Rotary position embedding, the half-split form (`rotate_half`).

use candle_core::{D, DType, Device, Result, Tensor};
use pulp::Simd;

use super::cpu::{RowOp, Values, each_row, in_place, takes};

/// Angles of positions, to turn the heads of rows by.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `theta^(−2i/head_dim)`, from the fastest turning pair to the slowest.
    frequencies: Vec<f32>,
}

/// Cosines and sines of rows, each `(rows, head_dim / 2)` f32.
#[derive(Debug, Clone)]
pub struct Angles {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotary {
    /// The frequencies of heads of so many values.
    pub fn new(head_dim: usize, theta: f32) -> Self {
        let frequency = |pair| 1.0 / theta.powf(2.0 * pair as f32 / head_dim as f32);
        Self { frequencies: (0..head_dim / 2).map(frequency).collect() }
    }

    /// The angles of rows at these positions, in single precision.
    ///
    /// # Errors
    /// What candle says of the device.
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
    /// Rounded to a dtype, as a model has them that computes its angles in it.
    ///
    /// # Errors
    /// What candle says of the device.
    pub fn rounded_to(&self, dtype: DType) -> Result<Self> {
        let round = |tensor: &Tensor| tensor.to_dtype(dtype)?.to_dtype(DType::F32);
        Ok(Self { cosines: round(&self.cosines)?, sines: round(&self.sines)? })
    }

    /// Turns the first `heads` heads of each row, `(rows, columns)`, and leaves the columns behind
    /// them. `rows` must be nobody else's.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn turn(&self, rows: Tensor, heads: usize) -> Result<Tensor> {
        if takes(&rows) { self.fused(rows, heads) } else { self.plain(&rows, heads) }
    }

    fn plain(&self, rows: &Tensor, heads: usize) -> Result<Tensor> {
        let (count, columns) = rows.dims2()?;
        let half = self.cosines.dim(1)?;
        let turned = 2 * half * heads;
        let pairs = rows.narrow(1, 0, turned)?.contiguous()?.to_dtype(DType::F32)?;
        let pairs = pairs.reshape((count, heads, 2, half))?;
        let (first, second) = (pairs.narrow(2, 0, 1)?, pairs.narrow(2, 1, 1)?);
        let shape = (count, 1, 1, half);
        let (cosines, sines) = (self.cosines.reshape(shape)?, self.sines.reshape(shape)?);
        let turn = |along: &Tensor, across: &Tensor| {
            along.broadcast_mul(&cosines)? + across.broadcast_mul(&sines)?
        };
        let pairs = Tensor::cat(&[turn(&first, &second.neg()?)?, turn(&second, &first)?], 2)?;
        let pairs = pairs.reshape((count, turned))?.to_dtype(rows.dtype())?;
        if turned == columns {
            return Ok(pairs);
        }
        Tensor::cat(&[pairs, rows.narrow(1, turned, columns - turned)?], D::Minus1)
    }

    fn fused(&self, rows: Tensor, heads: usize) -> Result<Tensor> {
        let (cosines, sines) = (Values::of(&self.cosines)?, Values::of(&self.sines)?);
        let columns = rows.dim(1)?;
        let op = Turn { cosines: &cosines, sines: &sines, half: self.cosines.dim(1)?, heads };
        in_place(rows, |values| each_row(values, columns, &op))
    }
}

struct Turn<'a> {
    cosines: &'a [f32],
    sines: &'a [f32],
    half: usize,
    heads: usize,
}

impl RowOp for Turn<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, _: S, index: usize, row: &mut [f32]) {
        let part = index * self.half..(index + 1) * self.half;
        let (cosines, sines) = (&self.cosines[part.clone()], &self.sines[part]);
        for head in row.chunks_exact_mut(2 * self.half).take(self.heads) {
            let (first, second) = head.split_at_mut(self.half);
            let pairs = first.iter_mut().zip(second).zip(cosines.iter().zip(sines));
            for ((x, y), (cosine, sine)) in pairs {
                (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn the_op_equals_the_plain_form() -> Result<()> {
        for (rows, head_dim, heads, columns) in [(1, 2, 1, 2), (7, 16, 3, 80), (40, 128, 2, 256)] {
            let angles =
                Rotary::new(head_dim, 1e6).at((0..rows).map(|row| 3 * row), &Device::Cpu)?;
            let values = random(0.0, 2.0, &[rows, columns])?;
            let ours = angles.turn(values.copy()?, heads)?;
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
        let turned = quarter.turn(Tensor::new(&[[2_f32, 3.0, 5.0]], &Device::Cpu)?, 1)?;
        assert_eq!(turned.to_vec2::<f32>()?, [[-3.0, 2.0, 5.0]]);
        Ok(())
    }
}
