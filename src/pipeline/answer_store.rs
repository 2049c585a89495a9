//! The cache of answers as a journey uses it: keys that contain everything that decides an answer.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cache::{AnswerCache, Key};
use crate::imaging;
use crate::pipeline::answer::Answer;
use crate::pipeline::blocking::run_blocking;
use crate::pipeline::error::JourneyError;
use crate::telemetry::Stage;

/// A cache with the digest of the engine and settings of a journey; or no cache, by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerStore {
    cache: Option<Arc<AnswerCache>>,
    /// Digest of everything but the image's bytes.
    context: [u8; 32],
}

/// The result of looking for an answer.
pub(crate) enum LookedUp<F> {
    Known(Box<Answer>),
    /// Without an answer: the image, and the key for the new answer if there is a cache.
    Unknown(F, Option<Key>),
}

impl AnswerStore {
    /// `context` is everything besides the image's bytes that decides an answer.
    pub(crate) fn new(cache: Arc<AnswerCache>, context: &Value) -> Self {
        Self { cache: Some(cache), context: Sha256::digest(context.to_string()).into() }
    }

    /// Looks for the answer of an earlier image with the same bytes.
    ///
    /// # Errors
    /// Fails on an image above the limits of decoding, which may be lower now.
    pub(crate) async fn look_up<F: AsRef<[u8]> + Send + 'static>(
        &self,
        fetched: F,
        limits: &imaging::Settings,
    ) -> Result<LookedUp<F>, JourneyError> {
        let Some(cache) = self.cache.clone().filter(|cache| cache.is_on()) else {
            return Ok(LookedUp::Unknown(fetched, None));
        };
        imaging::probe(fetched.as_ref(), limits)?;
        let context = self.context;
        // Hashing and the disk block. The closure owns the image with its share of the budget.
        let look_up = move || {
            let digest = Sha256::digest(fetched.as_ref());
            let key = Sha256::new_with_prefix(context).chain_update(digest).finalize().into();
            match cache.get(&key).and_then(|answer| Answer::from_bytes(&answer)) {
                Some(answer) => LookedUp::Known(Box::new(answer)),
                None => LookedUp::Unknown(fetched, Some(key)),
            }
        };
        run_blocking(Stage::Decode, look_up).await
    }

    /// Adds an answer, if there is a cache. Returns the answer.
    ///
    /// # Errors
    /// Fails if encoding it panics.
    pub(crate) async fn keep(
        &self,
        key: Option<Key>,
        answer: Answer,
    ) -> Result<Answer, JourneyError> {
        let (Some(cache), Some(key)) = (self.cache.clone(), key) else { return Ok(answer) };
        // Encoding many masks takes milliseconds.
        let keep = move || {
            cache.put(key, answer.to_bytes());
            answer
        };
        run_blocking(Stage::Score, keep).await
    }
}
