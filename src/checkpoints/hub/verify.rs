//! Compares the files of a model with the Hub's digests.

use std::path::{Path, PathBuf};

use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::weights::{
    COMPANION_FILES, WeightsError, all_files_of, compute_digest, compute_sha256, has_digest,
    hub_digest_of, weights_file_of,
};

/// A file and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, or git's SHA-1 if the cache has that one.
    pub digest: String,
    /// True if the digest equals the Hub's. A file outside the cache has no digest to compare with.
    pub is_known: bool,
}

/// Reads every byte of a model's files and compares their digests with the Hub's. Files outside the
/// cache are only digested.
///
/// # Errors
/// Fails on the first file that cannot be read or whose digest differs from the Hub's.
pub fn verify(path: &Path) -> Result<Vec<CheckedFile>, HubError> {
    files_of(path)?.into_iter().map(check).collect()
}

/// Fails if a file of a model is damaged. Trusts the cached digests of unchanged large files.
pub(crate) fn verify_quickly(path: &Path) -> Result<(), HubError> {
    for path in files_of(path)? {
        if let Some(expected) = hub_digest_of(&path)
            && !has_digest(&path, &expected)?
        {
            let found = compute_digest(&expected, &path)?;
            return Err(WeightsError::digest(&path, found, expected).into());
        }
    }
    Ok(())
}

/// Returns the files of a model: weights, shards and companions.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, HubError> {
    let weights = weights_file_of(path)?;
    let mut files = all_files_of(&weights)?;
    let companions = COMPANION_FILES.map(|name| weights.with_file_name(name));
    files.extend(companions.into_iter().filter(|path| path.is_file()));
    Ok(files)
}

fn check(path: PathBuf) -> Result<CheckedFile, HubError> {
    let Some(expected) = hub_digest_of(&path) else {
        return Ok(CheckedFile { digest: compute_sha256(&path)?, path, is_known: false });
    };
    let found = compute_digest(&expected, &path)?;
    if found == expected {
        return Ok(CheckedFile { path, digest: found, is_known: true });
    }
    Err(WeightsError::digest(&path, found, expected).into())
}
