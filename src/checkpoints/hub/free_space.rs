//! Compares the size of missing files with the free space of the cache's disk, before the first
//! byte is fetched.

use std::path::Path;

use rustix::fs::statvfs;

use crate::checkpoints::hub::cache::CachedCommit;
use crate::checkpoints::hub::download::PullScope;
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::hub::revision::RepositoryFile;

/// Fails if files need more space than the disk has: those that are not in the cache, and if all
/// are fetched, the largest of the others, which is replaced after its download. A file whose size
/// the Hub does not state counts as empty.
pub(crate) fn check_free_space<'a>(
    model: &HubModel,
    commit: &CachedCommit<'_>,
    scope: PullScope,
    files: impl Iterator<Item = &'a RepositoryFile>,
) -> Result<(), HubError> {
    let (mut missing, mut replaced) = (0, 0);
    // Sizes are numbers of a server: their sum may overflow.
    for file in files {
        if commit.file(&file.rfilename).is_none() {
            missing = u64::saturating_add(missing, bytes_to_fetch(commit, file));
        } else if scope == PullScope::Everything {
            replaced = u64::max(replaced, file.size.unwrap_or_default());
        }
    }
    let needed = missing.saturating_add(replaced);
    let folder = commit.existing_folder();
    match free_bytes(folder) {
        Some(free) if free < needed => {
            Err(HubError::NoSpace { model: model.clone(), folder: folder.to_owned(), needed, free })
        }
        _ => Ok(()),
    }
}

/// Returns the bytes of a file that are neither in a blob nor in the rest of an interrupted
/// download.
fn bytes_to_fetch(commit: &CachedCommit<'_>, file: &RepositoryFile) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let here = file
        .digest()
        .map_or(0, |digest| size(&commit.blob(digest)).max(size(&commit.partial_blob(digest))));
    file.size.unwrap_or_default().saturating_sub(here)
}

/// Returns the free bytes for this user on a folder's disk, or `None` if the file system does not
/// state them.
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = statvfs(folder).ok().filter(|disk| disk.f_blocks > 0)?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
