//! The next token's distribution over the whole vocabulary, reduced on the device.

use candle_core::{Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::mplug_owl3::qwen2::Decoder;
use crate::models::ops::{Function, Reduction, TensorOps, cat, upload};

/// The most probable next token of a text, and the share of probability on no level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NextToken {
    /// The most probable token of all rows of the head; the first of equal ones.
    pub likeliest: u32,
    /// The probability that the next token is none of the level tokens, in 0..=1; NaN if the logits
    /// are not numbers.
    pub off_level: f64,
}

/// Raises the smallest difference of two logits above the number of every token.
const FAR: f64 = 1e20;

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
    let logits = decoder.logits(hidden)?;
    let largest = logits.reduced(Reduction::Max, 1)?;
    let below = logits.minus_repeated(&largest)?;
    let likeliest = first_of_largest(&below)?;
    let weights = below.each(Function::Exp)?;
    let on_level = weights.entries(level_tokens, 1)?.reduced(Reduction::Sum, 1)?;
    // (n, 2), so that one copy brings both.
    let sums = to_cpu(&cat(&[&on_level, &sum_of_rows(&weights)?], 1)?)?;
    let shares = (sums.get_on_dim(1, 0)? / sums.get_on_dim(1, 1)?)?.to_vec1::<f32>()?;
    let likeliest = to_cpu(&likeliest)?.flatten_all()?.to_vec1::<f32>()?;
    // `clamp` keeps NaN, which `max` would hide.
    let off_level = |share: f32| (1.0 - f64::from(share)).clamp(0.0, 1.0);
    let each = likeliest.into_iter().zip(shares);
    Ok(each
        .map(|(token, share)| NextToken { likeliest: number(token), off_level: off_level(share) })
        .collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number of a token, or saturated if the logits are not numbers"
)]
fn number(token: f32) -> u32 {
    token as u32
}

/// Returns the first token of each row whose difference from the largest logit is 0, `(n, 1)` f32,
/// which holds the number of every token exactly. The library's own function returns any of several
/// equal ones on a GPU, and logits in a half format often are equal.
fn first_of_largest(below: &Tensor) -> Result<Tensor> {
    let (_, columns) = below.dims2()?;
    let numbers: Vec<f32> = (0..columns).map(|token| token as f32).collect();
    let numbers = upload(numbers, (1, columns), below.device())?;
    below.affine_of(-FAR, 0.0)?.plus_repeated(&numbers)?.reduced(Reduction::Min, 1)
}

/// Sums each row of `(n, vocabulary)`. Returns `(n, 1)`.
fn sum_of_rows(weights: &Tensor) -> Result<Tensor> {
    let (rows, columns) = weights.dims2()?;
    let in_blocks = columns / BLOCK * BLOCK;
    let rest = weights.narrow(1, in_blocks, columns - in_blocks)?;
    if in_blocks == 0 {
        return rest.reduced(Reduction::Sum, 1);
    }
    let blocks = weights.narrow(1, 0, in_blocks)?.reshaped((rows, in_blocks / BLOCK, BLOCK))?;
    let of_blocks = blocks.reduced(Reduction::Sum, 2)?.reshaped((rows, in_blocks / BLOCK))?;
    let sum = of_blocks.reduced(Reduction::Sum, 1)?;
    if in_blocks == columns {
        return Ok(sum);
    }
    sum.plus(&rest.reduced(Reduction::Sum, 1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn the_first_of_equal_largest_logits_is_found() {
        let logits = [[-4.0_f32, 9.0, 3.0, 9.0], [1e-6, 0.0, 2e-6, -1.0], [7.0, 7.0, 7.0, 7.0]];
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        let below = logits.broadcast_sub(&logits.max_keepdim(1).unwrap()).unwrap();
        let found = first_of_largest(&below).unwrap().flatten_all().unwrap();
        assert_eq!(found.to_vec1::<f32>().unwrap(), [1.0, 2.0, 0.0]);
    }

    #[test]
    fn rows_of_every_length_are_summed() {
        for columns in [1, 511, 512, 513, 2000] {
            let ones = Tensor::ones((2, columns), DType::F32, &Device::Cpu).unwrap();
            let sums = sum_of_rows(&ones).unwrap().flatten_all().unwrap();
            let sums: Vec<f32> = sums.to_vec1().unwrap();
            assert_eq!(sums, [columns as f32; 2], "{columns}");
        }
    }
}
