//! Where references come from: a folder, a list, the objects below a prefix of a bucket. Each is read as
//! it is asked for, and goes on behind a position.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, bail};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::cli::inputs::{images_below, is_uri};
use crate::event::reference::{self, PAYLOAD_BYTES_MAX, ReferenceError};
use crate::event::{Headers, ImageReference};
use crate::redact;
use crate::storage::{ListedObject, Stores, file_uri};

use super::check::Refusal;
use super::state::Position;

/// Things that are read ahead.
const READ_AHEAD: usize = 64;

/// One thing of a source.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) position: Position,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Reference(Box<ImageReference>),
    /// A line that is none.
    Refused(Refusal),
    /// An empty object: a folder's marker, or an upload that is not complete.
    Skipped,
}

pub(super) type Things = BoxStream<'static, anyhow::Result<Found>>;

/// A source, by what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Folder(PathBuf),
    List(PathBuf),
    StandardInput,
    Prefix(String),
}

impl Source {
    pub(super) fn new(typed: &str) -> anyhow::Result<Self> {
        if typed == "-" {
            return Ok(Self::StandardInput);
        }
        if is_uri(typed) && !typed.starts_with("file:") {
            if !typed.ends_with('/') {
                let typed = redact::id(typed);
                bail!("`{typed}` is no prefix; end it with a slash, or pipe single URIs into `-`");
            }
            return Ok(Self::Prefix(typed.to_owned()));
        }
        let path = Path::new(typed).canonicalize().with_context(|| format!("`{typed}`"))?;
        Ok(if path.is_dir() { Self::Folder(path) } else { Self::List(path) })
    }

    /// The source's name, wherever the command is run.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Folder(path) | Self::List(path) => file_uri(path),
            Self::StandardInput => "-".to_owned(),
            Self::Prefix(prefix) => prefix.clone(),
        }
    }

    /// Reads what stands behind a position.
    pub(super) fn open(self, stores: &Stores, after: Option<Position>) -> anyhow::Result<Things> {
        let line = match after {
            Some(Position::Line(number)) => number,
            Some(Position::Key(_) | Position::File(_)) | None => 0,
        };
        match self {
            Self::Prefix(prefix) => {
                let after = after.and_then(|after| match after {
                    Position::Key(key) => Some(key),
                    Position::Line(_) | Position::File(_) => None,
                });
                let objects = stores.list(&prefix, after.as_deref());
                let objects = objects.with_context(|| redact::id(&prefix).to_string())?;
                Ok(objects.map(|object| object.map(Found::object).map_err(Into::into)).boxed())
            }
            Self::Folder(path) => Ok(off_thread(move || files(path, after))),
            Self::List(path) => {
                let file = File::open(&path).with_context(|| path.display().to_string())?;
                Ok(off_thread(move || lines(BufReader::new(file), line)))
            }
            Self::StandardInput => Ok(off_thread(move || lines(BufReader::new(io::stdin()), line))),
        }
    }
}

impl Found {
    fn object(object: ListedObject) -> Self {
        let ListedObject { key, uri, etag, bytes } = object;
        let what = if bytes == 0 {
            What::Skipped
        } else {
            What::Reference(Box::new(ImageReference { etag, ..ImageReference::new(uri) }))
        };
        Self { position: Position::Key(key), what }
    }
}

/// Reads on a thread of its own, which nothing waits for: standard input may be silent for ever.
fn off_thread<I: Iterator<Item = anyhow::Result<Found>>>(
    open: impl FnOnce() -> I + Send + 'static,
) -> Things {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    thread::spawn(move || {
        for found in open() {
            if sender.blocking_send(found).is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        let found = receiver.recv().await?;
        Some((found, receiver))
    })
    .boxed()
}

/// The images below a folder, in an order that the same folder has again.
fn files(folder: PathBuf, after: Option<Position>) -> impl Iterator<Item = anyhow::Result<Found>> {
    let after = after.and_then(|after| match after {
        Position::File(name) => {
            Some(PathBuf::from(std::ffi::OsString::from_vec(hex::decode(name).ok()?)))
        }
        Position::Line(_) | Position::Key(_) => None,
    });
    images_below(&folder).filter_map(move |path| {
        let path = match path {
            Ok(path) => path,
            Err(error) => return Some(Err(error)),
        };
        let below = path.strip_prefix(&folder).unwrap_or(&path);
        // Paths compare part by part, which is the order of the walk.
        if after.as_deref().is_some_and(|after| below <= after) {
            return None;
        }
        let position = Position::File(hex::encode(below.as_os_str().as_bytes()));
        let reference = ImageReference::new(file_uri(&path));
        Some(Ok(Found { position, what: What::Reference(Box::new(reference)) }))
    })
}

/// The lines of a list behind the one of that number: each a URI, or a reference as JSON.
fn lines(mut input: impl BufRead, after: u64) -> impl Iterator<Item = anyhow::Result<Found>> {
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            let line = match read_line(&mut input) {
                Ok(None) => return None,
                Ok(Some(line)) => line,
                Err(error) => return Some(Err(error).context("reading the list")),
            };
            if number <= after || line.trim_ascii().is_empty() {
                continue;
            }
            let what = match parse(&line) {
                Ok(reference) => What::Reference(Box::new(reference)),
                Err(error) => What::Refused(Refusal::from(&error)),
            };
            return Some(Ok(Found { position: Position::Line(number), what }));
        }
    })
}

/// A line without its end; of one that is too long to be a reference only so much that this shows.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(PAYLOAD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > PAYLOAD_BYTES_MAX {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

fn parse(line: &[u8]) -> Result<ImageReference, ReferenceError> {
    let line = line.trim_ascii();
    if line.first() == Some(&b'{') || line.len() > PAYLOAD_BYTES_MAX {
        return reference::parse(&Headers::default(), line);
    }
    match std::str::from_utf8(line) {
        Ok(uri) => Ok(ImageReference::new(uri)),
        Err(error) => Err(ReferenceError::InvalidJson { reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8], after: u64) -> Vec<(u64, Result<String, &'static str>)> {
        let shown = |found: anyhow::Result<Found>| {
            let Found { position: Position::Line(number), what } = found.unwrap() else { panic!() };
            let what = match what {
                What::Reference(reference) => Ok(reference.id),
                What::Refused(refusal) => Err(refusal.code),
                What::Skipped => panic!("no line is skipped"),
            };
            (number, what)
        };
        lines(list, after).map(shown).collect()
    }

    #[test]
    fn a_list_holds_uris_and_references_and_keeps_the_numbers_of_its_lines() {
        let list =
            b"s3://b/1\r\n\n{\"uri\": \"s3://b/2\", \"id\": \"two\"}\n{\"id\": \"x\"}\n\xff\nlast";
        let ok = |id: &str| Ok(id.to_owned());
        let expected = vec![
            (1, ok("s3://b/1")),
            (3, ok("two")),
            (4, Err("reference.missing_uri")),
            (5, Err("reference.invalid_json")),
            (6, ok("last")),
        ];
        assert_eq!(read(list, 0), expected);
        assert_eq!(read(list, 3), expected[2..]);
        assert_eq!(read(list, 9), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_the_next_is_read() {
        let mut list = vec![b'x'; 3 * PAYLOAD_BYTES_MAX];
        list.extend(b"\ns3://b/1\n");
        let expected = [(1, Err("reference.too_large")), (2, Ok("s3://b/1".to_owned()))];
        assert_eq!(read(&list, 0), expected);
    }

    #[test]
    fn a_folder_goes_on_behind_any_of_its_files_even_one_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("b")).unwrap();
        for name in ["a.jpg", "b/1.jpg", "b/ä 2.jpg", "b.jpg", "c.txt"] {
            std::fs::write(root.join(name), b"x").unwrap();
        }
        let walk = |after| files(root.clone(), after).map(|found| found.unwrap().position);
        let all: Vec<_> = walk(None).collect();
        assert_eq!(all.len(), 4);
        for (index, position) in all.iter().enumerate() {
            let rest: Vec<_> = walk(Some(position.clone())).collect();
            assert_eq!(rest, all[index + 1..]);
        }
        std::fs::remove_file(root.join("b/1.jpg")).unwrap();
        assert_eq!(walk(Some(all[1].clone())).collect::<Vec<_>>(), all[2..]);
    }

    #[test]
    fn what_was_typed_says_what_it_is() {
        assert_eq!(Source::new("-").unwrap(), Source::StandardInput);
        assert_eq!(Source::new("s3://b/k/").unwrap(), Source::Prefix("s3://b/k/".to_owned()));
        assert!(Source::new("s3://b/k.jpg").unwrap_err().to_string().contains("slash"));
        assert!(Source::new("no-such-list.txt").is_err());
    }
}
