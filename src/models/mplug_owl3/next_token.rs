//! The next token's distribution over the whole vocabulary, reduced on the device.

use candle_core::{D, DType, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::mplug_owl3::qwen2::Decoder;

/// The most probable next token of a text, and the share of probability on no level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NextToken {
    /// The most probable token of all rows of the head; the first of equal ones.
    pub likeliest: u32,
    /// The probability that the next token is none of the level tokens, in 0..=1; NaN if the logits
    /// are not numbers.
    pub off_level: f64,
}

/// Terms of a vocabulary that are added before their sums are. One sum of 150,000 terms in f32
/// loses four digits.
const BLOCK: usize = 512;

/// Summarises the next token of each text.
///
/// # Shapes
/// - `hidden`: `(n, hidden)`, after the last norm
/// - `level_tokens`: `(levels)` u32, on the decoder's device
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub fn next_tokens(
    decoder: &Decoder,
    hidden: &Tensor,
    level_tokens: &Tensor,
) -> Result<Vec<NextToken>> {
    let logits = decoder.logits(hidden)?.to_dtype(DType::F32)?;
    let likeliest = logits.argmax(D::Minus1)?;
    let weights = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    let on_level = weights.index_select(level_tokens, 1)?.sum(D::Minus1)?;
    let shares = (on_level / sum_of_rows(&weights)?)?;
    let likeliest = to_cpu(&likeliest)?.to_vec1::<u32>()?;
    let shares = to_cpu(&shares)?.to_vec1::<f32>()?;
    // `clamp` keeps NaN, which `max` would hide.
    let off_level = |share: f32| (1.0 - f64::from(share)).clamp(0.0, 1.0);
    let each = likeliest.into_iter().zip(shares);
    Ok(each
        .map(|(likeliest, share)| NextToken { likeliest, off_level: off_level(share) })
        .collect())
}

/// Sums each row of `(n, vocabulary)`. Returns `(n)`.
fn sum_of_rows(weights: &Tensor) -> Result<Tensor> {
    let (rows, columns) = weights.dims2()?;
    let in_blocks = columns / BLOCK * BLOCK;
    let rest = weights.narrow(1, in_blocks, columns - in_blocks)?.sum(1)?;
    if in_blocks == 0 {
        return Ok(rest);
    }
    let blocks = weights.narrow(1, 0, in_blocks)?.reshape((rows, in_blocks / BLOCK, BLOCK))?;
    blocks.sum(2)?.sum(1)? + rest
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_of_every_length_are_summed() {
        for columns in [1, 511, 512, 513, 2000] {
            let ones = Tensor::ones((2, columns), DType::F32, &Device::Cpu).unwrap();
            let sums: Vec<f32> = sum_of_rows(&ones).unwrap().to_vec1().unwrap();
            assert_eq!(sums, [columns as f32; 2], "{columns}");
        }
    }
}
