//! The text files of the repository, as the other checks read them.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders below the root that hold Rust code.
pub(crate) const CODE: [&str; 5] = ["src", "tests", "benches", "examples", "fuzz"];

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A path relative to the root, with `/` between its parts.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns all files below a folder of the root with one of these extensions, sorted. Returns
/// nothing if the folder is missing.
pub(crate) fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_some_and(|extension| extensions.contains(&extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Rust files of all folders in [`CODE`].
pub(crate) fn code() -> Vec<PathBuf> {
    CODE.iter().flat_map(|folder| files(folder, &["rs"])).collect()
}

/// The product part of a source file: everything before its unit tests.
pub(crate) fn product(text: &str) -> &str {
    text.find("\nmod tests {").map_or(text, |end| &text[..=end])
}

/// Numbered lines without those that are only a comment.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with a list of faults unless it is empty.
#[track_caller]
pub(crate) fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
