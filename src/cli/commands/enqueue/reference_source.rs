//! Sources of references: a folder, a list, or the objects below a bucket prefix. A source is read
//! lazily and can continue after a saved position.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, bail};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::cli::commands::enqueue::reference_check::ReferenceRefusal;
use crate::cli::commands::enqueue::saved_progress::SourcePosition;
use crate::cli::image_arguments::{images_below, is_uri};
use crate::event::reference::{self, PAYLOAD_BYTES_MAX, ReferenceError};
use crate::event::{Headers, ImageReference};
use crate::redact;
use crate::storage::{ListedObject, Stores, file_uri};

/// Maximum number of items that a reader thread reads ahead.
const READ_AHEAD: usize = 64;

/// One item of a source, which is usually a reference.
#[derive(Debug)]
pub(crate) struct SourceItem {
    pub(crate) position: SourcePosition,
    pub(crate) content: ItemContent,
}

#[derive(Debug)]
pub(crate) enum ItemContent {
    Reference(Box<ImageReference>),
    /// A line of a list that is not a reference.
    Invalid(ReferenceRefusal),
    /// An object of 0 bytes: a folder marker, or an incomplete upload.
    Empty,
}

pub(crate) type SourceItems = BoxStream<'static, anyhow::Result<SourceItem>>;

/// A parsed SOURCE argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReferenceSource {
    Folder(PathBuf),
    List(PathBuf),
    StandardInput,
    Prefix(String),
}

impl ReferenceSource {
    pub(crate) fn parse(argument: &str) -> anyhow::Result<Self> {
        if argument == "-" {
            return Ok(Self::StandardInput);
        }
        if is_uri(argument) && !argument.starts_with("file:") {
            if !argument.ends_with('/') {
                let shown = redact::id(argument);
                bail!(
                    "`{shown}` is not a prefix; end it with a slash, or pipe single URIs into `-`"
                );
            }
            return Ok(Self::Prefix(argument.to_owned()));
        }
        let path = Path::new(argument).canonicalize().with_context(|| format!("`{argument}`"))?;
        Ok(if path.is_dir() { Self::Folder(path) } else { Self::List(path) })
    }

    /// Returns a name of the source that does not depend on the current folder.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(path) | Self::List(path) => file_uri(path),
            Self::StandardInput => "-".to_owned(),
            Self::Prefix(prefix) => prefix.clone(),
        }
    }

    /// Opens the source and returns the items after the position, or all items without one.
    pub(crate) fn open(
        self,
        stores: &Stores,
        after: Option<SourcePosition>,
    ) -> anyhow::Result<SourceItems> {
        let line = match after {
            Some(SourcePosition::Line(number)) => number,
            Some(SourcePosition::Key(_) | SourcePosition::File(_)) | None => 0,
        };
        match self {
            Self::Prefix(prefix) => {
                let after = after.and_then(|after| match after {
                    SourcePosition::Key(key) => Some(key),
                    SourcePosition::Line(_) | SourcePosition::File(_) => None,
                });
                let objects = stores
                    .list(&prefix, after.as_deref())
                    .with_context(|| redact::id(&prefix).to_string())?;
                Ok(objects.map(|object| object.map(SourceItem::from).map_err(Into::into)).boxed())
            }
            Self::Folder(path) => Ok(read_on_thread(move || files(path, after))),
            Self::List(path) => {
                let file = File::open(&path).with_context(|| path.display().to_string())?;
                Ok(read_on_thread(move || lines(BufReader::new(file), line)))
            }
            Self::StandardInput => {
                Ok(read_on_thread(move || lines(BufReader::new(io::stdin()), line)))
            }
        }
    }
}

impl From<ListedObject> for SourceItem {
    fn from(object: ListedObject) -> Self {
        let ListedObject { key, uri, etag, bytes } = object;
        let content = if bytes == 0 {
            ItemContent::Empty
        } else {
            ItemContent::Reference(Box::new(ImageReference { etag, ..ImageReference::new(uri) }))
        };
        Self { position: SourcePosition::Key(key), content }
    }
}

/// Reads on a detached thread, because a read of standard input may block indefinitely.
fn read_on_thread<I: Iterator<Item = anyhow::Result<SourceItem>>>(
    open: impl FnOnce() -> I + Send + 'static,
) -> SourceItems {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    thread::spawn(move || {
        for item in open() {
            if sender.blocking_send(item).is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
    .boxed()
}

/// Returns the images below a folder in a stable order.
fn files(
    folder: PathBuf,
    after: Option<SourcePosition>,
) -> impl Iterator<Item = anyhow::Result<SourceItem>> {
    let after = after.and_then(|after| match after {
        SourcePosition::File(name) => {
            Some(PathBuf::from(std::ffi::OsString::from_vec(hex::decode(name).ok()?)))
        }
        SourcePosition::Line(_) | SourcePosition::Key(_) => None,
    });
    images_below(&folder).filter_map(move |path| {
        let path = match path {
            Ok(path) => path,
            Err(error) => return Some(Err(error)),
        };
        let relative = path.strip_prefix(&folder).unwrap_or(&path);
        // Paths compare component by component, which is the order of the walk.
        if after.as_deref().is_some_and(|after| relative <= after) {
            return None;
        }
        let position = SourcePosition::File(hex::encode(relative.as_os_str().as_bytes()));
        let reference = ImageReference::new(file_uri(&path));
        Some(Ok(SourceItem { position, content: ItemContent::Reference(Box::new(reference)) }))
    })
}

/// Returns the lines of a list after line number `after`. A line is a URI or a JSON reference.
fn lines(mut input: impl BufRead, after: u64) -> impl Iterator<Item = anyhow::Result<SourceItem>> {
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
            let content = match parse_line(&line) {
                Ok(reference) => ItemContent::Reference(Box::new(reference)),
                Err(error) => ItemContent::Invalid(ReferenceRefusal::from(&error)),
            };
            return Some(Ok(SourceItem { position: SourcePosition::Line(number), content }));
        }
    })
}

/// Reads a line without its line break. If a line is too long for a reference, returns only its
/// first `PAYLOAD_BYTES_MAX` + 2 bytes. Parsing then reports it as too large.
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

fn parse_line(line: &[u8]) -> Result<ImageReference, ReferenceError> {
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
        let number_and_id = |item: anyhow::Result<SourceItem>| {
            let SourceItem { position: SourcePosition::Line(number), content } = item.unwrap()
            else {
                panic!("a list has line numbers")
            };
            let id = match content {
                ItemContent::Reference(reference) => Ok(reference.id),
                ItemContent::Invalid(refusal) => Err(refusal.code),
                ItemContent::Empty => panic!("a list has no empty objects"),
            };
            (number, id)
        };
        lines(list, after).map(number_and_id).collect()
    }

    #[test]
    fn a_list_of_uris_and_json_references_keeps_its_line_numbers() {
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
    fn a_line_that_is_too_long_is_refused_and_the_next_line_is_read() {
        let mut list = vec![b'x'; 3 * PAYLOAD_BYTES_MAX];
        list.extend(b"\ns3://b/1\n");
        let expected = [(1, Err("reference.too_large")), (2, Ok("s3://b/1".to_owned()))];
        assert_eq!(read(&list, 0), expected);
    }

    #[test]
    fn a_folder_continues_after_any_of_its_files_even_a_deleted_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("b")).unwrap();
        for name in ["a.jpg", "b/1.jpg", "b/ä 2.jpg", "b.jpg", "c.txt"] {
            std::fs::write(root.join(name), b"x").unwrap();
        }
        let walk = |after| files(root.clone(), after).map(|item| item.unwrap().position);
        let all: Vec<_> = walk(None).collect();
        assert_eq!(all.len(), 4);
        for (index, position) in all.iter().enumerate() {
            let remaining: Vec<_> = walk(Some(position.clone())).collect();
            assert_eq!(remaining, all[index + 1..]);
        }
        std::fs::remove_file(root.join("b/1.jpg")).unwrap();
        assert_eq!(walk(Some(all[1].clone())).collect::<Vec<_>>(), all[2..]);
    }

    #[test]
    fn the_argument_decides_the_kind_of_source() {
        assert_eq!(ReferenceSource::parse("-").unwrap(), ReferenceSource::StandardInput);
        assert_eq!(
            ReferenceSource::parse("s3://b/k/").unwrap(),
            ReferenceSource::Prefix("s3://b/k/".to_owned())
        );
        assert!(ReferenceSource::parse("s3://b/k.jpg").unwrap_err().to_string().contains("slash"));
        assert!(ReferenceSource::parse("no-such-list.txt").is_err());
    }
}
