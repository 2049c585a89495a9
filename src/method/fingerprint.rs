//! Digests that identify texts in the names and versions that events carry.

use sha2::{Digest, Sha256};

/// Length of a shortened digest, in characters.
const SHORT_CHARS: usize = 8;

/// Returns the SHA-256 of texts in hexadecimal. Each is preceded by its length, so that "ab", "c"
/// and "a", "bc" differ.
pub(crate) fn fingerprint<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        let text = text.as_ref();
        hasher.update(text.len().to_be_bytes());
        hasher.update(text);
    }
    hex::encode(hasher.finalize())
}

/// Returns the start of a digest, for a name.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(SHORT_CHARS).collect()
}
