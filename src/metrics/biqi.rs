//! BIQI: the kind of distortion is classified by wavelet statistics, and each kind has a
//! regression of its own.

use crate::metrics::error::{ParametersError, Undefined};
use crate::metrics::gaussian_fit::symmetric_shape;
use crate::metrics::jpeg_blockiness::JpegTerms;
use crate::metrics::lanes::{LANES, each, load, vectorised};
use crate::metrics::plane::Plane;
use crate::metrics::range_file::Ranges;
use crate::metrics::svm::{Classification, Regression};
use crate::metrics::wavelet::{Level, level};

/// Variance and shape of nine sub-bands.
pub(crate) const FEATURES: usize = 18;
const BANDS: usize = 9;
/// JPEG 2000, JPEG, white noise, blur and fast fading.
pub(crate) const DISTORTIONS: usize = 5;
/// Index of JPEG, which has a measure of its own instead of a regression.
const JPEG: usize = 1;
/// A sub-band with less variance has only rounding errors.
const VARIANCE_MIN: f64 = 1e-18;

/// The classification and four regressions, each with the ranges of its features.
#[derive(Debug, Clone, PartialEq)]
pub struct BiqiParameters {
    pub(crate) class_ranges: Ranges,
    pub(crate) classes: Classification,
    /// JPEG 2000, white noise, blur and fast fading.
    regressions: [(Ranges, Regression); 4],
}

impl BiqiParameters {
    /// Reads the authors' files, by name.
    ///
    /// # Errors
    /// Fails if a file is missing or damaged, or has other features or classes.
    pub(crate) fn parse<'a>(
        file: impl Fn(&'static str) -> Result<&'a [u8], ParametersError>,
    ) -> Result<Self, ParametersError> {
        let invalid = |file| move |reason| ParametersError::Invalid { file, reason };
        let ranges = |name| Ranges::parse(file(name)?, FEATURES).map_err(invalid(name));
        let regression = |model, range| {
            let regression = Regression::parse(file(model)?, FEATURES).map_err(invalid(model))?;
            Ok((ranges(range)?, regression))
        };
        let classes = "model_89";
        Ok(Self {
            class_ranges: ranges("range2")?,
            classes: Classification::parse(file(classes)?, FEATURES, DISTORTIONS)
                .map_err(invalid(classes))?,
            regressions: [
                regression("model_89_jp2k", "range2_jp2k")?,
                regression("model_89_wn", "range2_wn")?,
                regression("model_89_blur", "range2_blur")?,
                regression("model_89_ff", "range2_ff")?,
            ],
        })
    }

    /// Returns the score of each distortion.
    pub(crate) fn scores(&self, features: &[f64; FEATURES], jpeg: f64) -> [f64; DISTORTIONS] {
        let [jp2k, noise, blur, fading] = self
            .regressions
            .each_ref()
            .map(|(ranges, regression)| regression.value(&ranges.scaled(features)));
        let mut scores = [jp2k, 0.0, noise, blur, fading];
        scores[JPEG] = jpeg;
        scores
    }
}

/// Returns the score; lower is better.
///
/// # Errors
/// Fails if the measure of JPEG blocks is not finite.
pub(crate) fn biqi(grey: &Plane<u8>, parameters: &BiqiParameters) -> Result<f64, Undefined> {
    let jpeg = JpegTerms::of(grey).score();
    if !jpeg.is_finite() {
        return Err(Undefined::NoBlockiness);
    }
    let features = features(grey);
    let probabilities =
        parameters.classes.probabilities(&parameters.class_ranges.scaled(&features));
    let scores = parameters.scores(&features, jpeg);
    Ok(probabilities.iter().zip(scores).map(|(probability, score)| probability * score).sum())
}

/// Returns the variances of H1, H2, H3, V1, …, D3, then their shapes in the same order.
pub(crate) fn features(grey: &Plane<u8>) -> [f64; FEATURES] {
    let mut features = [0.0; FEATURES];
    let mut store = |scale: usize, bands: &[Plane<f64>; 3]| {
        for (kind, band) in bands.iter().enumerate() {
            let (variance, shape) = variance_and_shape(band.samples());
            features[3 * kind + scale] = variance;
            features[BANDS + 3 * kind + scale] = shape;
        }
    };
    let Level { mut low, bands } = level(grey);
    store(0, &bands);
    drop(bands);
    for scale in 1..3 {
        let next = level(&low);
        store(scale, &next.bands);
        low = next.low;
    }
    features
}

fn variance_and_shape(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let [mean, _] = sums(values, |value| [value, 0.0]).map(|sum| sum / count);
    let [variance, deviation] = sums(values, |value| {
        let distance = value - mean;
        [distance * distance, distance.abs()]
    })
    .map(|sum| sum / count);
    if variance < VARIANCE_MIN {
        return (0.0, symmetric_shape(f64::NAN));
    }
    (variance, symmetric_shape(variance / (deviation * deviation)))
}

/// Returns the sums of two functions of the values.
fn sums(values: &[f64], functions: impl Fn(f64) -> [f64; 2]) -> [f64; 2] {
    let whole = values.len() / LANES * LANES;
    let mut sums = vectorised(|| {
        let mut sums = [[0.0; LANES]; 2];
        for at in (0..whole).step_by(LANES) {
            let values = load(values, at);
            sums = [
                each(|lane| sums[0][lane] + functions(values[lane])[0]),
                each(|lane| sums[1][lane] + functions(values[lane])[1]),
            ];
        }
        sums.map(|lanes| lanes.iter().sum::<f64>())
    });
    for &value in &values[whole..] {
        let [first, second] = functions(value);
        sums[0] += first;
        sums[1] += second;
    }
    sums
}
