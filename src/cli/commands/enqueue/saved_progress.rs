//! The state file of `dogiqa enqueue --state`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// The arguments and settings that decide which records a run writes. A state file belongs to one
/// identity; another command is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandIdentity {
    pub(crate) source: String,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) policy: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The position of an item in its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourcePosition {
    /// Number of a line in a list, starting at 1.
    Line(u64),
    /// Key of an object in a bucket.
    Key(String),
    /// Path of a file relative to the folder, in hexadecimal, because it may not be UTF-8.
    File(String),
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(formatter, "line {number}"),
            Self::Key(key) => write!(formatter, "key {}", key.escape_debug()),
            Self::File(name) => {
                let name = hex::decode(name).unwrap_or_default();
                write!(formatter, "file {}", String::from_utf8_lossy(&name).escape_debug())
            }
        }
    }
}

/// The number of completed steps by effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepCounts {
    pub(crate) sent: u64,
    pub(crate) skipped: u64,
    pub(crate) refused: u64,
}

/// The progress of a command, as saved in its state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedProgress {
    command: CommandIdentity,
    /// Position of the last completed step. A later run continues after it.
    pub(crate) after: Option<SourcePosition>,
    pub(crate) counts: StepCounts,
}

impl SavedProgress {
    pub(crate) fn new(command: CommandIdentity) -> Self {
        Self { command, after: None, counts: StepCounts::default() }
    }

    /// Loads the progress of an earlier run of the same command. Without a file, returns new
    /// progress.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is not a state file, or belongs to another command.
    pub(crate) fn load(path: &Path, command: CommandIdentity) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new(command)),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let loaded: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a state file of enqueue", path.display()))?;
        if loaded.command != command {
            let [theirs, ours] = [&loaded.command, &command].map(serde_json::to_string);
            bail!(
                "{} belongs to another command, {}, and this is {}; name another file",
                path.display(),
                theirs?,
                ours?
            );
        }
        Ok(loaded)
    }

    /// Replaces the file atomically, so that a reader never sees a partial state.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let write = || -> anyhow::Result<()> {
            let mut file = NamedTempFile::new_in(&folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(topic: &str) -> CommandIdentity {
        CommandIdentity {
            source: "s3://photos/".to_owned(),
            brokers: "broker:9092".to_owned(),
            topic: topic.to_owned(),
            key: "id".to_owned(),
            policy: None,
            metadata: BTreeMap::from([("batch".to_owned(), "7".to_owned())]),
        }
    }

    #[test]
    fn a_state_file_is_loaded_by_its_own_command_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut progress = SavedProgress::load(&path, command("references")).unwrap();
        assert_eq!(progress.after, None);
        progress.after = Some(SourcePosition::Key("ä/b c.jpg".to_owned()));
        progress.counts.sent = 3;
        progress.save(&path).unwrap();
        assert_eq!(SavedProgress::load(&path, command("references")).unwrap(), progress);

        let error = SavedProgress::load(&path, command("other")).unwrap_err().to_string();
        assert!(error.contains("another command"), "{error}");
        fs::write(&path, "{}").unwrap();
        let error = SavedProgress::load(&path, command("references")).unwrap_err().to_string();
        assert!(error.contains("not a state file"), "{error}");
    }

    #[test]
    fn saving_leaves_no_other_file_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for _ in 0..2 {
            SavedProgress::new(command("references")).save(&path).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
