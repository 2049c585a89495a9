//! How far a run of `enqueue` has come, in a file that survives it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// What decides which records a run writes; another command must not go on with this one's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) source: String,
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) policy: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// The last thing of the source that is done with, in the source's own terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Position {
    /// Line of a list, from 1.
    Line(u64),
    /// Key of a bucket.
    Key(String),
    /// Path of a file below the folder, its bytes in hexadecimal: it need not be text.
    File(String),
}

impl fmt::Display for Position {
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

/// What became of the things of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) skipped: u64,
    pub(super) refused: u64,
}

/// How far a command has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    command: Identity,
    pub(super) after: Option<Position>,
    pub(super) counts: Counts,
}

impl Progress {
    pub(super) fn begin(command: Identity) -> Self {
        Self { command, after: None, counts: Counts::default() }
    }

    /// Reads what an earlier run of the same command left; one that has not begun where there is none.
    pub(super) fn open(path: &Path, command: Identity) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::begin(command)),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let found: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no state of enqueue", path.display()))?;
        if found.command != command {
            let [theirs, ours] = [&found.command, &command].map(serde_json::to_string);
            bail!(
                "{} belongs to another command, {}, and this is {}; name another file",
                path.display(),
                theirs?,
                ours?
            );
        }
        Ok(found)
    }

    /// Replaces the file as a whole: whoever reads it sees the old state or the new.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
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

    fn command(topic: &str) -> Identity {
        Identity {
            source: "s3://photos/".to_owned(),
            brokers: "broker:9092".to_owned(),
            topic: topic.to_owned(),
            key: "id".to_owned(),
            policy: None,
            metadata: BTreeMap::from([("batch".to_owned(), "7".to_owned())]),
        }
    }

    #[test]
    fn a_state_comes_back_to_its_own_command_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut progress = Progress::open(&path, command("references")).unwrap();
        assert_eq!(progress.after, None);
        progress.after = Some(Position::Key("ä/b c.jpg".to_owned()));
        progress.counts.sent = 3;
        progress.save(&path).unwrap();
        assert_eq!(Progress::open(&path, command("references")).unwrap(), progress);

        let error = Progress::open(&path, command("other")).unwrap_err().to_string();
        assert!(error.contains("another command"), "{error}");
        fs::write(&path, "{}").unwrap();
        let error = Progress::open(&path, command("references")).unwrap_err().to_string();
        assert!(error.contains("no state"), "{error}");
    }

    #[test]
    fn a_saved_state_leaves_nothing_else_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for _ in 0..2 {
            Progress::begin(command("references")).save(&path).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
