//! Which files a path means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{WeightsError, damaged};

/// The usual names in a folder, in the order in which they are looked for.
const USUAL: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
/// End of an index's name.
const INDEX: &str = ".safetensors.index.json";

/// The weights in a folder, by the rule of [`choose`]. A file is itself.
pub(crate) fn file_of(path: &Path) -> Result<PathBuf, WeightsError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let read = |reason| WeightsError::Read { path: path.to_owned(), reason };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        names.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match choose(&names) {
        Ok(Some(name)) => Ok(path.join(name)),
        Ok(None) => Err(WeightsError::NoWeights { path: path.to_owned() }),
        Err(message) => Err(WeightsError::Unrecognised { path: path.to_owned(), message }),
    }
}

/// Which of a folder's files has the weights: the usual file or index, else the only index, else the only
/// file of weights; none where there is none, and what is wrong where there are several.
pub(crate) fn choose<'a>(names: &[&'a str]) -> Result<Option<&'a str>, String> {
    let usual = |usual: &&str| names.iter().find(|name| *name == usual);
    if let Some(usual) = USUAL.iter().find_map(usual) {
        return Ok(Some(usual));
    }
    let is_weights = |name: &str| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("safetensors" | "gguf" | "pt" | "pth" | "bin"))
    };
    let in_folder = || names.iter().filter(|name| !name.contains('/'));
    let indices: Vec<_> = in_folder().filter(|name| is_index(Path::new(name))).collect();
    let files: Vec<_> = in_folder().filter(|name| is_weights(name)).collect();
    match (&indices[..], &files[..]) {
        ([one], _) | ([], [one]) => Ok(Some(one)),
        ([], []) => Ok(None),
        (indices, files) => Err(format!(
            "{} files of weights and {} indices of shards in this folder; name one",
            files.len(),
            indices.len()
        )),
    }
}

/// Whether the file lists the shards of a checkpoint.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX))
}

/// What the Hub writes beside shards.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of a checkpoint: the file itself, or an index and then its shards.
pub(crate) fn parts_of(weights: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let mut files = vec![weights.to_owned()];
    if is_index(weights) {
        files.extend(distinct(&shards_of(weights)?).into_iter().cloned());
    }
    Ok(files)
}

/// The files that an index names, each once, in their order.
pub(super) fn distinct(shards: &BTreeMap<String, PathBuf>) -> Vec<&PathBuf> {
    let files: BTreeSet<&PathBuf> = shards.values().collect();
    files.into_iter().collect()
}

/// For each tensor the file that an index says it is in. Files lie beside the index.
pub(super) fn shards_of(index: &Path) -> Result<BTreeMap<String, PathBuf>, WeightsError> {
    let read = |reason| WeightsError::Read { path: index.to_owned(), reason };
    let text = std::fs::read_to_string(index).map_err(read)?;
    let unreadable = |message: &dyn std::fmt::Display| damaged(index, "index", message);
    let Index { weight_map } = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    let mut shards = BTreeMap::new();
    for (tensor, name) in weight_map {
        if Path::new(&name).file_name() != Some(name.as_ref()) {
            return Err(unreadable(&format!("`{name}` is no name of a file beside it")));
        }
        shards.insert(tensor, index.with_file_name(name));
    }
    if shards.is_empty() {
        return Err(unreadable(&"it lists no tensor"));
    }
    Ok(shards)
}
