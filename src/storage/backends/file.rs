//! `file:` references, read below the roots.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use bytesize::ByteSize;
use cap_std::fs::{FileTypeExt, Metadata, OpenOptions, OpenOptionsExt};

use crate::storage::access::roots::FileRoots;
use crate::storage::error::{FetchFault, UriFault};

/// Reads a regular file. Blocks, and cannot be interrupted.
pub(crate) fn read(roots: &FileRoots, path: &Path, limit: ByteSize) -> Result<Bytes, FetchFault> {
    let (root, inner) = roots.find(path)?;
    let mut options = OpenOptions::new();
    // Opening a pipe must not wait for a writer, nor a terminal become the controlling one.
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

/// Checks that a folder can be listed.
pub(crate) fn probe(roots: &FileRoots, folder: &Path) -> Result<(), FetchFault> {
    let (root, inner) = roots.find(folder)?;
    root.folder()
        .and_then(|folder| folder.read_dir(inner))
        .map(drop)
        .map_err(|error| fault_from(&error))
}

/// Returns the kind of a file that is not a regular one.
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
        // Without a code of the operating system, the error is from the sandbox.
        (None, io::ErrorKind::PermissionDenied) => {
            UriFault::OutsideRoots("leads out of its root through a symbolic link").into()
        }
        (_, io::ErrorKind::PermissionDenied) => FetchFault::Forbidden(error.to_string()),
        (
            _,
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename,
        ) => FetchFault::NotFound(error.to_string()),
        (Some(libc::ENXIO), _) => FetchFault::NotAFile("a socket or an absent device"),
        (Some(libc::ELOOP), _) => FetchFault::NotAFile("a loop of symbolic links"),
        _ => FetchFault::Unavailable(error.to_string()),
    }
}
