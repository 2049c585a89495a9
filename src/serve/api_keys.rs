//! The API keys: names of clients, with the digests of their keys.
//!
//! Only digests are kept, so no message can show a key. All of them are compared, byte by byte
//! without an early end, so that the time of a comparison says nothing about a key.

use std::hint::black_box;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Shortest key, in characters.
const KEY_CHARS_MIN: usize = 16;
/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 1024;
/// Longest name of a client, in characters.
const NAME_CHARS_MAX: usize = 64;
/// Client of requests without a key, in metrics and logs.
pub(crate) const NO_CLIENT: &str = "-";
/// Maximum number of keys. Each request is compared with all of them.
const KEYS_MAX: usize = 1024;

/// The keys of all clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ApiKey {
    client: Arc<str>,
    digest: [u8; 32],
}

/// The reason why a file of keys is refused. It never repeats a part of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeysFault {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The file is above 1 MiB.
    #[error("it is above 1 MiB")]
    TooLarge,
    /// A line is not a name and a key.
    #[error("line {line} {why}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// The fault of the line.
        why: &'static str,
    },
    /// The file has no key.
    #[error("it has no key; write a line with a client's name, a space and its key")]
    Empty,
    /// The file has too many keys.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
}

impl ApiKeys {
    /// Parses a file: on each line a name, white space and a key. Empty lines and those that begin
    /// with `#` are skipped.
    ///
    /// # Errors
    /// Fails with the first line at fault, or if there is no key.
    pub fn parse(text: &str) -> Result<Self, ApiKeysFault> {
        let mut keys: Vec<ApiKey> = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let refused = |why| ApiKeysFault::Line { line: index + 1, why };
            let mut words = text.split_whitespace();
            let (Some(name), Some(key), None) = (words.next(), words.next(), words.next()) else {
                return Err(refused("is not a client's name, a space and its key"));
            };
            let is_name =
                |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
            if name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
                return Err(refused(
                    "has a name with other characters than a-z, 0-9, `-`, `_`, `.`",
                ));
            }
            if name == NO_CLIENT {
                return Err(refused("has the name `-`, which stands for requests without a key"));
            }
            if key.len() < KEY_CHARS_MIN || key.len() > KEY_CHARS_MAX {
                return Err(refused("has a key that is not 16 to 1024 characters long"));
            }
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(refused("has a key with other characters than printable ASCII"));
            }
            let digest = digest_of(key);
            if keys.iter().any(|known| known.digest == digest) {
                return Err(refused("repeats an earlier key"));
            }
            keys.push(ApiKey { client: name.into(), digest });
            if keys.len() > KEYS_MAX {
                return Err(ApiKeysFault::TooMany);
            }
        }
        if keys.is_empty() {
            return Err(ApiKeysFault::Empty);
        }
        Ok(Self { keys })
    }

    /// Returns the name of the client whose key this is.
    pub fn client_of(&self, key: &str) -> Option<Arc<str>> {
        let digest = digest_of(key);
        let mut found = None;
        for candidate in &self.keys {
            let differing =
                candidate.digest.iter().zip(&digest).fold(0, |sum, (a, b)| sum | (a ^ b));
            if black_box(differing) == 0 {
                found = Some(&candidate.client);
            }
        }
        found.map(Arc::clone)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if there is no key, as in the default.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn digest_of(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn a_key_belongs_to_its_client_and_a_client_may_have_several() {
        let text = format!("# keys\n\nshop {KEY}\n  shop\t{KEY}-next  \napp.v2 x{KEY}\n");
        let keys = ApiKeys::parse(&text).unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.client_of(KEY).as_deref(), Some("shop"));
        assert_eq!(keys.client_of(&format!("{KEY}-next")).as_deref(), Some("shop"));
        assert_eq!(keys.client_of(&format!("x{KEY}")).as_deref(), Some("app.v2"));
        for other in ["", "0123456789abcde", "0123456789abcdefg", "0123456789ABCDEF"] {
            assert_eq!(keys.client_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_refused_file_is_named_by_its_line_and_never_shows_a_key() {
        for (text, line) in [
            ("shop", 1),
            ("# x\nshop hunter2", 2),
            ("shop hunter2hunter2 hunter2", 1),
            ("- hunter2hunter2hunter2", 1),
            ("sh/op hunter2hunter2hunter2", 1),
            ("shop hunter2hunter2h\u{fc}nter2", 1),
            ("a hunter2hunter2hunter2\nb hunter2hunter2hunter2", 2),
        ] {
            let error = ApiKeys::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line} ")), "{error}");
            assert!(!error.contains("hunter"), "{error}");
        }
        assert_eq!(ApiKeys::parse("# none\n"), Err(ApiKeysFault::Empty));
        let keys = ApiKeys::parse("shop hunter2hunter2hunter2").unwrap();
        assert!(!format!("{keys:?}").contains("hunter"));
    }
}
