//! Folders of golden tensors, and how ours are held to them.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::imaging::{Picture, Settings, decode};
use serde_json::Value;

/// The repository's golden folder of this name, then those that `DOGIQA_GOLDENS` names (a
/// colon-separated list) and that have all of `files`.
pub(crate) fn folders(name: &str, files: &[&str]) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    let further = std::env::var_os("DOGIQA_GOLDENS").unwrap_or_default();
    let further = std::env::split_paths(&further).filter(|path| !path.as_os_str().is_empty());
    let further: Vec<PathBuf> = further.collect();
    let lacks = |folder: &PathBuf| files.iter().find(|file| !folder.join(file).exists());
    assert!(lacks(&own).is_none(), "{} lacks one of {files:?}", own.display());
    let mut folders = vec![own];
    for folder in further {
        assert!(folder.is_dir(), "DOGIQA_GOLDENS names {}, which is no folder", folder.display());
        match lacks(&folder) {
            None => folders.push(folder),
            // Other folders are of other networks.
            Some(file) => {
                tell(&format!("golden {} has no {file}: passed over\n", folder.display()));
            }
        }
    }
    folders
}

/// Prints what the test runner does not hold back.
fn tell(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

pub(crate) fn json(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn picture(path: &Path) -> Picture {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    decode(&bytes, &Settings::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tensors of a safetensors file.
pub(crate) fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares tensors with one folder's, and tells how many there were and how near they came.
pub(crate) struct Comparison {
    folder: String,
    part: &'static str,
    compared: usize,
    worst: f64,
    worst_name: String,
}

impl Comparison {
    pub(crate) fn new(folder: &Path, part: &'static str) -> Self {
        let folder = folder.file_name().unwrap().to_string_lossy().into_owned();
        Self { folder, part, compared: 0, worst: 0.0, worst_name: "-".to_owned() }
    }

    /// Fails, naming the tensor, when any value is further away than `tolerance`.
    pub(crate) fn close(&mut self, name: &str, ours: &Tensor, golden: &Tensor, tolerance: f64) {
        let place = format!("{}, {}: `{name}`", self.folder, self.part);
        assert_eq!(ours.dims(), golden.dims(), "{place} has another shape");
        let ours = ours.to_dtype(DType::F64).unwrap();
        let apart = (ours - golden.to_dtype(DType::F64).unwrap()).unwrap().abs().unwrap();
        let values: Vec<f64> = apart.flatten_all().unwrap().to_vec1().unwrap();
        // `max` would pass over NaN.
        let apart = values.into_iter().fold(0.0, |worst: f64, apart| {
            if apart.is_nan() { f64::INFINITY } else { worst.max(apart) }
        });
        self.close_by(name, apart, tolerance);
    }

    /// The same for a distance that is known.
    pub(crate) fn close_by(&mut self, name: &str, apart: f64, tolerance: f64) {
        let Self { folder, part, .. } = self;
        assert!(
            apart <= tolerance,
            "{folder}, {part}: `{name}` is {apart:e} off, {tolerance:e} allowed"
        );
        let share = if tolerance > 0.0 { apart / tolerance } else { 0.0 };
        self.compared += 1;
        if share > self.worst {
            (self.worst, self.worst_name) = (share, name.to_owned());
        }
    }

    /// Fails, naming the step, when two values differ.
    pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        ours: &T,
        golden: &T,
    ) {
        let Self { folder, part, .. } = self;
        assert_eq!(ours, golden, "{folder}, {part}: `{name}`");
        self.compared += 1;
    }

    /// Prints a line that the test runner does not hold back.
    pub(crate) fn finish(self) {
        let Self { folder, part, compared, worst, worst_name } = self;
        let line = format!(
            "golden {folder}, {part}: {compared} compared, worst error {:.1} % of its tolerance ({worst_name})\n",
            100.0 * worst
        );
        tell(&line);
    }
}
