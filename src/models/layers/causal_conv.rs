//! A short causal convolution along the rows of packed sequences, each channel by itself, then
//! SiLU: in Qwen3.5, before queries, keys and values of a linear layer are split.

use candle_core::{DType, Result, Tensor};

use crate::models::kernels::{self, TAPS, accepts};
use crate::models::layers::sequences::Sequences;
use crate::models::ops::{Function, TensorOps, cat};

/// `silu(Σ weight[c, t] · x[row − 3 + t, c])` for each channel `c`, in `f32`.
#[derive(Debug, Clone)]
pub struct CausalConv {
    /// `(TAPS, channels)` f32.
    taps: Tensor,
}

impl CausalConv {
    /// Rows before a sequence that its first row needs.
    pub const HISTORY: usize = TAPS - 1;

    /// Creates a convolution with a weight `(channels, 1, 4)`.
    ///
    /// # Errors
    /// Fails on a weight of another shape.
    pub fn new(weight: &Tensor) -> Result<Self> {
        let channels = weight.dim(0)?;
        let taps = weight.cast(DType::F32)?.reshaped((channels, TAPS))?.t()?.dense()?;
        Ok(Self { taps })
    }

    /// Convolves the first channels of packed rows.
    ///
    /// # Shapes
    /// - `rows`: `(rows, columns)`; columns after the channels are ignored
    /// - `histories`: for each sequence `(HISTORY, channels)` f32, the rows before its first
    /// - result: `(rows, channels)` f32
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(
        &self,
        rows: &Tensor,
        sequences: &Sequences,
        histories: &[Tensor],
    ) -> Result<Tensor> {
        if accepts(rows) && histories.iter().all(accepts) {
            return kernels::causal_conv(rows, &self.taps, sequences.lengths(), histories);
        }
        let inputs = self.inputs(rows, sequences, histories)?;
        let convolved = inputs.iter().map(|input| self.plain(input));
        let convolved = convolved.collect::<Result<Vec<_>>>()?;
        cat(&convolved.iter().collect::<Vec<_>>(), 0)
    }

    /// Returns the last [`CausalConv::HISTORY`] inputs of each sequence, `(HISTORY, channels)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn histories_after(
        &self,
        rows: &Tensor,
        sequences: &Sequences,
        histories: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let channels = self.taps.dim(1)?;
        let last = sequences.ranges().zip(histories).map(|(range, history)| {
            let count = range.len().min(Self::HISTORY);
            let new = rows.narrow(0, range.end - count, count)?.narrow(1, 0, channels)?;
            let new = new.cast(DType::F32)?;
            if count == Self::HISTORY {
                return new.dense();
            }
            cat(&[&history.narrow(0, count, Self::HISTORY - count)?, &new], 0)
        });
        last.collect()
    }

    /// Returns each sequence's inputs with those before it, `(HISTORY + length, channels)` f32.
    fn inputs(
        &self,
        rows: &Tensor,
        sequences: &Sequences,
        histories: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let channels = self.taps.dim(1)?;
        let wide = rows.narrow(1, 0, channels)?.cast(DType::F32)?;
        let inputs = sequences.ranges().zip(histories);
        inputs
            .map(|(range, history)| cat(&[history, &wide.narrow(0, range.start, range.len())?], 0))
            .collect()
    }

    fn plain(&self, input: &Tensor) -> Result<Tensor> {
        let count = input.dim(0)? - Self::HISTORY;
        let product = |tap| input.narrow(0, tap, count)?.times_repeated(&self.taps.get(tap)?);
        let mut sum = product(0)?;
        for tap in 1..TAPS {
            sum = sum.plus(&product(tap)?)?;
        }
        sum.each(Function::Silu)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form_also_in_parts() -> Result<()> {
        for (channels, columns) in [(3, 3), (37, 50), (256, 300)] {
            let conv = CausalConv::new(&random(0.0, 0.7, &[channels, 1, TAPS])?)?;
            let rows = random(0.1, 1.0, &[16, columns])?;
            let before = random(0.0, 1.0, &[CausalConv::HISTORY, channels])?;
            let sequences = Sequences::new(vec![9, 0, 2, 5]);
            let histories = [before.clone(), before.zeros_like()?, before.clone(), before.clone()];
            let ours = conv.forward(&rows, &sequences, &histories)?;
            let plain = conv.inputs(&rows, &sequences, &histories)?;
            let plain = plain.iter().map(|input| conv.plain(input)).collect::<Result<Vec<_>>>()?;
            assert_close(&ours, &Tensor::cat(&plain, 0)?, 2e-6)?;
            // The first sequence, in two parts.
            for split in 0..9 {
                let first = Sequences::new(vec![split]);
                let part = rows.narrow(0, 0, split)?;
                let after = conv.histories_after(&part, &first, &histories[..1])?;
                let rest = rows.narrow(0, split, 9 - split)?;
                let rest = conv.forward(&rest, &Sequences::new(vec![9 - split]), &after)?;
                assert_close(&rest, &ours.narrow(0, split, 9 - split)?, 0.0)?;
            }
        }
        Ok(())
    }

    #[test]
    fn the_last_tap_is_the_row_itself() -> Result<()> {
        let weight = Tensor::new(&[[[0_f32, 0.0, 2.0, 30.0]]], &Device::Cpu)?;
        let conv = CausalConv::new(&weight)?;
        let rows = Tensor::new(&[[1_f32], [2.0]], &Device::Cpu)?;
        let nothing = [Tensor::zeros((CausalConv::HISTORY, 1), DType::F32, &Device::Cpu)?];
        let found = conv.forward(&rows, &Sequences::new(vec![2]), &nothing)?;
        // SiLU leaves large values as they are.
        assert_close(&found, &Tensor::new(&[[30_f32], [62.0]], &Device::Cpu)?, 1e-5)
    }
}
