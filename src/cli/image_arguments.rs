//! Resolves IMAGE arguments to references: files, folders, globs, URIs and standard input.

use std::fs;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::cli::terminal::{print_status, with_causes};
use crate::config::Settings;
use crate::event::ImageReference;
use crate::redact;
use crate::storage::file_uri;

/// File name extensions of images in a folder. A file that is named explicitly may have any name.
const IMAGE_EXTENSIONS: [&str; 14] = [
    "avif", "bmp", "gif", "heic", "heif", "hif", "jpe", "jpeg", "jpg", "jxl", "png", "tif", "tiff",
    "webp",
];
/// Maximum number of bytes read from standard input; the rest is ignored.
const STDIN_BYTES_MAX: u64 = 1 << 30;

/// The source of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ImageSource {
    /// A local file.
    File(PathBuf),
    /// A URI for one of the stores.
    Uri(String),
    /// The content of standard input.
    Bytes(Vec<u8>),
}

/// The images that the arguments name.
#[derive(Debug)]
pub(crate) struct ResolvedImages {
    /// In the order of the arguments.
    pub(crate) references: Vec<ImageReference>,
    /// Number of arguments, or lines of a list, that name no image. Each was reported on standard
    /// error.
    pub(crate) failed: usize,
}

/// Resolves the arguments to references. An argument that names no image does not stop the others.
/// An image from standard input is written to `stdin_folder`. Adds each image to the allow-lists of
/// `settings`. The lists restrict references from Kafka, not the user of this machine.
///
/// # Errors
/// Fails if no argument names an image, or if standard input cannot be read.
pub(crate) fn resolve_references(
    arguments: &[String],
    stdin_folder: &TempDir,
    settings: &mut Settings,
) -> anyhow::Result<ResolvedImages> {
    let mut references = Vec::new();
    let mut failures = Vec::new();
    for (index, source) in resolve_all(arguments)?.into_iter().enumerate() {
        let resolved = source.and_then(|source| {
            let (id, uri) = match source {
                ImageSource::File(path) => (path.display().to_string(), file_uri(&path)),
                ImageSource::Uri(uri) => (uri.clone(), uri),
                ImageSource::Bytes(bytes) => {
                    let path = stdin_folder.path().join(index.to_string());
                    fs::write(&path, bytes).context("writing standard input to a file")?;
                    ("-".to_owned(), file_uri(&path))
                }
            };
            settings.storage.allow(&uri).with_context(|| redact::id(&id).into_owned())?;
            Ok(ImageReference { id, ..ImageReference::new(uri) })
        });
        match resolved {
            Ok(reference) => references.push(reference),
            Err(failure) => failures.push(failure),
        }
    }
    if references.is_empty() && failures.len() == 1 {
        return Err(failures.remove(0));
    }
    for failure in &failures {
        print_status(&with_causes(failure));
    }
    if references.is_empty() {
        bail!("none of the arguments names an image");
    }
    Ok(ResolvedImages { references, failed: failures.len() })
}

/// Resolves the arguments in their order. Folders and globs are sorted by name.
fn resolve_all(arguments: &[String]) -> anyhow::Result<Vec<anyhow::Result<ImageSource>>> {
    let mut sources = Vec::new();
    for argument in arguments {
        if argument == "-" {
            read_standard_input(&mut io::stdin().lock(), &mut sources)?;
        } else {
            sources.extend(resolve_one(argument));
        }
    }
    Ok(sources)
}

/// Returns the images that one argument names, or a failure in their place.
fn resolve_one(argument: &str) -> Vec<anyhow::Result<ImageSource>> {
    if is_uri(argument) {
        return vec![Ok(ImageSource::Uri(argument.to_owned()))];
    }
    let path = Path::new(argument);
    let (sources, kind): (Vec<_>, _) = if path.is_dir() {
        let images = images_below(path).map(|image| Ok(ImageSource::File(image?)));
        (images.collect(), "no images below the folder")
    } else if path.exists() {
        return vec![Ok(ImageSource::File(path.to_owned()))];
    } else {
        let matches = match glob::glob(argument) {
            Ok(matches) => matches,
            Err(error) => return vec![Err(error).with_context(|| format!("`{argument}`"))],
        };
        let is_wanted =
            |path: &Result<PathBuf, _>| path.as_ref().map_or(true, |path| path.is_file());
        let files = matches.filter(is_wanted).map(|path| Ok(ImageSource::File(path?)));
        (files.collect(), "no file, folder or match for")
    };
    if sources.is_empty() { vec![Err(anyhow!("{kind} `{argument}`"))] } else { sources }
}

/// Returns the images below a folder, sorted by name within each folder.
pub(crate) fn images_below(folder: &Path) -> impl Iterator<Item = anyhow::Result<PathBuf>> + use<> {
    let name = folder.display().to_string();
    WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error).context(name.clone())),
        };
        let extension = entry.path().extension().and_then(|extension| extension.to_str());
        let has_image_extension = extension.is_some_and(|extension| {
            IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
        });
        (entry.file_type().is_file() && has_image_extension).then(|| Ok(entry.into_path()))
    })
}

/// Reads standard input. UTF-8 without NUL is a list with one path or URI per line; anything else
/// is an image.
fn read_standard_input(
    stdin: &mut impl BufRead,
    sources: &mut Vec<anyhow::Result<ImageSource>>,
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    stdin.take(STDIN_BYTES_MAX).read_to_end(&mut bytes).context("standard input")?;
    match String::from_utf8(bytes) {
        Ok(list) if !list.contains('\0') => {
            for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
                sources.extend(resolve_one(line));
            }
        }
        Ok(text) => sources.push(Ok(ImageSource::Bytes(text.into_bytes()))),
        Err(error) => sources.push(Ok(ImageSource::Bytes(error.into_bytes()))),
    }
    Ok(())
}

/// Returns true if the text is a URI rather than a path.
pub(crate) fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        ["s3", "gs", "az", "http", "https"].contains(&scheme) && rest.starts_with("//")
            || scheme == "file"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(arguments: &[&str]) -> anyhow::Result<Vec<ImageSource>> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        resolve_all(&arguments)?.into_iter().collect()
    }

    #[test]
    fn a_folder_resolves_to_its_images_only_sorted_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        for name in ["b.JPG", "a.png", "notes.txt", "inner/c.webp"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let found = resolve(&[folder.path().to_str().unwrap()]).unwrap();
        let expected = ["a.png", "b.JPG", "inner/c.webp"];
        assert_eq!(found, expected.map(|name| ImageSource::File(folder.path().join(name))));
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
        let found = resolve(&["s3://b/k", odd.to_str().unwrap(), glob.to_str().unwrap()]).unwrap();
        let file = |name| ImageSource::File(path(name));
        assert_eq!(
            found,
            [ImageSource::Uri("s3://b/k".to_owned()), file("odd"), file("1.jpg"), file("2.jpg")]
        );
    }

    #[test]
    fn the_error_for_a_missing_file_names_it() {
        let message = resolve(&["absent-*.jpg"]).unwrap_err().to_string();
        assert!(message.contains("absent-*.jpg"), "{message}");
    }

    #[test]
    fn a_missing_file_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1.jpg"), b"x").unwrap();
        let mut settings = Settings::default();
        let mut resolve = |names: &[&str]| {
            let path = |name: &&str| folder.path().join(name).display().to_string();
            let arguments: Vec<String> = names.iter().map(path).collect();
            resolve_references(&arguments, &folder, &mut settings)
        };
        let resolved = resolve(&["0.jpg", "1.jpg", "2*.jpg", "1.jpg"]).unwrap();
        assert_eq!((resolved.references.len(), resolved.failed), (2, 2));
        let message = resolve(&["0.jpg", "2.jpg"]).unwrap_err().to_string();
        assert!(message.contains("none of the arguments"), "{message}");
    }

    #[test]
    fn standard_input_is_a_list_or_an_image() {
        let mut sources = Vec::new();
        read_standard_input(&mut &b"s3://b/1\n\n  s3://b/2 \n"[..], &mut sources).unwrap();
        assert_eq!(sources.len(), 2);
        sources.clear();
        read_standard_input(&mut &b"\xff\xd8\xff\xe0"[..], &mut sources).unwrap();
        let image = ImageSource::Bytes(b"\xff\xd8\xff\xe0".to_vec());
        assert_eq!(sources.remove(0).unwrap(), image);
        assert!(sources.is_empty());
    }
}
