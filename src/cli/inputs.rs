//! What the user typed, as references: files, folders, globs, URIs and standard input.

use std::fs;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::config::Settings;
use crate::event::ImageReference;
use crate::redact;
use crate::storage::file_uri;

/// What a folder is searched for; a file that is named itself may have any name.
const IMAGE_EXTENSIONS: [&str; 9] =
    ["bmp", "gif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp"];
/// Longest input that is read from standard input to tell an image from a list.
const STDIN_BYTES_MAX: u64 = 1 << 30;

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    /// A file on this machine.
    File(PathBuf),
    /// Anything storage can read.
    Uri(String),
    /// The bytes of an image that came through a pipe.
    Bytes(Vec<u8>),
}

/// What was typed as references, in its order; an image from standard input is kept in the folder
/// `piped`. What the user names is thereby allowed: the allow-lists keep strangers
/// out, and the one who types is none.
pub(super) fn references(
    arguments: &[String],
    piped: &TempDir,
    settings: &mut Settings,
) -> anyhow::Result<Vec<ImageReference>> {
    let inputs = resolve(arguments)?;
    let mut references = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let (id, uri) = match input {
            Input::File(path) => (path.display().to_string(), file_uri(&path)),
            Input::Uri(uri) => (uri.clone(), uri),
            Input::Bytes(bytes) => {
                let path = piped.path().join(index.to_string());
                fs::write(&path, bytes).context("keeping standard input")?;
                ("-".to_owned(), file_uri(&path))
            }
        };
        settings.storage.allow(&uri).with_context(|| redact::id(&id).into_owned())?;
        references.push(ImageReference { id, ..ImageReference::new(uri) });
    }
    Ok(references)
}

/// Resolves the arguments, in their order, folders and globs sorted by name.
fn resolve(arguments: &[String]) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for argument in arguments {
        if argument == "-" {
            read_standard_input(&mut io::stdin().lock(), &mut inputs)?;
        } else {
            resolve_one(argument, &mut inputs)?;
        }
    }
    Ok(inputs)
}

fn resolve_one(argument: &str, inputs: &mut Vec<Input>) -> anyhow::Result<()> {
    if is_uri(argument) {
        inputs.push(Input::Uri(argument.to_owned()));
        return Ok(());
    }
    let path = Path::new(argument);
    if path.is_dir() {
        let before = inputs.len();
        for image in images_below(path) {
            inputs.push(Input::File(image?));
        }
        if inputs.len() == before {
            bail!("no images below the folder {argument}");
        }
    } else if path.exists() {
        inputs.push(Input::File(path.to_owned()));
    } else {
        let matches = glob::glob(argument).with_context(|| format!("`{argument}`"))?;
        let files = matches.collect::<Result<Vec<_>, _>>()?;
        if files.is_empty() {
            bail!("no file, folder or match for `{argument}`");
        }
        inputs.extend(files.into_iter().filter(|path| path.is_file()).map(Input::File));
    }
    Ok(())
}

/// The images below a folder, sorted by name in each.
pub(super) fn images_below(folder: &Path) -> impl Iterator<Item = anyhow::Result<PathBuf>> + use<> {
    let name = folder.display().to_string();
    WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error).context(name.clone())),
        };
        let extension = entry.path().extension().and_then(|extension| extension.to_str());
        let named_as_image = extension.is_some_and(|extension| {
            IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
        });
        (entry.file_type().is_file() && named_as_image).then(|| Ok(entry.into_path()))
    })
}

/// Text is a list, one path or URI a line; anything else is an image itself.
fn read_standard_input(stdin: &mut impl BufRead, inputs: &mut Vec<Input>) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    stdin.take(STDIN_BYTES_MAX).read_to_end(&mut bytes).context("standard input")?;
    match String::from_utf8(bytes) {
        Ok(list) if !list.contains('\0') => {
            for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
                resolve_one(line, inputs)?;
            }
        }
        Ok(text) => inputs.push(Input::Bytes(text.into_bytes())),
        Err(error) => inputs.push(Input::Bytes(error.into_bytes())),
    }
    Ok(())
}

/// Whether something is a URI and no path.
pub(super) fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        ["s3", "gs", "az", "http", "https"].contains(&scheme) && rest.starts_with("//")
            || scheme == "file"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_all(arguments: &[&str]) -> anyhow::Result<Vec<Input>> {
        resolve(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_folder_gives_its_images_sorted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        for name in ["b.JPG", "a.png", "notes.txt", "inner/c.webp"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let found = resolve_all(&[folder.path().to_str().unwrap()]).unwrap();
        let expected = ["a.png", "b.JPG", "inner/c.webp"];
        assert_eq!(found, expected.map(|name| Input::File(folder.path().join(name))));
    }

    #[test]
    fn globs_uris_and_files_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1.jpg", "2.jpg", "odd"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let path = |name: &str| folder.path().join(name);
        let odd = path("odd");
        let glob = path("*.jpg");
        let found =
            resolve_all(&["s3://b/k", odd.to_str().unwrap(), glob.to_str().unwrap()]).unwrap();
        let file = |name| Input::File(path(name));
        assert_eq!(
            found,
            [Input::Uri("s3://b/k".to_owned()), file("odd"), file("1.jpg"), file("2.jpg")]
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let message = resolve_all(&["absent-*.jpg"]).unwrap_err().to_string();
        assert!(message.contains("absent-*.jpg"), "{message}");
    }

    #[test]
    fn standard_input_is_a_list_or_an_image() {
        let mut inputs = Vec::new();
        read_standard_input(&mut &b"s3://b/1\n\n  s3://b/2 \n"[..], &mut inputs).unwrap();
        assert_eq!(inputs.len(), 2);
        inputs.clear();
        read_standard_input(&mut &b"\xff\xd8\xff\xe0"[..], &mut inputs).unwrap();
        assert_eq!(inputs, [Input::Bytes(b"\xff\xd8\xff\xe0".to_vec())]);
    }
}
