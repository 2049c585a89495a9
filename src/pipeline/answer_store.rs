//! The cache of answers as a journey uses it: keys that contain everything that decides an answer.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cache::{AnswerCache, Key};
use crate::pipeline::answer::Answer;

/// A cache, and the digest of the engine and settings of this journey.
#[derive(Debug, Clone)]
pub(crate) struct AnswerStore {
    cache: Arc<AnswerCache>,
    /// Digest of everything but the image's bytes.
    context: [u8; 32],
}

impl AnswerStore {
    /// `context` is everything besides the image's bytes that decides an answer.
    pub(crate) fn new(cache: Arc<AnswerCache>, context: &Value) -> Self {
        Self { cache, context: Sha256::digest(context.to_string()).into() }
    }

    pub(crate) fn cache(&self) -> &AnswerCache {
        &self.cache
    }

    /// Returns the key of an image.
    pub(crate) fn key(&self, bytes: &[u8]) -> Key {
        Sha256::new_with_prefix(self.context).chain_update(Sha256::digest(bytes)).finalize().into()
    }

    /// Returns the answer of an earlier image with the same bytes. Blocks for a read of the disk.
    pub(crate) fn find(&self, key: &Key) -> Option<Answer> {
        self.cache.get(key).and_then(|answer| Answer::from_bytes(&answer))
    }

    pub(crate) fn add(&self, key: Key, answer: &Answer) {
        if self.cache.is_on() {
            self.cache.put(key, answer.to_bytes());
        }
    }
}
