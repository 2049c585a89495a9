//! Any configuration is settings that can be written and read again, or an error with a reason.

use std::fs;

use dog_iqa::config::{Settings, load};
use tempfile::TempDir;

/// Where files of settings are written to be read.
pub(crate) struct Desk {
    folder: TempDir,
}

impl Desk {
    /// Makes a folder for the files.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("there is room for a folder") }
    }

    /// Whether a configuration is one; panics where it breaks a promise of its reader.
    pub(crate) fn check(&self, text: &[u8], flags: &[String]) -> bool {
        let path = self.folder.path().join("dogiqa.toml");
        fs::write(&path, text).expect("a folder takes a file");
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
        // Whether it can be used is another question; it must be answered.
        drop(loaded.settings.method.check());
        let written = written(&loaded.settings);
        fs::write(&path, &written).expect("a folder takes a file");
        let again = load(Some(&path), &[]).unwrap_or_else(|error| panic!("{error}\n{written}"));
        let again = again.settings;
        // An endpoint that no screen could take is shortened where it is shown.
        if !written.contains('…') {
            assert_eq!(self::written(&again), written, "settings survive being written");
        }
        true
    }
}

/// The settings as `dogiqa config` shows them.
fn written(settings: &Settings) -> String {
    toml::to_string(settings).expect("settings are plain data")
}

/// Bytes that reading a configuration may take at a time.
pub(crate) fn memory_max(text: &[u8], flags: &[String]) -> u64 {
    let flags: usize = flags.iter().map(String::len).sum();
    (4 << 20) + 256 * (text.len() + flags) as u64
}
