//! Going on with texts token by token, as the reference's `generate` does without sampling arguments:
//! greedily.

use candle_core::{Error, Result, Tensor};

use super::context::Context;
use super::qwen2::Decoder;

/// Texts that are gone on with, all at the same pace.
#[derive(Debug)]
pub struct Greedy<'a> {
    decoder: &'a Decoder,
    contexts: Vec<Context>,
    /// `(texts, hidden)`: the last token of each behind the last norm.
    hidden: Tensor,
}

impl<'a> Greedy<'a> {
    /// Goes on from contexts that have read their prompts.
    pub fn new(decoder: &'a Decoder, contexts: Vec<Context>, hidden: Tensor) -> Self {
        Self { decoder, contexts, hidden }
    }

    /// Logits of the next token of each text, `(texts, vocabulary)` f32.
    ///
    /// # Errors
    /// What candle says of the device.
    pub fn logits(&self) -> Result<Tensor> {
        self.decoder.logits(&self.hidden)
    }

    /// Adds one token to each text.
    ///
    /// # Errors
    /// A token that the network does not have; what candle says.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        let rows: Vec<&[u32]> = tokens.chunks(1).collect();
        let xs = self.decoder.embed(&rows)?;
        self.hidden = self.decoder.run_to_end(xs, 0, &mut self.contexts)?;
        Ok(())
    }

    /// The likeliest next token of each text; of equals the first. Rows of the head behind the
    /// `vocabulary` tokens that mean something are left out.
    ///
    /// # Errors
    /// Logits that are no numbers; what candle says of the device.
    pub fn likeliest(&self, vocabulary: usize) -> Result<Vec<u32>> {
        let logits = self.logits()?.to_vec2::<f32>()?;
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
            "the network's logits are not numbers: its weights are damaged, or too large for f16"
                .to_owned(),
        ));
    }
    Ok(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_logits_is_taken_and_no_logit_is_an_error() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]).unwrap(), 1);
        for logits in [&[f32::NAN, 1.0][..], &[f32::INFINITY], &[]] {
            assert!(argmax(logits).unwrap_err().to_string().contains("not numbers"));
        }
    }
}
