//! The cache of answers as a journey uses it: keys that contain everything that decides an answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::cache::{AnswerCache, Key};
use crate::pipeline::answer::Answer;
use crate::pipeline::blocking::run_blocking;
use crate::pipeline::error::JourneyError;
use crate::telemetry::Stage;

/// Maximum time for reading an answer from the disk. A disk that takes longer does not help.
const READ_MAX: Duration = Duration::from_secs(5);

/// A cache with the digest of the engine and settings of a journey; or no cache, by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerStore {
    cache: Option<Arc<AnswerCache>>,
    /// Digest of everything but the image's bytes.
    context: [u8; 32],
}

/// The result of looking for an answer.
pub(crate) enum LookedUp {
    Known(Box<Answer>),
    /// The key for the new answer, if there is a cache.
    Unknown(Option<Key>),
}

impl AnswerStore {
    /// `context` is everything besides the image's bytes that decides an answer.
    pub(crate) fn new(cache: Arc<AnswerCache>, context: &Value) -> Self {
        Self { cache: Some(cache), context: Sha256::digest(context.to_string()).into() }
    }

    /// Returns false without a cache, and once a fault has switched it off.
    pub(crate) fn is_on(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.is_on())
    }

    /// Looks for the answer of an earlier image whose bytes had this SHA-256. A disk that hangs
    /// switches the cache off.
    ///
    /// # Errors
    /// Fails if decoding the answer panics.
    pub(crate) async fn look_up(&self, sha256: [u8; 32]) -> Result<LookedUp, JourneyError> {
        let Some(cache) = self.cache.clone().filter(|cache| cache.is_on()) else {
            return Ok(LookedUp::Unknown(None));
        };
        let key: Key = Sha256::new_with_prefix(self.context).chain_update(sha256).finalize().into();
        let reader = Arc::clone(&cache);
        let read = move || reader.get(&key).and_then(|answer| Answer::from_bytes(&answer));
        let Ok(answer) = timeout(READ_MAX, run_blocking(Stage::Decode, read)).await else {
            cache.switch_off(&format!("a read took more than {} s", READ_MAX.as_secs()));
            return Ok(LookedUp::Unknown(None));
        };
        Ok(match answer? {
            Some(answer) => LookedUp::Known(Box::new(answer)),
            None => LookedUp::Unknown(Some(key)),
        })
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
