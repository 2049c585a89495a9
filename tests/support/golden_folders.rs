//! Finds golden folders, and tells from their files which suites compare them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Levels of folders below one that `DOGIQA_GOLDENS` names.
const DEPTH_MAX: usize = 8;
/// Largest header of a safetensors file, in bytes.
const HEADER_BYTES_MAX: u64 = 1 << 24;
/// Endings of files with data. Images and texts belong to the folders around them.
const DATA: [&str; 7] = ["csv", "gz", "json", "mat", "npz", "pt", "safetensors"];

/// A suite that compares golden folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suite {
    Sam2,
    Sam2Steps,
    Sam2Runs,
    Sam2Preprocessing,
    MplugOwl3,
    MplugOwl3Processor,
    Qwen3_5Vl,
    Qwen3_5VlProcessor,
    Tokenizers,
    Clip,
    ClipPrompts,
    Metrics,
    Joins,
    Figures,
    Release,
    OddImages,
    Decoding,
}

impl Suite {
    const ALL: [Self; 17] = [
        Self::Sam2,
        Self::Sam2Steps,
        Self::Sam2Runs,
        Self::Sam2Preprocessing,
        Self::MplugOwl3,
        Self::MplugOwl3Processor,
        Self::Qwen3_5Vl,
        Self::Qwen3_5VlProcessor,
        Self::Tokenizers,
        Self::Clip,
        Self::ClipPrompts,
        Self::Metrics,
        Self::Joins,
        Self::Figures,
        Self::Release,
        Self::OddImages,
        Self::Decoding,
    ];

    /// True for a suite that reads `io.safetensors`.
    fn is_network(self) -> bool {
        matches!(self, Self::Sam2 | Self::MplugOwl3 | Self::Qwen3_5Vl | Self::Clip)
    }

    fn takes(self, files: &Files) -> bool {
        let network = |model: &str, tensors: &[&str]| {
            files.has("io.safetensors") && files.is_network(model, tensors)
        };
        match self {
            Self::Sam2 => network("sam2", &["image_encoder.trunk.", "vision_encoder.backbone."]),
            Self::Sam2Steps => files.has("amg_steps.json"),
            Self::Sam2Runs => files.has("amg_e2e") && has_data(&files.folder.join("amg_e2e")),
            Self::Sam2Preprocessing => files.has("preprocess.safetensors"),
            Self::MplugOwl3 => network("mplugowl3", &["vision2text_model."]),
            Self::MplugOwl3Processor => files.has_key(
                "imgproc.json",
                &["variant", "processor_cases", "grid_table_w_h_rows_cols"],
            ),
            Self::Qwen3_5Vl => network("qwen3_5", &[".linear_attn."]),
            Self::Qwen3_5VlProcessor => {
                let keys = ["prompts", "prompt_cases", "resize_table", "level_tokens"];
                let is_other = Self::MplugOwl3Processor.takes(files);
                files.has_key("imgproc.json", &keys)
                    || files.has_key("imgproc.json", &["images"]) && !is_other
            }
            Self::Tokenizers => files.has("tokens.json"),
            Self::Clip => {
                network("clip", &["token_embedding.weight"])
                    || files.has("io.safetensors")
                        && files.has_key("config.json", &["vision_cfg", "text_cfg"])
            }
            Self::ClipPrompts => files.json("prompts.json").is_some_and(|prompts| {
                let mut values = prompts.as_object().into_iter().flat_map(|map| map.values());
                values.next().is_some_and(Value::is_array) && values.all(Value::is_array)
            }),
            Self::Metrics => {
                files.has_key("expected.json", &["images"])
                    || files.has_key("expected_real.json", &["images"])
            }
            Self::Joins => files.has("joins.json"),
            Self::Figures => files.has_key("expected.json", &["livec", "table_1"]),
            Self::Release => [
                "answers.json",
                "f16.json",
                "mask_cases.json",
                "masks.json",
                "ratings.json",
                "reading.json",
                "regions.json",
                "runs.json",
            ]
            .iter()
            .any(|file| files.has(file)),
            Self::OddImages => files.has("manifest.json"),
            Self::Decoding => files.has("cases.json"),
        }
    }
}

/// The files of one folder.
struct Files {
    folder: PathBuf,
    model_type: String,
    /// Names of all tensors but those of `io.safetensors`.
    tensors: Vec<String>,
}

impl Files {
    fn of(folder: &Path) -> Self {
        let mut files =
            Self { folder: folder.to_owned(), model_type: String::new(), tensors: Vec::new() };
        if !files.has("io.safetensors") {
            return files;
        }
        if let Some(config) = files.json("config.json") {
            config["model_type"].as_str().unwrap_or_default().clone_into(&mut files.model_type);
        }
        let weights = entries(folder).into_iter().filter(|path| {
            path.extension().is_some_and(|end| end == "safetensors")
                && path.file_name().is_some_and(|name| name != "io.safetensors")
        });
        files.tensors = weights.flat_map(|path| tensor_names(&path)).collect();
        files
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// Reads a file of JSON, if it is there. A damaged one is its suite's fault to report.
    fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.folder.join(name)).ok()?).ok()
    }

    fn has_key(&self, name: &str, keys: &[&str]) -> bool {
        let json = self.json(name);
        json.is_some_and(|json| keys.iter().any(|key| json.get(key).is_some()))
    }

    fn is_network(&self, model: &str, tensors: &[&str]) -> bool {
        let is_of = |name: &String| tensors.iter().any(|part| name.contains(part));
        self.model_type.starts_with(model) || self.tensors.iter().any(is_of)
    }

    fn suites(&self) -> Vec<Suite> {
        Suite::ALL.into_iter().filter(|suite| suite.takes(self)).collect()
    }
}

/// Returns true if a file of a folder has data.
fn has_data(folder: &Path) -> bool {
    let is_data =
        |path: &PathBuf| path.extension().is_some_and(|end| DATA.iter().any(|data| end == *data));
    entries(folder).iter().any(|path| path.is_file() && is_data(path))
}

/// Returns the paths in a folder, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Returns the names of the tensors of a safetensors file. Of a damaged file there are none.
fn tensor_names(path: &Path) -> Vec<String> {
    let names = || {
        let mut file = fs::File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length).min(HEADER_BYTES_MAX);
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header).ok()?;
        let header: Value = serde_json::from_slice(&header).ok()?;
        Some(header.as_object()?.keys().cloned().collect())
    };
    names().unwrap_or_default()
}

/// Golden folders below given ones.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Folders that suites compare.
    pub(crate) taken: Vec<(PathBuf, Vec<Suite>)>,
    /// Folders without data, such as those of images.
    pub(crate) without_data: Vec<PathBuf>,
    /// Folders with data that no suite compares.
    pub(crate) left: Vec<PathBuf>,
}

impl Found {
    /// Searches folders, and folders in them.
    pub(crate) fn below(named: &[PathBuf]) -> Self {
        let (mut found, mut seen) = (Self::default(), BTreeSet::new());
        for folder in named {
            found.search(folder, (0, false), &mut seen);
        }
        found
    }

    /// Searches one folder. Returns true if a suite compares it or a folder in it.
    fn search(
        &mut self,
        folder: &Path,
        (depth, is_part): (usize, bool),
        seen: &mut BTreeSet<PathBuf>,
    ) -> bool {
        let real = folder.canonicalize().unwrap();
        if !seen.insert(real) {
            return true;
        }
        let files = Files::of(folder);
        let suites = files.suites();
        let is_taken = !suites.is_empty();
        // A folder that only other suites take must not hide the tensors of an unknown network.
        let has_network = suites.iter().any(|suite| suite.is_network());
        let is_unknown_network = files.has("io.safetensors") && !has_network;
        if is_taken {
            self.taken.push((folder.to_owned(), suites));
        }
        let mut is_taken_below = false;
        if depth < DEPTH_MAX {
            for inner in entries(folder).into_iter().filter(|path| path.is_dir()) {
                is_taken_below |= self.search(&inner, (depth + 1, is_part || is_taken), seen);
            }
        }
        if is_unknown_network {
            self.left.push(folder.to_owned());
        } else if !is_taken && !is_taken_below && !is_part {
            let list = if has_data(folder) { &mut self.left } else { &mut self.without_data };
            list.push(folder.to_owned());
        }
        is_taken || is_taken_below
    }
}

/// Returns the folders that `DOGIQA_GOLDENS` names, a colon-separated list.
pub(crate) fn named_folders() -> Vec<PathBuf> {
    let list = std::env::var_os("DOGIQA_GOLDENS").unwrap_or_default();
    let named = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty());
    let named: Vec<PathBuf> = named.collect();
    for folder in &named {
        let path = folder.display();
        assert!(folder.is_dir(), "DOGIQA_GOLDENS names {path}, which is not a folder");
    }
    named
}

pub(crate) fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// Returns the repository's golden folders with these names, then those of `DOGIQA_GOLDENS` that
/// the suite compares, at any depth.
pub(crate) fn folders(suite: Suite, names: &[&str]) -> Vec<PathBuf> {
    let own = names.iter().map(|name| {
        let folder = goldens().join(name);
        let is_taken = suite.takes(&Files::of(&folder));
        assert!(is_taken, "{suite:?} does not take {}", folder.display());
        folder
    });
    let mut folders: Vec<PathBuf> = own.collect();
    let further = Found::below(&named_folders()).taken.into_iter();
    let further = further.filter(|(_, suites)| suites.contains(&suite));
    folders.extend(further.map(|(folder, _)| folder));
    folders
}

/// Returns true for a folder of the repository, which has every tensor. A folder of
/// `DOGIQA_GOLDENS` may lack some.
pub(crate) fn is_in_repository(folder: &Path) -> bool {
    folder.starts_with(goldens())
}

/// Returns the path of a folder, for the reports. Those of the repository are relative.
pub(crate) fn shown(folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.strip_prefix(root).unwrap_or(folder).display().to_string()
}

/// Prints text to standard error. The test runner does not capture it, as it does with `eprintln!`.
pub(crate) fn announce(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Prints that a folder has nothing for a part of a suite.
pub(crate) fn announce_absent(folder: &Path, part: &str, what: &str) {
    announce(&format!("golden {}, {part}: no {what} in this folder: 0 compared\n", shown(folder)));
}

/// Returns true if a folder has a file. Prints that a part is not compared without it.
pub(crate) fn has_file(folder: &Path, part: &str, file: &str) -> bool {
    let is_there = folder.join(file).exists();
    if !is_there {
        assert!(!is_in_repository(folder), "{} lacks {file}", folder.display());
        announce_absent(folder, part, file);
    }
    is_there
}
