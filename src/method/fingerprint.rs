//! Digests that tell one set of texts from another in names and versions.

use sha2::{Digest, Sha256};

/// Characters of a digest that are enough in a name.
const SHORT: usize = 8;

/// SHA-256 of some texts in hexadecimal. The length before each keeps "ab", "c" apart from "a", "bc".
pub(crate) fn fingerprint<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        let text = text.as_ref();
        hasher.update(text.len().to_be_bytes());
        hasher.update(text);
    }
    hex::encode(hasher.finalize())
}

/// The beginning of a digest, for a name.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}
