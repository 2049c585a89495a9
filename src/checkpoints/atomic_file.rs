//! Writes a temporary file and renames it, so that readers never see a partial file.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Creates a temporary file in the folder of `path`; persisting it to `path` is then a rename on
/// one file system. The umask decides who may read it, as for any other new file.
pub(crate) fn temporary_file_for(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let everyone = Permissions::from_mode(0o666);
    Builder::new().permissions(everyone).tempfile_in(folder.unwrap_or(Path::new(".")))
}
