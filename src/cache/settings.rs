//! Settings of the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Settings of the cache of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// File of the cache; its folder must exist. An image whose bytes were scored before, by the
    /// same engine and settings, is answered from it without running a network, and its event has
    /// `cached: true`. Each worker needs a file of its own. By default, there is no cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Maximum space of the answers in the file; above it, the oldest are removed. An answer with
    /// its masks takes 10 to 30 kB. Free pages, and answers that are being written, may use a
    /// quarter more of the disk, and 32 MiB.
    pub bytes_max: ByteSize,
    /// Maximum age of an answer; older ones are computed again. Set it if the answers may change
    /// without a change of settings: another model on the same scoring server. By default, answers
    /// do not expire.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub age_max: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: None, bytes_max: ByteSize::gib(1), age_max: None }
    }
}

impl Settings {
    /// Returns the file, or `None` without a cache. An empty path is no path, so that a flag can
    /// switch the cache of a file off.
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}
