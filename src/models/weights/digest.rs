//! SHA-256 of files of weights, computed once: a large file's stands beside it, with what identifies the
//! very file that it was computed of.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::beside::temporary_beside;
use super::error::WeightsError;

/// Files below this are read again faster than a note of them is worth.
const NOTED_FROM_BYTES: u64 = 64 << 20;

/// Hexadecimal digits of git's digests, and of SHA-256.
pub(crate) const GIT_DIGITS: usize = 40;
const SHA256_DIGITS: usize = 64;

/// SHA-256 of a file in lower-case hexadecimal: the weights' name in events.
///
/// Of a large file it is noted in `.<name>.dogiqa-sha256` beside it; a folder that cannot be written to only costs
/// the time to read the file at each start.
///
/// # Errors
/// A file that cannot be read, or one in a cache of the Hub that is not what the Hub said it would be.
pub fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    compared(path, noted(path, NOTED_FROM_BYTES))
}

/// The same, but every byte is read now, whatever is noted.
///
/// # Errors
/// As [`sha256_of`].
pub(crate) fn sha256_anew(path: &Path) -> Result<String, WeightsError> {
    compared(path, computed(path, NOTED_FROM_BYTES))
}

fn compared(path: &Path, found: io::Result<String>) -> Result<String, WeightsError> {
    let found = found.map_err(|reason| WeightsError::Read { path: path.to_owned(), reason })?;
    match given_digest(path) {
        Some(expected) if expected.len() == found.len() && expected != found => {
            Err(WeightsError::Digest { path: path.to_owned(), found, expected })
        }
        _ => Ok(found),
    }
}

/// The digest that the Hub gave a file: the name of its blob, if it is a link into a cache. That is SHA-256 of
/// a large file and git's own digest (40 digits) of a small one.
pub(crate) fn given_digest(path: &Path) -> Option<String> {
    let blob = std::fs::canonicalize(path).ok()?;
    let name = blob.file_name()?.to_str()?;
    let is_blob = blob.parent()?.file_name()? == "blobs";
    (is_blob && is_digest(name)).then(|| name.to_owned())
}

/// Whether a text is what the Hub calls files by.
pub(crate) fn is_digest(text: &str) -> bool {
    let is_long = text.len() == GIT_DIGITS || text.len() == SHA256_DIGITS;
    is_long && text.bytes().all(|c| c.is_ascii_hexdigit())
}

fn noted(path: &Path, from_bytes: u64) -> io::Result<String> {
    let state = state_of(&std::fs::metadata(path)?);
    let known = std::fs::read_to_string(beside(path)).unwrap_or_default();
    if let Some((digest, of)) = known.trim_end().split_once("  ")
        && of == state
        && digest.len() == SHA256_DIGITS
        && is_digest(digest)
    {
        return Ok(digest.to_owned());
    }
    computed(path, from_bytes)
}

fn computed(path: &Path, from_bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let state = state_of(&file.metadata()?);
    let mut hasher = Sha256::new();
    let length = io::copy(&mut file, &mut hasher)?;
    let digest = hex::encode(hasher.finalize());
    if length >= from_bytes {
        // Without the note the next start takes longer, and that is all.
        drop(note(&beside(path), &format!("{digest}  {state}\n")));
    }
    Ok(digest)
}

/// What changes when the file does. The time of the last change to its inode is the system's own: copying
/// tools, which set the time of its contents, cannot set it.
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

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.dogiqa-sha256"))
}

/// Whole or not at all: two processes may start at once.
fn note(path: &Path, text: &str) -> io::Result<()> {
    let mut file = temporary_beside(path)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_noted_once_and_forgotten_when_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(noted(&path, 4).unwrap(), abc);
        assert!(!beside(&path).exists(), "a small file is not worth a note");
        assert_eq!(noted(&path, 0).unwrap(), abc);

        // What is noted of this very file is believed.
        let text = std::fs::read_to_string(beside(&path)).unwrap();
        let other = "0".repeat(64);
        std::fs::write(beside(&path), text.replace(abc, &other)).unwrap();
        assert_eq!(noted(&path, 0).unwrap(), other);

        // Of another file, or damaged, it is not.
        for note in ["", "abc  3 bytes", &text.replace("3 bytes", "4 bytes")] {
            std::fs::write(beside(&path), note).unwrap();
            assert_eq!(noted(&path, 0).unwrap(), abc);
        }
        // Another file of the same length and the same time of its contents.
        assert_eq!(noted(&path, 0).unwrap(), abc);
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let replaced = folder.path().join("other");
        std::fs::write(&replaced, "abd").unwrap();
        File::options().write(true).open(&replaced).unwrap().set_modified(time).unwrap();
        std::fs::rename(&replaced, &path).unwrap();
        assert_ne!(noted(&path, 0).unwrap(), abc);
    }
}
