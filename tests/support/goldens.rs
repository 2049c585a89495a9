//! Folders of golden tensors, and comparisons with them.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::imaging::{Picture, Settings, decode};
use serde_json::Value;

use crate::golden_folders::{
    announce, announce_absent, goldens, is_in_repository, named_folders, shown,
};

pub(crate) fn json(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the path of an image of a folder. The images may be in the folder, in a folder in it or
/// next to it, in a folder of `DOGIQA_GOLDENS`, or in the repository.
pub(crate) fn image_of(folder: &Path, name: &str) -> Option<PathBuf> {
    const HOLDERS: [&str; 4] = ["images", "mplug_owl3_images", "metrics/images", "."];
    let mut places: Vec<PathBuf> = folder.ancestors().take(3).map(Path::to_owned).collect();
    places.extend(named_folders());
    places.push(goldens());
    let paths = places.iter().flat_map(|place| HOLDERS.map(|holder| place.join(holder).join(name)));
    let found = paths.into_iter().find(|path| path.is_file());
    assert!(found.is_some() || !is_in_repository(folder), "{}: no {name}", folder.display());
    found
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

/// Returns the entries of an array in a file of JSON. A folder may lack the array.
pub(crate) fn entries_of<'a>(golden: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    golden[name].as_array().into_iter().flatten()
}

/// Reads the tensors of a safetensors file, if it is there.
pub(crate) fn tensors_if_any(path: &Path) -> HashMap<String, Tensor> {
    if path.exists() { tensors(path) } else { HashMap::new() }
}

/// Reads the tensors of a safetensors file.
pub(crate) fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the largest absolute value of a tensor.
pub(crate) fn largest(tensor: &Tensor) -> f64 {
    if tensor.elem_count() == 0 {
        return 0.0;
    }
    let largest = tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    largest.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
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

    /// The CPU in a half format, with one tolerance for all tensors.
    pub(crate) fn cpu_in(dtype: DType, share: f64) -> Self {
        Self { share: Some(share), ..Self::cpu_half(dtype) }
    }

    /// The CPU in a half format, with the tolerances of the network.
    pub(crate) fn cpu_half(dtype: DType) -> Self {
        let prints = std::env::var_os("DOGIQA_PRINT_ERRORS").is_some();
        Self { dtype, prints, ..Self::cpu() }
    }

    pub(crate) fn is_half(&self) -> bool {
        self.dtype != DType::F32
    }

    fn name(&self) -> String {
        let device = if self.device.is_cpu() { "cpu" } else { "gpu" };
        format!("{device} {}", self.dtype.as_str())
    }
}

/// Names of tensors in a line of the report.
const LEFT_SHOWN: usize = 6;

/// Compares tensors with those of one golden folder, and counts the comparisons.
pub(crate) struct Comparison {
    folder: PathBuf,
    part: &'static str,
    compared: usize,
    /// Names of the compared tensors.
    names: BTreeSet<String>,
    absent: Vec<String>,
    worst: f64,
    worst_name: String,
    /// Number, largest share of a tensor's largest value, and name of errors without a bound.
    measured: (usize, f64, String),
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
            folder: folder.to_owned(),
            part,
            compared: 0,
            names: BTreeSet::new(),
            absent: Vec::new(),
            worst: 0.0,
            worst_name: "-".to_owned(),
            measured: (0, 0.0, "-".to_owned()),
            prints: None,
        }
    }

    /// Returns the start of every message: folder and part.
    fn label(&self) -> String {
        format!("{}, {}", shown(&self.folder), self.part)
    }

    /// True for a folder that may lack tensors.
    pub(crate) fn is_foreign(&self) -> bool {
        !is_in_repository(&self.folder)
    }

    /// Panics if a value differs by more than `tolerance`.
    pub(crate) fn close(&mut self, name: &str, ours: &Tensor, golden: &Tensor, tolerance: f64) {
        let error = self.error(name, ours, golden);
        self.close_by(name, error, tolerance);
    }

    /// Counts the error of a tensor that has no bound, and remembers the largest.
    pub(crate) fn measure(&mut self, name: &str, ours: &Tensor, golden: &Tensor) {
        let error = self.error(name, ours, golden);
        let share = if error > 0.0 { error / largest(golden) } else { 0.0 };
        let (count, worst, worst_name) = &mut self.measured;
        *count += 1;
        if share > *worst {
            (*worst, *worst_name) = (share, name.to_owned());
        }
        self.names.insert(name.to_owned());
    }

    /// Returns the largest difference of two tensors. Panics if their shapes differ.
    fn error(&self, name: &str, ours: &Tensor, golden: &Tensor) -> f64 {
        assert_eq!(ours.dims(), golden.dims(), "{}: the shape of `{name}`", self.label());
        let exact =
            |tensor: &Tensor| tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
        let errors = (exact(ours) - exact(golden)).unwrap().abs().unwrap();
        let errors: Vec<f64> = errors.flatten_all().unwrap().to_vec1().unwrap();
        // `max` ignores NaN.
        errors.into_iter().fold(
            0.0,
            |worst: f64, error| {
                if error.is_nan() { f64::INFINITY } else { worst.max(error) }
            },
        )
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
                "step": "parity", "row": format!("{} {name}", shown(&self.folder)), "dtype": place,
                "max_error": error, "tolerance": tolerance,
            });
            announce(&format!("{row}\n"));
        }
        assert!(
            error <= tolerance || self.prints.is_some(),
            "{}: `{name}` is {error:e} off, {tolerance:e} allowed",
            self.label()
        );
        let share = if error > 0.0 { error / tolerance } else { 0.0 };
        self.compared += 1;
        self.names.insert(name.to_owned());
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
        assert_eq!(ours, golden, "{}: `{name}`", self.label());
        self.compared += 1;
        self.names.insert(name.to_owned());
    }

    /// Panics if a value differs from one in a file of JSON, which may be absent there.
    pub(crate) fn equal_if_present<T: serde::Serialize>(
        &mut self,
        name: &str,
        ours: &T,
        golden: &Value,
    ) {
        match golden {
            Value::Null => self.absent(name),
            golden => self.equal(name, &serde_json::to_value(ours).unwrap(), golden),
        }
    }

    /// Prints that the folder has something that we do not have. Panics for a folder of the
    /// repository.
    pub(crate) fn unknown(&mut self, what: &str) {
        assert!(self.is_foreign(), "{}: {what} is unknown", self.label());
        announce(&format!("golden {}: {what} is not compared\n", self.label()));
    }

    /// Counts a tensor or a stage that the folder does not have.
    pub(crate) fn absent(&mut self, name: &str) {
        self.absent.push(name.to_owned());
    }

    /// Notes that a tensor was compared under another name.
    pub(crate) fn note(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// Panics if no compared tensor has a name with one of these ends. Every golden of a network
    /// has its results.
    pub(crate) fn require_one(&self, ends: &[&str]) {
        let is_there = self.names.iter().any(|name| ends.iter().any(|end| name.ends_with(end)));
        assert!(is_there, "{}: no tensor named `…{}` was compared", self.label(), ends[0]);
    }

    /// Returns true if something of this name was compared.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Looks for tensors of the file that were not compared. Panics for a folder of the repository;
    /// another one may have tensors of stages that we do not have, which are printed.
    pub(crate) fn leave_none(
        &self,
        io: &HashMap<String, Tensor>,
        is_excepted: impl Fn(&str) -> bool,
    ) {
        let is_left = |name: &&String| !is_excepted(name) && !self.names.contains(*name);
        let mut left: Vec<&String> = io.keys().filter(is_left).collect();
        left.sort();
        let label = self.label();
        assert!(left.is_empty() || self.is_foreign(), "{label}: not compared: {left:?}");
        if !left.is_empty() {
            let first = &left[..left.len().min(LEFT_SHOWN)];
            announce(&format!("golden {label}: {} not compared, such as {first:?}\n", left.len()));
        }
    }

    /// Prints the number of comparisons, or that a folder of `DOGIQA_GOLDENS` has nothing for this
    /// part.
    pub(crate) fn finish_if_any(self, at_least: usize) {
        if self.compared == 0 && self.is_foreign() {
            let what = self.absent.first().map_or("data", String::as_str);
            announce_absent(&self.folder, self.part, what);
        } else {
            self.finish(at_least);
        }
    }

    /// Prints the number of comparisons. Panics if it is below `at_least` for a folder of the
    /// repository, or zero for another folder, which may lack tensors.
    pub(crate) fn finish(self, at_least: usize) {
        let (label, compared, worst_name) = (self.label(), self.compared, &self.worst_name);
        let at_least = if self.is_foreign() { 1 } else { at_least };
        let all = compared + self.measured.0;
        assert!(all >= at_least, "{label}: {all} compared, not {at_least}");
        let absent = self.absent.first().map_or_else(String::new, |first| {
            format!("; {} not in this folder, the first is `{first}`", self.absent.len())
        });
        let (count, share, name) = &self.measured;
        let measured = if *count == 0 {
            String::new()
        } else {
            let percent = 100.0 * share;
            format!("; {count} more are at most {percent:.1} % of their largest off ({name})")
        };
        announce(&format!(
            "golden {label}: {compared} compared, worst error {:.1} % of its tolerance ({worst_name}){measured}{absent}\n",
            100.0 * self.worst
        ));
        assert!(self.worst <= 1.0, "{label}: `{worst_name}` is over its tolerance");
    }
}
