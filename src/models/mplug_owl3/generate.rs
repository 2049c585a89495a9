//! Greedy generation, as the reference's `generate` does without sampling arguments.

use candle_core::{Error, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::mplug_owl3::kv_cache::KvCache;
use crate::models::mplug_owl3::qwen2::Decoder;

/// Texts that are continued token by token, all in step.
#[derive(Debug)]
pub struct Greedy<'a> {
    decoder: &'a Decoder,
    cache: KvCache,
    /// `(texts, hidden)`: the last token of each, after the last norm.
    hidden: Tensor,
}

impl<'a> Greedy<'a> {
    /// Continues prompts from their cache, which has a sequence for each, and from the hidden
    /// states of their last tokens, `(texts, hidden)`.
    pub fn new(decoder: &'a Decoder, cache: KvCache, hidden: Tensor) -> Self {
        Self { decoder, cache, hidden }
    }

    /// Returns the logits of each text's next token, `(texts, vocabulary)` f32.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn logits(&self) -> Result<Tensor> {
        self.decoder.logits(&self.hidden)
    }

    /// Appends one token to each text.
    ///
    /// # Errors
    /// Fails on a token that the network does not have, or on an error of the device.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        let rows: Vec<&[u32]> = tokens.chunks(1).collect();
        let xs = self.decoder.embed(&rows)?;
        self.hidden = self.decoder.run_to_end(xs, 0, &mut self.cache)?;
        Ok(())
    }

    /// Returns the most likely next token of each text; the first of equal ones. Rows of the head
    /// beyond the first `vocabulary` tokens have no meaning and are ignored.
    ///
    /// # Errors
    /// Fails on logits that are not numbers, or on an error of the device.
    pub fn likeliest(&self, vocabulary: usize) -> Result<Vec<u32>> {
        let logits = to_cpu(&self.logits()?)?.to_vec2::<f32>()?;
        logits.iter().map(|logits| argmax(&logits[..vocabulary.min(logits.len())])).collect()
    }
}

fn argmax(logits: &[f32]) -> Result<u32> {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    if logits.iter().any(|logit| logit.is_nan()) || !best.1.is_finite() {
        return Err(Error::Msg(
            "the network's logits are not numbers: its weights are damaged, or too large for f16; try bf16 or f32"
                .to_owned(),
        ));
    }
    Ok(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins_and_logits_that_are_not_numbers_fail() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]).unwrap(), 1);
        for logits in [&[f32::NAN, 1.0][..], &[f32::INFINITY], &[]] {
            assert!(argmax(logits).unwrap_err().to_string().contains("not numbers"));
        }
    }
}
