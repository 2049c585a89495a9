//! Folders of golden tensors, and comparisons with them.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::imaging::{Picture, Settings, decode};
use serde_json::Value;

/// Returns the repository's golden folder with this name, then the folders of `DOGIQA_GOLDENS` (a
/// colon-separated list) that have all of `files`.
pub(crate) fn folders(name: &str, files: &[&str]) -> Vec<PathBuf> {
    let own = goldens().join(name);
    let further = std::env::var_os("DOGIQA_GOLDENS").unwrap_or_default();
    let further = std::env::split_paths(&further).filter(|path| !path.as_os_str().is_empty());
    let further: Vec<PathBuf> = further.collect();
    let lacks = |folder: &PathBuf| files.iter().find(|file| !folder.join(file).exists());
    assert!(lacks(&own).is_none(), "{} lacks one of {files:?}", own.display());
    let mut folders = vec![own];
    for folder in further {
        assert!(
            folder.is_dir(),
            "DOGIQA_GOLDENS names {}, which is not a folder",
            folder.display()
        );
        match lacks(&folder) {
            None => folders.push(folder),
            // The list may have folders of other networks.
            Some(file) => {
                announce(&format!("golden {} has no {file}: skipped\n", folder.display()));
            }
        }
    }
    folders
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// Returns true for a folder of the repository, which has every tensor. A folder of
/// `DOGIQA_GOLDENS` may lack some.
pub(crate) fn is_in_repository(folder: &Path) -> bool {
    folder.starts_with(goldens())
}

/// Prints text to standard error. The test runner does not capture it, as it does with `eprintln!`.
pub(crate) fn announce(line: &str) {
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

/// Returns the largest difference that rounding explains between two resizes of a picture to
/// `size` × `size`, in values divided by the smallest standard deviation of a channel (0.224).
///
/// The reference computes each position in f32: product and scale are rounded, so a position is off
/// by up to 2 · 2⁻²⁴ of its size, and an interpolated value of 0..=1 by as much times the largest
/// difference of two neighbours. Each of the two passes adds half a unit in the last place for each
/// tap and for a few other operations, in both implementations.
pub(crate) fn resize_tolerance(picture: &Picture, size: usize) -> f64 {
    let (width, height) = (picture.width(), picture.height());
    let taps = |side: u32| 2.0 * (f64::from(side) / size as f64).ceil() + 1.0;
    let samples = picture.pixels().as_raw();
    let contrast = |step: usize| {
        let pairs = samples.iter().zip(samples.iter().skip(step));
        let largest = pairs.map(|(one, other)| one.abs_diff(*other)).max().unwrap_or(0);
        f64::from(largest) / 255.0
    };
    // A row's last pixel and the next row's first are no neighbours, which only raises the bound.
    let (across, down) = (contrast(3), contrast(3 * width as usize));
    let positions = 2.0 * (f64::from(width) * across + f64::from(height) * down);
    let sums = 2.0 * (taps(width) + taps(height) + 8.0);
    (positions + sums) * 2.0_f64.powi(-24) / 0.224
}

/// Reads the tensors of a safetensors file.
pub(crate) fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Copies the tensors of numbers with a fraction to a device. The others are read on the CPU: a GPU
/// cannot convert every integer dtype.
pub(crate) fn on_device(
    tensors: &HashMap<String, Tensor>,
    device: &Device,
) -> HashMap<String, Tensor> {
    let floats = tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float());
    floats.map(|(name, tensor)| (name.clone(), tensor.to_device(device).unwrap())).collect()
}

/// The device and dtype in which a network is compared with its goldens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    /// Tolerance as a share of a tensor's largest value; `None` for the tolerance that the goldens
    /// state.
    pub(crate) share: Option<f64>,
    /// True if the errors of all tensors are printed before any of them fails the test.
    pub(crate) prints: bool,
}

impl Place {
    /// The CPU in f32, with the tolerance that the goldens state.
    pub(crate) fn cpu() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, share: None, prints: false }
    }

    /// The CPU in a half format.
    pub(crate) fn cpu_in(dtype: DType, share: f64) -> Self {
        Self {
            dtype,
            share: Some(share),
            prints: std::env::var_os("DOGIQA_PRINT_ERRORS").is_some(),
            ..Self::cpu()
        }
    }

    pub(crate) fn is_half(&self) -> bool {
        self.dtype != DType::F32
    }

    fn name(&self) -> String {
        let device = if self.device.is_cpu() { "cpu" } else { "gpu" };
        format!("{device} {}", self.dtype.as_str())
    }
}

/// Compares tensors with those of one golden folder, and counts the comparisons.
pub(crate) struct Comparison {
    folder: String,
    is_in_repository: bool,
    part: &'static str,
    compared: usize,
    absent: Vec<String>,
    worst: f64,
    worst_name: String,
    /// The place, if it prints the error of each tensor before any of them fails the test.
    prints: Option<String>,
}

impl Comparison {
    /// Creates a comparison for a place.
    pub(crate) fn at(place: &Place, folder: &Path, part: &'static str) -> Self {
        let prints = place.prints.then(|| place.name());
        Self { prints, ..Self::new(folder, part) }
    }

    pub(crate) fn new(folder: &Path, part: &'static str) -> Self {
        Self {
            folder: folder.file_name().unwrap().to_string_lossy().into_owned(),
            is_in_repository: is_in_repository(folder),
            part,
            compared: 0,
            absent: Vec::new(),
            worst: 0.0,
            worst_name: "-".to_owned(),
            prints: None,
        }
    }

    /// Panics if a value differs by more than `tolerance`.
    pub(crate) fn close(&mut self, name: &str, ours: &Tensor, golden: &Tensor, tolerance: f64) {
        let Self { folder, part, .. } = self;
        assert_eq!(ours.dims(), golden.dims(), "{folder}, {part}: the shape of `{name}`");
        let exact =
            |tensor: &Tensor| tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
        let errors = (exact(ours) - exact(golden)).unwrap().abs().unwrap();
        let errors: Vec<f64> = errors.flatten_all().unwrap().to_vec1().unwrap();
        // `max` ignores NaN.
        let error = errors.into_iter().fold(0.0, |worst: f64, error| {
            if error.is_nan() { f64::INFINITY } else { worst.max(error) }
        });
        self.close_by(name, error, tolerance);
    }

    /// Compares with a golden tensor that may be absent from the folder.
    pub(crate) fn close_if_present(
        &mut self,
        name: &str,
        ours: impl FnOnce() -> Tensor,
        golden: Option<&Tensor>,
        tolerance: f64,
    ) {
        match golden {
            Some(golden) => self.close(name, &ours(), golden, tolerance),
            None => self.absent(name),
        }
    }

    /// Panics if a known error exceeds `tolerance`.
    pub(crate) fn close_by(&mut self, name: &str, error: f64, tolerance: f64) {
        if let Some(place) = &self.prints {
            // `gpu/summary.py` reads these lines.
            let row = serde_json::json!({
                "step": "parity", "row": format!("{} {name}", self.folder), "dtype": place,
                "max_error": error, "tolerance": tolerance,
            });
            announce(&format!("{row}\n"));
        }
        let Self { folder, part, prints, .. } = self;
        assert!(
            error <= tolerance || prints.is_some(),
            "{folder}, {part}: `{name}` is {error:e} off, {tolerance:e} allowed"
        );
        let share = if error > 0.0 { error / tolerance } else { 0.0 };
        self.compared += 1;
        if share > self.worst {
            (self.worst, self.worst_name) = (share, name.to_owned());
        }
    }

    /// Panics if two values differ.
    pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        ours: &T,
        golden: &T,
    ) {
        if self.prints.is_some() {
            return self.close_by(name, if ours == golden { 0.0 } else { f64::INFINITY }, 0.0);
        }
        let Self { folder, part, .. } = self;
        assert_eq!(ours, golden, "{folder}, {part}: `{name}`");
        self.compared += 1;
    }

    /// Counts a tensor or a stage that the folder does not have.
    pub(crate) fn absent(&mut self, name: &str) {
        self.absent.push(name.to_owned());
    }

    /// Prints the number of comparisons. Panics if it is below `at_least` for a folder of the
    /// repository, or zero for another folder, which may lack tensors.
    pub(crate) fn finish(self, at_least: usize) {
        let Self { folder, part, compared, worst_name, .. } = &self;
        let at_least = if self.is_in_repository { at_least } else { 1 };
        assert!(*compared >= at_least, "{folder}, {part}: {compared} compared, not {at_least}");
        let absent = self.absent.first().map_or_else(String::new, |first| {
            format!("; {} not in this folder, the first is `{first}`", self.absent.len())
        });
        announce(&format!(
            "golden {folder}, {part}: {compared} compared, worst error {:.1} % of its tolerance ({worst_name}){absent}\n",
            100.0 * self.worst
        ));
        assert!(self.worst <= 1.0, "{folder}, {part}: `{worst_name}` is over its tolerance");
    }
}
