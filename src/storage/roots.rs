//! `file:` references, read below the configured folders only.
//!
//! Every path is resolved from its opened folder without leaving it, so neither `..` nor a symbolic
//! link leads out, not even one that changes while we look. A file is opened without blocking, and
//! what then turns out to be no regular file is not read.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use bytesize::ByteSize;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileTypeExt, Metadata, OpenOptions, OpenOptionsExt};

use crate::storage::failure::FetchFault;
use crate::storage::stores::StorageError;
use crate::storage::uri::UriFault;

/// The folders below which files may be read.
#[derive(Clone, Default)]
pub(crate) struct FileRoots(Arc<[Root]>);

/// A folder by two names. It is opened for each file anew: there may be more roots than a process
/// may have open files.
struct Root {
    /// The path as configured, made absolute.
    given: PathBuf,
    /// The path without symbolic links.
    real: PathBuf,
}

impl fmt::Debug for FileRoots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|root| &root.given)).finish()
    }
}

impl FileRoots {
    /// Opens the configured folders.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, StorageError> {
        let mut roots = paths.iter().map(|path| Root::open(path)).collect::<Result<Vec<_>, _>>()?;
        // Of two that hold a path, the inner one is asked.
        roots.sort_by_key(|root| std::cmp::Reverse(root.real.components().count()));
        Ok(Self(roots.into()))
    }

    /// Judges a path before anything is opened.
    pub(crate) fn admit(&self, path: &Path) -> Result<(), UriFault> {
        self.find(path).map(drop)
    }

    /// Reads a file. Blocks; cannot be interrupted.
    pub(crate) fn read(&self, path: &Path, limit: ByteSize) -> Result<Bytes, FetchFault> {
        let (root, inner) = self.find(path)?;
        let mut options = OpenOptions::new();
        // Opening a pipe must not wait for a writer, a terminal must not become ours.
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = root
            .folder()
            .and_then(|folder| folder.open_with(inner, &options))
            .map_err(|error| fault_from(&error))?;
        let metadata = file.metadata().map_err(|error| fault_from(&error))?;
        if let Some(kind) = other_kind(&metadata) {
            return Err(FetchFault::NotAFile(kind));
        }
        let size = metadata.len();
        if size > limit.as_u64() {
            return Err(FetchFault::too_large(size, limit));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(limit.as_u64().saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| fault_from(&error))?;
        if bytes.len() as u64 > limit.as_u64() {
            return Err(FetchFault::larger_than(limit));
        }
        Ok(bytes.into())
    }

    /// Lists the folders as they were configured.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.0.iter().map(|root| root.given.clone()).collect()
    }

    /// Looks into one of the folders.
    pub(crate) fn probe(&self, folder: &Path) -> Result<(), FetchFault> {
        let (root, inner) = self.find(folder)?;
        root.folder()
            .and_then(|folder| folder.read_dir(inner))
            .map(drop)
            .map_err(|error| fault_from(&error))
    }

    fn find<'path>(&self, path: &'path Path) -> Result<(&Root, &'path Path), UriFault> {
        for root in self.0.iter() {
            for prefix in [&root.given, &root.real] {
                if let Ok(inner) = path.strip_prefix(prefix) {
                    return Ok((
                        root,
                        if inner.as_os_str().is_empty() { ".".as_ref() } else { inner },
                    ));
                }
            }
        }
        Err(UriFault::OutsideRoots(
            "is below none of storage.file_roots; move the file or add its folder there",
        ))
    }
}

impl Root {
    fn open(path: &Path) -> Result<Self, StorageError> {
        let refuse = |why: String| StorageError::Root { path: path.to_owned(), why };
        let given = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
        let real = fs::canonicalize(path).map_err(|error| refuse(error.to_string()))?;
        // `/dev/shm` may hold images, the rest of these holds the secrets of the machine.
        let is_too_wide = real == Path::new("/") || real == Path::new("/dev");
        if is_too_wide || real.starts_with("/proc") || real.starts_with("/sys") {
            return Err(refuse("it holds more than images; name the folder of the images".into()));
        }
        let root = Self { given, real };
        root.folder().map_err(|error| refuse(error.to_string()))?;
        Ok(root)
    }

    fn folder(&self) -> io::Result<Dir> {
        Dir::open_ambient_dir(&self.real, ambient_authority())
    }
}

fn other_kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return None;
    }
    Some(if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    })
}

fn fault_from(error: &io::Error) -> FetchFault {
    match (error.raw_os_error(), error.kind()) {
        // The sandbox speaks for itself, without the operating system.
        (None, io::ErrorKind::PermissionDenied) => {
            UriFault::OutsideRoots("leads out of its root through a symbolic link").into()
        }
        (_, io::ErrorKind::PermissionDenied) => FetchFault::Forbidden(error.to_string()),
        (_, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            FetchFault::NotFound(error.to_string())
        }
        (_, io::ErrorKind::InvalidFilename) => FetchFault::NotFound(error.to_string()),
        (Some(libc::ENXIO), _) => FetchFault::NotAFile("a socket or an absent device"),
        (Some(libc::ELOOP), _) => FetchFault::NotAFile("a loop of symbolic links"),
        _ => FetchFault::Unavailable(error.to_string()),
    }
}
