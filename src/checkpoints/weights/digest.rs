//! Digests of weight files. The SHA-256 of a large file is cached in a file next to it, together
//! with the state of the hashed file. For a link that is the folder of its target: other programs
//! count the files of a snapshot of the Hub.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::checkpoints::atomic_file::temporary_file_for;
use crate::checkpoints::weights::error::WeightsError;

/// Size from which a SHA-256 is cached; hashing a smaller file again is fast.
const CACHED_FROM_BYTES: u64 = 64 << 20;

/// Hexadecimal digits of git's SHA-1.
pub(crate) const GIT_DIGITS: usize = 40;
/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// Returns the SHA-256 of a file in lower-case hexadecimal, which identifies the weights in events.
///
/// That of a large file is cached in `.<name>.dogiqa-sha256` next to it, or next to the target of a
/// link. If the folder cannot be written to, the file is read again at each start.
///
/// # Errors
/// Fails if the file cannot be read, or is in a cache of the Hub and has a digest that differs from
/// the Hub's.
pub fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    compare_with_hub(path, cached_sha256(path, CACHED_FROM_BYTES))
}

/// As [`sha256_of`], but reads every byte even if a digest is cached.
///
/// # Errors
/// As [`sha256_of`].
pub(crate) fn compute_sha256(path: &Path) -> Result<String, WeightsError> {
    compare_with_hub(path, read_sha256(path, CACHED_FROM_BYTES))
}

/// Computes the digest of a file in the kind of `other`: git's SHA-1 or SHA-256.
///
/// # Errors
/// As [`sha256_of`].
pub(crate) fn compute_digest(other: &str, path: &Path) -> Result<String, WeightsError> {
    if other.len() != GIT_DIGITS {
        return compute_sha256(path);
    }
    git_sha1(path).map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })
}

/// Computes the digest of a file in the kind of `other`, without storing it: a download is renamed
/// afterwards.
///
/// # Errors
/// Fails if the file cannot be read.
pub(crate) fn digest_of_download(other: &str, path: &Path) -> Result<String, WeightsError> {
    let digest =
        if other.len() == GIT_DIGITS { git_sha1(path) } else { read_sha256(path, u64::MAX) };
    digest.map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })
}

/// Stores the SHA-256 of a large file that was computed under another name. Git's SHA-1 is not
/// stored.
pub(crate) fn store_digest(path: &Path, digest: &str) {
    store_sha256(path, digest, CACHED_FROM_BYTES);
}

fn store_sha256(path: &Path, digest: &str, cached_from_bytes: u64) {
    if digest.len() == SHA256_DIGITS
        && let Ok(metadata) = std::fs::metadata(path)
        && metadata.len() >= cached_from_bytes
    {
        let entry = format!("{digest}  {}\n", state_of(&metadata));
        // Without the entry the next start only takes longer.
        drop(write_entry(&cache_path(path), &entry));
    }
}

/// Returns true if a file has this digest. Trusts the cached digest of an unchanged large file.
///
/// # Errors
/// Fails if the file cannot be read.
pub(crate) fn has_digest(path: &Path, expected: &str) -> Result<bool, WeightsError> {
    let found = if expected.len() == GIT_DIGITS {
        git_sha1(path)
    } else {
        cached_sha256(path, CACHED_FROM_BYTES)
    };
    let found = found.map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })?;
    Ok(found == expected)
}

/// Returns the Hub's digest of a file, if the file is a blob of a Hub cache or a link to one: a
/// blob's name is its digest. That is SHA-256 for a large file and git's SHA-1 for a small one.
///
/// A blob is in `blobs` of its repository, in `blobs/<2 digits>` of a cache that repositories
/// share, or wherever else a link leads.
pub(crate) fn hub_digest_of(path: &Path) -> Option<String> {
    let blob = std::fs::canonicalize(path).ok()?;
    let name = blob.file_name()?;
    let is_blob = blob.ancestors().skip(1).take(2).any(|folder| folder.ends_with("blobs"));
    let is_link = path.file_name() != Some(name);
    let digest = name.to_str()?;
    ((is_blob || is_link) && is_digest(digest)).then(|| digest.to_ascii_lowercase())
}

/// Returns true if a text has the form of a digest of the Hub.
pub(crate) fn is_digest(text: &str) -> bool {
    let has_length = text.len() == GIT_DIGITS || text.len() == SHA256_DIGITS;
    has_length && text.bytes().all(|c| c.is_ascii_hexdigit())
}

fn compare_with_hub(path: &Path, found: io::Result<String>) -> Result<String, WeightsError> {
    let found = found.map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })?;
    match hub_digest_of(path) {
        Some(expected) if expected.len() == found.len() && expected != found => {
            Err(WeightsError::digest(path, found, expected))
        }
        _ => Ok(found),
    }
}

fn cached_sha256(path: &Path, cached_from_bytes: u64) -> io::Result<String> {
    let state = state_of(&std::fs::metadata(path)?);
    let entry = std::fs::read_to_string(cache_path(path)).unwrap_or_default();
    if let Some((digest, cached_state)) = entry.trim_end().split_once("  ")
        && cached_state == state
        && digest.len() == SHA256_DIGITS
        && is_digest(digest)
    {
        return Ok(digest.to_owned());
    }
    read_sha256(path, cached_from_bytes)
}

fn read_sha256(path: &Path, cached_from_bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let state = state_of(&file.metadata()?);
    let mut hasher = Sha256::new();
    let length = io::copy(&mut file, &mut hasher)?;
    let digest = hex::encode(hasher.finalize());
    if length >= cached_from_bytes {
        // Without the entry the next start only takes longer.
        drop(write_entry(&cache_path(path), &format!("{digest}  {state}\n")));
    }
    Ok(digest)
}

/// Returns a text that changes whenever the file does. It has the time at which the inode changed,
/// because tools that copy files can set the modification time but not this one.
fn state_of(metadata: &Metadata) -> String {
    format!(
        "{} bytes, inode {} of {}, changed {}.{:09}",
        metadata.len(),
        metadata.ino(),
        metadata.dev(),
        metadata.ctime(),
        metadata.ctime_nsec()
    )
}

fn cache_path(path: &Path) -> PathBuf {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.dogiqa-sha256"))
}

/// Atomic, because two processes may start at once.
fn write_entry(path: &Path, text: &str) -> io::Result<()> {
    let mut file = temporary_file_for(path)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// Git's digest of a file's contents.
fn git_sha1(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha1::new().chain_update(format!("blob {}\0", file.metadata()?.len()));
    io::copy(&mut file, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_cached_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(cached_sha256(&path, 4).unwrap(), abc);
        assert!(!cache_path(&path).exists(), "the digest of a small file is not cached");
        assert_eq!(cached_sha256(&path, 0).unwrap(), abc);

        // An entry for the file in this very state is used.
        let entry = std::fs::read_to_string(cache_path(&path)).unwrap();
        store_sha256(&path, abc, 0);
        assert_eq!(std::fs::read_to_string(cache_path(&path)).unwrap(), entry);
        let other = "0".repeat(64);
        std::fs::write(cache_path(&path), entry.replace(abc, &other)).unwrap();
        assert_eq!(cached_sha256(&path, 0).unwrap(), other);

        // An entry for another state, or a damaged one, is not.
        for text in ["", "abc  3 bytes", &entry.replace("3 bytes", "4 bytes")] {
            std::fs::write(cache_path(&path), text).unwrap();
            assert_eq!(cached_sha256(&path, 0).unwrap(), abc);
        }
        // Another file of the same length and modification time replaces it.
        assert_eq!(cached_sha256(&path, 0).unwrap(), abc);
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let replaced = folder.path().join("other");
        std::fs::write(&replaced, "abd").unwrap();
        File::options().write(true).open(&replaced).unwrap().set_modified(time).unwrap();
        std::fs::rename(&replaced, &path).unwrap();
        assert_ne!(cached_sha256(&path, 0).unwrap(), abc);
    }

    #[test]
    fn the_digest_of_a_link_is_stored_next_to_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let blobs = folder.join("blobs/ba");
        let snapshot = folder.join("models--a--b/snapshots/c");
        for folder in [&blobs, &snapshot] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(blobs.join(abc), "abc").unwrap();
        let link = snapshot.join("model.safetensors");
        std::os::unix::fs::symlink(blobs.join(abc), &link).unwrap();
        assert_eq!(cached_sha256(&link, 0).unwrap(), abc);
        assert_eq!(cache_path(&link), blobs.join(format!(".{abc}.dogiqa-sha256")));
        assert_eq!(std::fs::read_dir(&snapshot).unwrap().count(), 1);

        // A shared blob has the Hub's digest behind the link and by its own path.
        for path in [&link, &blobs.join(abc)] {
            assert_eq!(hub_digest_of(path).as_deref(), Some(abc));
        }
        assert!(has_digest(&link, abc).unwrap());
        std::fs::write(blobs.join(abc), "abd").unwrap();
        assert!(!has_digest(&link, abc).unwrap());
        let error = sha256_of(&link).unwrap_err().to_string();
        assert!(error.contains(blobs.join(abc).to_str().unwrap()), "{error}");
        std::fs::rename(blobs.join(abc), folder.join(abc)).unwrap();
        assert_eq!(hub_digest_of(&folder.join(abc)), None, "an own file may have any name");
    }
}
