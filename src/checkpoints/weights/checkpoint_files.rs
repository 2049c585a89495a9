//! The files of a checkpoint: the weight file in a folder, and the shards of an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checkpoints::weights::error::{WeightsError, damaged};
use crate::checkpoints::weights::stand_in::read_text;

/// File names that are preferred in a folder, in this order. The first has a whole CLIP, of which a
/// `model.safetensors` next to it may have the image tower alone.
const PREFERRED_NAMES: [&str; 3] =
    ["open_clip_model.safetensors", "model.safetensors", "model.safetensors.index.json"];
/// Files that a network needs besides its weights; a checkpoint may lack them.
pub(crate) const COMPANION_FILES: [&str; 3] =
    ["config.json", "open_clip_config.json", "tokenizer.json"];
const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// Returns the weight file in a folder by the rule of [`choose_weights_file`]. A path that is not a
/// folder is returned unchanged.
pub(crate) fn weights_file_of(path: &Path) -> Result<PathBuf, WeightsError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let read_error = |reason| WeightsError::Read { path: path.to_owned(), reason };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read_error)? {
        entries.push(entry.map_err(read_error)?.file_name().to_string_lossy().into_owned());
    }
    let names: Vec<&str> = entries.iter().map(String::as_str).collect();
    match choose_weights_file(&names) {
        Ok(Some(name)) => Ok(path.join(name)),
        Ok(None) => Err(WeightsError::NoWeights { path: path.to_owned() }),
        Err(message) => Err(WeightsError::Unrecognised { path: path.to_owned(), message }),
    }
}

/// Chooses the weight file among the names of a folder: a preferred name, else the only index, else
/// the only weight file. Returns `None` if the folder has none.
///
/// # Errors
/// Returns the sentence to show if there are several candidates.
pub(crate) fn choose_weights_file<'a>(names: &[&'a str]) -> Result<Option<&'a str>, String> {
    let find = |preferred: &&str| names.iter().find(|name| *name == preferred);
    if let Some(preferred) = PREFERRED_NAMES.iter().find_map(find) {
        return Ok(Some(preferred));
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

/// Returns true if the file is an index of shards, judged by its name.
pub(crate) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX_SUFFIX))
}

/// The Hub's index of a sharded checkpoint.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// Returns all files of a checkpoint: the file itself, or an index followed by its shards.
pub(crate) fn all_files_of(weights: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let mut files = vec![weights.to_owned()];
    if is_index(weights) {
        files.extend(distinct_files(&shards_of(weights)?).into_iter().cloned());
    }
    Ok(files)
}

/// Returns each file of an index once, sorted by name.
pub(crate) fn distinct_files(shards: &BTreeMap<String, PathBuf>) -> Vec<&PathBuf> {
    let files: BTreeSet<&PathBuf> = shards.values().collect();
    files.into_iter().collect()
}

/// Returns the shard of each tensor according to an index. Shards are in the folder of the index.
pub(crate) fn shards_of(index: &Path) -> Result<BTreeMap<String, PathBuf>, WeightsError> {
    let text = read_text(index)?;
    let unreadable = |message: &dyn std::fmt::Display| damaged(index, "index", message);
    let ShardIndex { weight_map } =
        serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    let mut shards = BTreeMap::new();
    for (tensor, name) in weight_map {
        if Path::new(&name).file_name() != Some(name.as_ref()) {
            return Err(unreadable(&format!(
                "`{name}` is not a file name in the folder of the index"
            )));
        }
        shards.insert(tensor, index.with_file_name(name));
    }
    if shards.is_empty() {
        return Err(unreadable(&"it lists no tensor"));
    }
    Ok(shards)
}
