//! Errors of opening a cache. Later faults switch it off instead.

use std::path::PathBuf;

use thiserror::Error;

/// A cache that cannot be opened.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Another process has the file open.
    #[error(
        "{} is in use by another process; give each worker its own cache.path",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be used.
    #[error(
        "{} cannot be used: {cause}; create its folder, give this user the right to write there, \
         or remove cache.path",
        path.display()
    )]
    Unusable {
        /// The file or its folder.
        path: PathBuf,
        /// The fault.
        cause: String,
    },
}
