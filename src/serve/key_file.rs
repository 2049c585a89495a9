//! The file of the API keys, which is read again when it changes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use crate::serve::api_keys::{ApiKeys, ApiKeysFault};

/// Interval at which the file is read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The keys of a file, as of its last valid content.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    keys: RwLock<Arc<ApiKeys>>,
}

impl KeyFile {
    /// Follows a file from the keys that it has now.
    pub(crate) fn new(path: &Path, keys: ApiKeys) -> Self {
        Self { path: path.to_owned(), keys: RwLock::new(Arc::new(keys)) }
    }

    /// Returns the current keys.
    pub(crate) fn keys(&self) -> Arc<ApiKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file every second, without end. If it is missing or invalid, the last valid keys
    /// stay in force. Cancel safe.
    pub(crate) async fn follow(&self) {
        let mut interval = tokio::time::interval(READ_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_fault = None;
        loop {
            interval.tick().await;
            let path = self.path.clone();
            let Ok(read) = spawn_blocking(move || read(&path)).await else { continue };
            match read {
                Ok(keys) if keys == *self.keys() => last_fault = None,
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "the API keys have changed");
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                    last_fault = None;
                }
                Err(fault) if last_fault.as_ref() == Some(&fault) => {}
                Err(fault) => {
                    let path = self.path.display();
                    tracing::warn!(%path, %fault, "the API keys stay as they are; correct the file");
                    last_fault = Some(fault);
                }
            }
        }
    }
}

/// Reads and parses a file.
pub(crate) fn read(path: &Path) -> Result<ApiKeys, ApiKeysFault> {
    let mut text = String::new();
    let opened = File::open(path);
    // One byte more, so that a larger file is refused and its last key not cut.
    let bytes = opened
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| ApiKeysFault::Unreadable(error.to_string()))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(ApiKeysFault::TooLarge);
    }
    ApiKeys::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_limit_is_refused_and_no_key_is_cut() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = "shop 0123456789abcdef-and-the-rest";
        // The limit lies within the key, behind its 16th character.
        let limit = usize::try_from(FILE_BYTES_MAX).unwrap();
        let comment = limit - "shop 0123456789abcdef".len();
        let mut text = format!("#{}\n{key}", " ".repeat(comment - 2));
        std::fs::write(file.path(), &text).unwrap();
        assert_eq!(read(file.path()), Err(ApiKeysFault::TooLarge));
        text.replace_range(1..key.len(), "");
        std::fs::write(file.path(), &text).unwrap();
        assert_eq!(read(file.path()).unwrap().len(), 1);
    }
}
