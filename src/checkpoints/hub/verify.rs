//! Compares the files of a model with the Hub's digests.

use std::path::{Path, PathBuf};

use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::published::published_sha256;
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
    /// The digest that it was compared with, or `None` if there is none.
    pub source: Option<DigestSource>,
}

/// The source of a digest to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestSource {
    /// The cache of the Hub, where the name of a blob is its digest.
    Hub,
    /// The published file of the same name.
    Published,
}

/// Reads every byte of a model's files and compares their digests with the Hub's. A file outside
/// the cache is compared with the published file of its name, if that one's digest is known.
///
/// # Errors
/// Fails on the first file that cannot be read or whose digest differs.
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
    if let Some(expected) = hub_digest_of(&path) {
        let found = compute_digest(&expected, &path)?;
        return if found == expected {
            Ok(CheckedFile { path, digest: found, source: Some(DigestSource::Hub) })
        } else {
            Err(WeightsError::digest(&path, found, expected).into())
        };
    }
    let digest = compute_sha256(&path)?;
    match published_sha256(&path) {
        Some(expected) if digest != expected => {
            Err(HubError::NotPublished { path, found: digest, expected })
        }
        published => {
            let source = published.map(|_| DigestSource::Published);
            Ok(CheckedFile { path, digest, source })
        }
    }
}
