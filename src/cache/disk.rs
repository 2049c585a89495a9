//! The checks of a cache that do not open its file, which a worker may have open.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use crate::cache::error::CacheError;
use crate::cache::settings::Settings;

/// Returns the bytes that the disk lacks for a full cache; 0 if it has room or does not say.
///
/// # Errors
/// Fails if this user cannot write the folder or the file.
pub fn check_disk(settings: &Settings) -> Result<u64, CacheError> {
    let Some(path) = settings.file() else { return Ok(0) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let usable = |path: &Path, rights: Access| {
        access(path, rights).map_err(|error| CacheError::Unusable {
            path: path.to_owned(),
            cause: error.to_string(),
        })
    };
    usable(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    if path.is_dir() {
        let cause = "it is a folder, and a file is needed".to_owned();
        return Err(CacheError::Unusable { path: path.to_owned(), cause });
    }
    if path.exists() {
        usable(path, Access::READ_OK | Access::WRITE_OK)?;
    }
    let size = path.metadata().map_or(0, |metadata| metadata.len());
    let needed = settings.bytes_max.as_u64().saturating_sub(size);
    let disk = statvfs(folder).ok().filter(|disk| disk.f_blocks > 0);
    let free = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    Ok(free.map_or(0, |free| needed.saturating_sub(free)))
}
