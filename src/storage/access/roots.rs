//! The folders below which `file:` references may be read.
//!
//! A path is resolved from its opened root and cannot leave it, through `..` or through a symbolic
//! link. This holds even if a link changes during the resolution.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::storage::error::{StorageError, UriFault};

/// The folders below which files may be read.
#[derive(Clone, Default)]
pub(crate) struct FileRoots(Arc<[Root]>);

/// A folder under both of its names.
pub(crate) struct Root {
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
    /// Checks the configured folders.
    ///
    /// # Errors
    /// Fails if a folder cannot be opened, or holds the secrets of the machine.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, StorageError> {
        let mut roots = paths.iter().map(|path| Root::open(path)).collect::<Result<Vec<_>, _>>()?;
        // If two contain a path, the inner one is used.
        roots.sort_by_key(|root| std::cmp::Reverse(root.real.components().count()));
        Ok(Self(roots.into()))
    }

    /// Refuses a path below none of the roots. Opens nothing.
    pub(crate) fn admit(&self, path: &Path) -> Result<(), UriFault> {
        self.find(path).map(drop)
    }

    /// Returns the root of a path, and the rest of the path below it.
    pub(crate) fn find<'path>(&self, path: &'path Path) -> Result<(&Root, &'path Path), UriFault> {
        for root in self.0.iter() {
            for prefix in [&root.given, &root.real] {
                if let Ok(inner) = path.strip_prefix(prefix) {
                    let is_root = inner.as_os_str().is_empty();
                    return Ok((root, if is_root { ".".as_ref() } else { inner }));
                }
            }
        }
        Err(UriFault::OutsideRoots(
            "is not below any of storage.file_roots; move the file or add its folder there",
        ))
    }

    /// Returns the folders as configured.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.0.iter().map(|root| root.given.clone()).collect()
    }
}

impl Root {
    fn open(path: &Path) -> Result<Self, StorageError> {
        let refuse = |why: String| StorageError::Root { path: path.to_owned(), why };
        let given = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
        let real = fs::canonicalize(path).map_err(|error| refuse(error.to_string()))?;
        // `/dev/shm` may hold images; the other folders in these hold the machine's secrets.
        let is_too_wide = real == Path::new("/") || real == Path::new("/dev");
        if is_too_wide || real.starts_with("/proc") || real.starts_with("/sys") {
            return Err(refuse("it holds more than images; name the folder of the images".into()));
        }
        let root = Self { given, real };
        root.folder().map_err(|error| refuse(error.to_string()))?;
        Ok(root)
    }

    /// Opens the folder. It is not kept open, because there may be more roots than a process may
    /// have open files.
    pub(crate) fn folder(&self) -> io::Result<Dir> {
        Dir::open_ambient_dir(&self.real, ambient_authority())
    }
}
