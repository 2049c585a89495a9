//! Files that are written beside their place first: what stands at a path is whole.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// A file in the folder of `path`, to be written and then persisted there; as any file that is created,
/// for whomever the umask lets read it.
pub(super) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let everyone = Permissions::from_mode(0o666);
    Builder::new().permissions(everyone).tempfile_in(folder.unwrap_or(Path::new(".")))
}
