//! The contract of the hand-crafted metrics: a finite value inside the range, or a reason; the same
//! every time.

use dog_iqa::metrics::{Metric, Parameters, measure};
use image::RgbImage;

/// An image, and the metric's parameter files.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) metric: Metric,
    pub(crate) image: RgbImage,
    /// One for each of the metric's file names.
    pub(crate) files: Vec<Vec<u8>>,
}

/// Returns true if the parameters are accepted and the image has a value.
pub(crate) fn check(input: &Measurement) -> bool {
    let Measurement { metric, image, files } = input;
    let names = metric.parameter_files().iter().copied();
    let files: Vec<(&str, &[u8])> = names.zip(files.iter().map(Vec::as_slice)).collect();
    let parameters = match Parameters::parse(*metric, &files) {
        Ok(parameters) => parameters,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert_eq!(parameters.metric(), *metric);
    let value = measure(image, &parameters);
    assert_eq!(value, measure(image, &parameters), "the value differs in a second run");
    match value {
        Ok(value) => {
            assert!(value.is_finite(), "{metric} is {value}");
            let (min, max) = metric.range();
            let is_inside = (min..=max).contains(&value);
            assert!(!metric.is_clamped() || is_inside, "{metric} is {value}");
            true
        }
        Err(reason) => {
            assert!(!reason.to_string().is_empty());
            false
        }
    }
}

/// Returns the limit on memory in bytes: of the image, of the parameters, and of rows and tables.
pub(crate) fn memory_max(input: &Measurement) -> u64 {
    let pixels = u64::from(input.image.width()) * u64::from(input.image.height());
    let files: usize = input.files.iter().map(Vec::len).sum();
    // A MAT file of a few bytes may have 4 MiB of small integers.
    (48 << 20) + pixels * input.metric.bytes_per_pixel() + 400 * files as u64
}
