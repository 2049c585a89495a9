//! The contract of the configuration's reader: valid settings can be written and read again, all
//! other input is an error with a message.

use std::fs;
use std::path::Path;

use dog_iqa::config::{Settings, load};
use tempfile::TempDir;

/// A folder for configuration files.
pub(crate) struct ConfigFolder {
    folder: TempDir,
}

impl ConfigFolder {
    /// Creates the folder.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder can be created") }
    }

    /// Returns true if the configuration is valid. Panics if its reader violates its contract.
    pub(crate) fn check(&self, text: &[u8], flags: &[String]) -> bool {
        let path = self.folder.path().join("dogiqa.toml");
        write_new(&path, text);
        let loaded = match load(Some(&path), flags) {
            Ok(loaded) => loaded,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return false;
            }
        };
        for (key, source) in loaded.changed() {
            assert!(!key.is_empty() && !source.is_empty());
        }
        // The check of the method's settings may fail, but it must not panic.
        drop(loaded.settings.method.check());
        let written = written(&loaded.settings);
        write_new(&path, written.as_bytes());
        let again = load(Some(&path), &[]).unwrap_or_else(|error| panic!("{error}\n{written}"));
        let again = again.settings;
        // A very long endpoint is shortened when it is shown.
        if !written.contains('…') {
            assert_eq!(self::written(&again), written, "settings survive being written");
        }
        true
    }
}

/// Replaces the file by a new one. If a file is truncated instead, ext4 writes the new content to
/// disk at once (`auto_da_alloc`), and the next truncation may wait until the disk discards it.
fn write_new(path: &Path, content: &[u8]) {
    // The first input has no file to remove.
    drop(fs::remove_file(path));
    fs::write(path, content).expect("the file can be written");
}

/// Returns the settings as `dogiqa config` prints them.
fn written(settings: &Settings) -> String {
    toml::to_string(settings).expect("settings are plain data")
}

/// Returns the memory limit for reading a configuration, in bytes.
pub(crate) fn memory_max(text: &[u8], flags: &[String]) -> u64 {
    let flags: usize = flags.iter().map(String::len).sum();
    (4 << 20) + 256 * (text.len() + flags) as u64
}
