//! Finds the label files and the images of a data set on disk.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use walkdir::WalkDir;

use crate::cli::commands::evaluate::arguments::LabelArgs;
use crate::cli::image_arguments::images_below;
use crate::cli::terminal::print_status;
use crate::evaluation::{DataSet, LabelFile, Labels};

/// Maximum depth of the label files and of the folder of images below the data set's folder.
const DEPTH_MAX: usize = 4;
/// Maximum size of a label file.
const LABEL_BYTES_MAX: u64 = 256 << 20;

/// A data set on disk.
#[derive(Debug)]
pub(crate) struct DataFolder {
    /// The labels, after all filters.
    pub(crate) labels: Labels,
    /// Number of training images that were left out.
    pub(crate) training_images: usize,
    /// Folder that contains the images.
    images: PathBuf,
}

impl DataFolder {
    /// Reads the labels of a data set below `path` and applies the filters.
    ///
    /// # Errors
    /// Fails if the label files are missing or damaged, or if no label is left.
    pub(crate) fn open(set: DataSet, path: &Path, args: &LabelArgs) -> anyhow::Result<Self> {
        let files = label_files(set, path)?;
        let contents = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let parts: Vec<LabelFile<'_>> =
            names.iter().zip(&contents).map(|(name, bytes)| LabelFile { name, bytes }).collect();
        let mut labels = Labels::read(set, &parts, &args.columns())?;
        if let Some(published) = set.published_labels().filter(|it| *it != labels.labels.len()) {
            let found = labels.labels.len();
            print_status(&format!("{}: {found} labels; {published} are published", set.name()));
        }
        let training_images =
            if args.without_training { labels.remove_training_images() } else { 0 };
        filter(&mut labels, args)?;
        let images = match &args.images {
            Some(folder) => folder.clone(),
            None => image_folder(set, path),
        };
        Ok(Self { labels, training_images, images })
    }

    /// Lists the images in the folder, sorted by name within each folder.
    pub(crate) fn images(&self) -> anyhow::Result<Vec<PathBuf>> {
        let images = images_below(&self.images).collect::<Result<Vec<_>, _>>()?;
        if images.is_empty() {
            bail!("no image below {}; name their folder with --images", self.images.display());
        }
        Ok(images)
    }
}

/// Returns the label files: those that the set's authors publish, or the file itself.
fn label_files(set: DataSet, path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !path.is_dir() {
        bail!("{} is neither a file nor a folder", path.display());
    }
    let below = files_below(path);
    if set == DataSet::Csv {
        let is_table = |file: &&PathBuf| {
            file.parent() == Some(path)
                && file.extension().is_some_and(|it| it == "csv" || it == "xlsx")
        };
        let tables: Vec<&PathBuf> = below.iter().filter(is_table).collect();
        return match tables.as_slice() {
            [table] => Ok(vec![(*table).clone()]),
            tables => Err(anyhow!(
                "{} tables (.csv, .xlsx) in {}; name the one with the labels",
                tables.len(),
                path.display()
            )),
        };
    }
    let find = |name: &&str| {
        let named = below.iter().filter(|file| file.file_name().is_some_and(|it| it == *name));
        named.min_by_key(|file| file.components().count()).cloned()
    };
    let groups = set.label_files();
    let found = groups.iter().find_map(|group| group.iter().map(find).collect());
    found.ok_or_else(|| {
        let wanted: Vec<String> = groups.iter().map(|group| group.join(" and ")).collect();
        anyhow!("{} has no {}, which {} has", path.display(), wanted.join(" or "), set.name())
    })
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).max_depth(DEPTH_MAX).sort_by_file_name();
    let files = entries.into_iter().filter_map(Result::ok);
    files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    if size > LABEL_BYTES_MAX {
        bail!("{} has {size} bytes, labels have at most {LABEL_BYTES_MAX}", file.display());
    }
    fs::read(file).with_context(|| file.display().to_string())
}

/// Returns the folder of the images: the first of the published names that exists.
fn image_folder(set: DataSet, path: &Path) -> PathBuf {
    let root = if path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let folders: Vec<PathBuf> = WalkDir::new(root)
        .max_depth(DEPTH_MAX)
        .sort_by_file_name()
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir())
        .map(walkdir::DirEntry::into_path)
        .collect();
    let named = |name: &&str| {
        let named =
            folders.iter().filter(|folder| folder.file_name().is_some_and(|it| it == *name));
        named.min_by_key(|folder| folder.components().count()).cloned()
    };
    set.image_folders().iter().find_map(named).unwrap_or_else(|| root.to_owned())
}

fn filter(labels: &mut Labels, args: &LabelArgs) -> anyhow::Result<()> {
    let patterns = args
        .subset
        .iter()
        .map(|glob| glob::Pattern::new(glob).with_context(|| format!("--subset {glob}")))
        .collect::<Result<Vec<_>, _>>()?;
    if !patterns.is_empty() {
        labels.labels.retain(|label| patterns.iter().any(|it| it.matches(&label.name)));
    }
    if let Some(file) = &args.split {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let names: HashSet<&str> = text.lines().map(str::trim).collect();
        labels.labels.retain(|label| names.contains(label.name.as_str()));
    }
    if let Some(limit) = args.limit {
        labels.labels.truncate(limit);
    }
    if labels.labels.is_empty() {
        bail!("no label is left after --subset, --split and --limit");
    }
    Ok(())
}
