//! A short causal convolution along the rows of packed sequences, each channel by itself, then
//! SiLU.

use candle_core::{Result, Tensor};
use pulp::Simd;

use crate::models::kernels::row_op::{RowOp, each_row};
use crate::models::kernels::values::Values;
use crate::models::kernels::vector;

/// Rows that a result is computed from: its own and those before it.
pub(crate) const TAPS: usize = 4;

/// Convolves the first channels of `rows (rows, columns)` with `taps (TAPS, channels)`. `lengths`
/// are the rows of each sequence, `histories` its `(TAPS − 1, channels)` rows before them.
pub(crate) fn causal_conv(
    rows: &Tensor,
    taps: &Tensor,
    lengths: &[usize],
    histories: &[Tensor],
) -> Result<Tensor> {
    let (count, columns) = rows.dims2()?;
    let channels = taps.dim(1)?;
    let (source, taps) = (Values::of(rows)?, Values::of(taps)?);
    let histories = histories.iter().map(Values::of).collect::<Result<Vec<Values<'_>>>>()?;
    let histories: Vec<&[f32]> = histories.iter().map(|history| &**history).collect();
    let positions = lengths.iter().enumerate();
    let positions = positions.flat_map(|(sequence, &length)| {
        (0..length).map(move |offset| RowPosition { sequence, offset })
    });
    let positions: Vec<RowPosition> = positions.collect();
    let op = Convolution {
        source: &source,
        columns,
        channels,
        taps: &taps,
        histories: &histories,
        positions: &positions,
    };
    let mut values = vec![0.0; count * channels];
    each_row(&mut values, channels, &op);
    Tensor::from_vec(values, (count, channels), rows.device())
}

/// The sequence of a row, and the number of rows before it in the sequence.
#[derive(Clone, Copy)]
struct RowPosition {
    sequence: usize,
    offset: usize,
}

struct Convolution<'a> {
    source: &'a [f32],
    columns: usize,
    channels: usize,
    taps: &'a [f32],
    histories: &'a [&'a [f32]],
    positions: &'a [RowPosition],
}

impl RowOp for Convolution<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, index: usize, row: &mut [f32]) {
        let RowPosition { sequence, offset } = self.positions[index];
        let mut inputs: [&[f32]; TAPS] = [&[]; TAPS];
        let mut taps = inputs;
        for tap in 0..TAPS {
            // The last tap is the row's own.
            let start = if offset + tap < TAPS - 1 {
                &self.histories[sequence][(offset + tap) * self.channels..]
            } else {
                &self.source[(index + tap + 1 - TAPS) * self.columns..]
            };
            inputs[tap] = &start[..self.channels];
            taps[tap] = &self.taps[tap * self.channels..][..self.channels];
        }
        vector::convolve_silu(simd, row, inputs, taps);
    }
}
