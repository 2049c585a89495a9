//! A second score: the next token's largest logits, each weighted by how far its embedding points
//! from words for bad quality to words for good.
//!
//! Source: "adaptive logit weighting" of SeP-IQA (github.com/weolix/SeP-IQA), training-free, for
//! the same language model. Its prompt begins the answer, so that an adjective follows.

use candle_core::{DType, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::mplug_owl3::prompt::{IMAGE, Message, Role};
use crate::models::mplug_owl3::qwen2::Decoder;
use crate::models::mplug_owl3::settings::Poles;
use crate::models::mplug_owl3::tokenizer::{Tokenizer, TokenizerError};

/// The number of logits that count, the largest ones.
const LOGITS_MAX: usize = 100;
/// Rows of the embedding that are processed together.
const ROWS: usize = 4096;

/// An error of a direction.
#[derive(Debug, thiserror::Error)]
pub enum DirectionError {
    /// One of the poles has no word.
    #[error("a direction needs words for good and for bad quality; one list is empty")]
    NoWords,
    /// The tokenizer failed on a word.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// For each token, how far it points from bad to good.
#[derive(Debug, Clone)]
pub struct Direction {
    /// One cosine for each token of the tokenizer.
    cosines: Vec<f32>,
}

impl Direction {
    /// Returns the conversation that asks for an adjective.
    pub fn messages() -> Vec<Message> {
        vec![
            Message::new(
                Role::User,
                format!(
                    "{IMAGE}Taking the details and the rationality of the image into account, how \
                     would you rate its quality?"
                ),
            ),
            Message::new(Role::Assistant, "The quality of the image is very"),
        ]
    }

    /// Compares every token's embedding with the difference of the mean embeddings of the two
    /// poles.
    ///
    /// # Errors
    /// Fails on a pole without words, a word that cannot be tokenised, or an error of the device.
    pub fn new(
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        poles: &Poles,
    ) -> std::result::Result<Self, DirectionError> {
        let mean = |words: &[String]| {
            let mut tokens = Vec::new();
            for word in words {
                tokens.extend(tokenizer.encode(&format!(" {word}"))?);
            }
            if tokens.is_empty() {
                return Err(DirectionError::NoWords);
            }
            Ok(embeddings(decoder, &tokens)?.mean(0)?)
        };
        let direction = (mean(&poles.good)? - mean(&poles.bad)?)?;
        let tokens: Vec<u32> = (0..).take(tokenizer.id_end()).collect();
        let mut cosines = Vec::with_capacity(tokens.len());
        for tokens in tokens.chunks(ROWS) {
            let rows = embeddings(decoder, tokens)?;
            let lengths = (rows.sqr()?.sum(1)?.sqrt()? * length(&direction)?)?.maximum(1e-8)?;
            let along = rows.broadcast_mul(&direction)?.sum(1)?;
            cosines.extend(to_cpu(&(along / lengths)?)?.to_vec1::<f32>()?);
        }
        Ok(Self { cosines })
    }

    /// Returns the weighted sum of the largest of one token's logits, `(vocabulary)`. Larger is
    /// better; the scale depends on the model.
    pub fn score(&self, logits: &[f32]) -> f64 {
        let mut weighted: Vec<(f32, f32)> =
            logits.iter().copied().zip(self.cosines.iter().copied()).collect();
        if weighted.len() > LOGITS_MAX {
            weighted.select_nth_unstable_by(LOGITS_MAX, |one, other| other.0.total_cmp(&one.0));
            weighted.truncate(LOGITS_MAX);
        }
        // A sum of floats depends on its order, and the selection leaves an arbitrary one.
        weighted.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.total_cmp(&one.1)));
        weighted.iter().map(|&(logit, cosine)| f64::from(logit) * f64::from(cosine)).sum()
    }
}

/// `(n, hidden)` f32.
fn embeddings(decoder: &Decoder, tokens: &[u32]) -> Result<Tensor> {
    let tokens = Tensor::new(tokens, decoder.device())?;
    decoder.embedding().rows(&tokens)?.to_dtype(DType::F32)
}

fn length(vector: &Tensor) -> Result<f64> {
    let length = to_cpu(&vector.sqr()?.sum_all()?.sqrt()?)?;
    Ok(f64::from(length.to_scalar::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_largest_logits_count_each_weighted_by_its_cosine() {
        let direction = Direction { cosines: vec![0.5, -1.0, 0.25, 1.0] };
        assert!((direction.score(&[2.0, 1.0, 4.0, 0.0]) - 1.0).abs() < 1e-12);
        // Of 300 tokens the last 100 have the largest logits.
        let cosines = (0..300).map(|token| if token < 200 { 9.0 } else { 0.01 }).collect();
        let logits: Vec<f32> =
            (0_u8..=255).map(f32::from).chain((256..300).map(|x: u16| x.into())).collect();
        let expected: f64 = (200..300).map(|token| f64::from(token) * f64::from(0.01_f32)).sum();
        assert!((Direction { cosines }.score(&logits) - expected).abs() < 1e-9);
    }
}
