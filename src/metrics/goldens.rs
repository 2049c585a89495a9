//! Every intermediate value and score against `tests/goldens/metrics`, which an independent
//! implementation in `NumPy` computed.
//!
//! `DOGIQA_GOLDENS` names further folders, which may lack values. `DOGIQA_PARAMETERS` names one
//! with the authors' parameters, for the folders with an `expected_real.json`.

use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::png::PngDecoder;
use image::{DynamicImage, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::metrics::biqi::DISTORTIONS;
use crate::metrics::golden_comparison::golden_folders::{self, Suite, announce_absent, folders};
use crate::metrics::golden_comparison::{Compared, SCORE, SHAPE};
use crate::metrics::half_size::half_size;
use crate::metrics::jpeg_blockiness::JpegTerms;
use crate::metrics::local_contrast::{Border, each_contrast_row};
use crate::metrics::metric::Metric;
use crate::metrics::niqe::{block_features, block_statistics};
use crate::metrics::parameters::{Parameters, measure};
use crate::metrics::plane::{Plane, grey, red};
use crate::metrics::{biqi, bliinds2, brisque, piqe};

/// Tolerances, relative to the larger of the value and one.
const PLANE: f64 = 1e-10;
const CONTRAST: f64 = 1e-9;
/// Standard deviations in flat areas: rounding errors under a root.
const FLAT_DEVIATION: f64 = 1e-5;
const FEATURE: f64 = 1e-9;
/// Noise of 1e-14 is divided by 1e-7 in flat blocks.
const BLOCK_FEATURE: f64 = 1e-6;

fn goldens() -> PathBuf {
    golden_folders::goldens().join("metrics")
}

/// Returns the folders that have a file of expected values.
fn folders_with(file: &str) -> Vec<PathBuf> {
    let mut all = folders(Suite::Metrics, &["metrics"]);
    all.retain(|folder| folder.join(file).exists());
    all
}

/// Images of a folder with their expected values. A folder without images has the repository's.
fn cases(folder: &Path, file: &str) -> Vec<(RgbImage, Value)> {
    let expected: Value = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
    let cases = expected["images"].as_array().unwrap().iter().map(|case| {
        let name = case["file"].as_str().unwrap();
        let own = folder.join(name);
        let path = if own.exists() { own } else { goldens().join(name) };
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let decoder = PngDecoder::new(std::io::Cursor::new(bytes)).unwrap();
        (DynamicImage::from_decoder(decoder).unwrap().into_rgb8(), case.clone())
    });
    cases.collect()
}

fn parameters(folder: &Path, metric: Metric) -> Parameters {
    let read = |name: &&'static str| {
        let path = folder.join(metric.name()).join(name);
        (*name, fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    let files: Vec<_> = metric.parameter_files().iter().map(read).collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    Parameters::parse(metric, &files).unwrap()
}

/// Parameters of a golden folder, or those of the repository.
fn parameters_of(folder: &Path, metric: Metric) -> Parameters {
    let own = folder.join("parameters");
    let has_own = own.join(metric.name()).exists();
    parameters(&if has_own { own } else { goldens().join("parameters") }, metric)
}

#[test]
fn grey_planes_are_exact() {
    for folder in folders_with("expected.json") {
        let mut compared = Compared::new("grey", &folder);
        for (image, case) in cases(&folder, "expected.json") {
            compared.image(&case);
            let grey = grey(&image);
            let golden = &case["grey"];
            let digest = hex::encode(Sha256::digest(grey.samples()));
            compared.same("sha256", &digest, golden.get("sha256"));
            let first: Vec<f64> = grey.samples()[..12].iter().copied().map(f64::from).collect();
            compared.all_close("first", &first, golden.get("first"), 0.0);
        }
        compared.finish(11 * 13);
    }
}

fn compare_scales(compared: &mut Compared, grey: &Plane<u8>, border: Border, scales: &Value) {
    compare_scale(compared, grey, border, &scales[0]);
    compare_scale(compared, &half_size(grey), border, &scales[1]);
}

fn compare_scale<T: Copy + Into<f64>>(
    compared: &mut Compared,
    plane: &Plane<T>,
    border: Border,
    scale: &Value,
) {
    let (mut means, mut deviations, mut contrasts) = (Vec::new(), Vec::new(), Vec::new());
    each_contrast_row(plane, border, |row| {
        means.extend_from_slice(row.mean);
        deviations.extend_from_slice(row.deviation);
        contrasts.extend_from_slice(row.contrast);
    });
    compared.close("width", plane.width() as f64, scale.get("width"), 0.0);
    compared.close("height", plane.height() as f64, scale.get("height"), 0.0);
    let samples: Vec<f64> = plane.samples().iter().map(|&sample| sample.into()).collect();
    let mean = |values: &[f64], function: fn(f64) -> f64| {
        values.iter().copied().map(function).sum::<f64>() / values.len() as f64
    };
    let deviation_tolerance =
        |value: &Value| if value.as_f64() < Some(1e-3) { FLAT_DEVIATION } else { CONTRAST };
    let mut check = |name: &str, ours, tolerance| {
        compared.close(name, ours, scale.get(name), tolerance);
    };
    check("plane_mean", mean(&samples, |value| value), PLANE);
    check("local_mean_mean", mean(&means, |value| value), PLANE);
    let flat = mean(&deviations, |value| if value < 1e-3 { 1.0 } else { 0.0 });
    let tolerance = CONTRAST + FLAT_DEVIATION * flat;
    check("local_sigma_mean", mean(&deviations, |value| value), tolerance);
    check("mscn_mean", mean(&contrasts, |value| value), CONTRAST);
    check("mscn_mean_abs", mean(&contrasts, f64::abs), CONTRAST);
    check("mscn_mean_square", mean(&contrasts, |value| value * value), CONTRAST);
    check("mscn_min", contrasts.iter().copied().fold(f64::INFINITY, f64::min), CONTRAST);
    check("mscn_max", contrasts.iter().copied().fold(f64::NEG_INFINITY, f64::max), CONTRAST);
    let zeros = contrasts.iter().filter(|&&value| value == 0.0).count();
    check("mscn_zeros", zeros as f64, 0.0);
    for probe in scale["probes"].as_array().into_iter().flatten() {
        let at = |name: &str| usize::try_from(probe[name].as_u64().unwrap()).unwrap();
        let index = at("row") * plane.width() + at("column");
        compared.close("probe of the plane", samples[index], probe.get("plane"), PLANE);
        compared.close("probe of the mean", means[index], probe.get("mean"), PLANE);
        let tolerance = deviation_tolerance(&probe["sigma"]);
        compared.close("probe of the deviation", deviations[index], probe.get("sigma"), tolerance);
        compared.close("probe of the contrast", contrasts[index], probe.get("mscn"), CONTRAST);
    }
}

/// Returns true for a feature of NIQE and BRISQUE that is a shape.
fn is_shape(index: usize) -> bool {
    let index = index % 18;
    index == 0 || index >= 2 && (index - 2).is_multiple_of(4)
}

#[test]
fn niqe_equals_its_goldens() {
    for folder in folders_with("expected.json") {
        let parameters = parameters_of(&folder, Metric::Niqe);
        let mut compared = Compared::new("niqe", &folder);
        for (image, case) in cases(&folder, "expected.json") {
            compared.image(&case);
            let golden = &case["niqe"];
            compared.score(measure(&image, &parameters), golden);
            let grey = grey(&image);
            let Ok(features) = block_features(&grey) else { continue };
            let (rows, columns) = (grey.height() / 96, grey.width() / 96);
            let whole = grey.cropped(columns * 96, rows * 96);
            compare_scales(&mut compared, &whole, Border::Repeated, &golden["scales"]);
            // The goldens are ordered column by column.
            let blocks = golden["features"].as_array().into_iter().flatten();
            for (index, expected) in blocks.enumerate() {
                let ours = &features[index % rows * columns + index / rows];
                compared.features(ours, Some(expected), is_shape, FEATURE);
            }
            let Ok(statistics) = block_statistics(&features) else { continue };
            compared.all_close("mean", &statistics.mean, golden.get("mean"), FEATURE);
            let diagonal: Vec<f64> =
                (0..36).map(|index| statistics.covariance[index][index]).collect();
            compared.all_close("diagonal", &diagonal, golden.get("covariance_diagonal"), FEATURE);
            let sum = statistics.covariance.as_flattened().iter().sum();
            compared.close("covariance", sum, golden.get("covariance_sum"), FEATURE);
        }
        compared.finish(1500);
    }
}

#[test]
fn brisque_equals_its_goldens() {
    for folder in folders_with("expected.json") {
        let parameters = parameters_of(&folder, Metric::Brisque);
        let Parameters::Brisque(inner) = &parameters else { panic!("not for BRISQUE") };
        let mut compared = Compared::new("brisque", &folder);
        for (image, case) in cases(&folder, "expected.json") {
            compared.image(&case);
            let golden = &case["brisque"];
            compared.score(measure(&image, &parameters), golden);
            let grey = grey(&image);
            compare_scales(&mut compared, &grey, Border::Zero, &golden["scales"]);
            let Ok(features) = brisque::features(&grey) else { continue };
            compared.features(&features, golden.get("features"), is_shape, FEATURE);
            let scaled = inner.ranges.scaled(&features);
            compared.all_close("scaled", &scaled, golden.get("scaled"), FEATURE);
        }
        compared.finish(1000);
    }
}

#[test]
fn biqi_equals_its_goldens() {
    for folder in folders_with("expected.json") {
        let parameters = parameters_of(&folder, Metric::Biqi);
        let mut compared = Compared::new("biqi", &folder);
        for (image, case) in cases(&folder, "expected.json") {
            compared.image(&case);
            let golden = &case["biqi"];
            compared.score(measure(&image, &parameters), golden);
            let grey = grey(&image);
            let features = biqi::features(&grey);
            compared.features(&features, golden.get("features"), |index| index >= 9, FEATURE);
            let jpeg = JpegTerms::of(&grey);
            let expected = &golden["jpeg"];
            compared.close("blockiness", jpeg.blockiness, expected.get("blockiness"), FEATURE);
            compared.close("activity", jpeg.activity, expected.get("activity"), FEATURE);
            let crossings = expected.get("zero_crossings");
            compared.close("zero crossings", jpeg.zero_crossings, crossings, FEATURE);
            if jpeg.score().is_finite() {
                compared.close("jpeg", jpeg.score(), expected.get("score"), FEATURE);
                compare_biqi(&mut compared, &parameters, &features, jpeg.score(), golden);
            }
        }
        compared.finish(500);
    }
}

fn compare_biqi(
    compared: &mut Compared,
    parameters: &Parameters,
    features: &[f64; biqi::FEATURES],
    jpeg: f64,
    golden: &Value,
) {
    let Parameters::Biqi(inner) = parameters else { panic!("not for BIQI") };
    let scaled = inner.class_ranges.scaled(features);
    if golden.get("scaled").is_some() {
        compared.all_close("scaled", &scaled, golden.get("scaled"), FEATURE);
    }
    let decisions = inner.classes.decisions(&scaled);
    compared.all_close("decisions", &decisions, golden.get("decisions"), SCORE);
    let probabilities = inner.classes.probabilities(&scaled);
    assert_eq!(probabilities.len(), DISTORTIONS);
    compared.all_close("probabilities", &probabilities, golden.get("probabilities"), SCORE);
    compared.all_close("scores", &inner.scores(features, jpeg), golden.get("scores"), SCORE);
}

#[test]
fn bliinds2_equals_its_goldens() {
    for folder in folders_with("expected.json") {
        let parameters = parameters_of(&folder, Metric::Bliinds2);
        let Parameters::Bliinds2(inner) = &parameters else { panic!("not for BLIINDS-II") };
        let mut compared = Compared::new("bliinds2", &folder);
        for (image, case) in cases(&folder, "expected.json") {
            compared.image(&case);
            let golden = &case["bliinds2"];
            let red = red(&image);
            let features = bliinds2::features(&red);
            compared.features(&features, golden.get("features"), |_| false, BLOCK_FEATURE);
            let second = bliinds2::next_scale(&red);
            let scales = [
                bliinds2::scale_features(&red),
                bliinds2::scale_features(&second),
                bliinds2::scale_features(&bliinds2::next_scale(&second)),
            ];
            for (index, values) in scales.iter().enumerate() {
                let blocks = values.shape.len() as f64;
                compared.close("blocks", blocks, golden["blocks"].get(index), 0.0);
                let first = &golden[format!("first_block_{index}")];
                compared.close("rho", values.variation[0], first.get("rho"), BLOCK_FEATURE);
                compared.close("gama", values.shape[0], first.get("gama"), SHAPE);
                compared.close("energy", values.energy[0], first.get("energy"), BLOCK_FEATURE);
                let orientation = values.orientation[0];
                compared.close("orientation", orientation, first.get("orientation"), BLOCK_FEATURE);
            }
            let optimum = inner.optimum(&features);
            compared.close("optimum", optimum, golden.get("optimum"), BLOCK_FEATURE);
            let score = measure(&image, &parameters).unwrap();
            compared.close("score", score, golden.get("score"), 0.0);
        }
        compared.finish(11 * 40);
    }
}

#[test]
fn piqe_equals_its_goldens() {
    for folder in folders_with("expected.json") {
        let mut compared = Compared::new("piqe", &folder);
        for (image, case) in cases(&folder, "expected.json") {
            compared.image(&case);
            let golden = &case["piqe"];
            let found = piqe::piqe(&grey(&image));
            compared.close("score", found.score, golden.get("score"), CONTRAST);
            compared.close("active", found.active as f64, golden.get("active"), 0.0);
            compared.close("impaired", found.impaired as f64, golden.get("impaired"), 0.0);
            compared.close("noisy", found.noisy as f64, golden.get("noisy"), 0.0);
            assert_eq!(measure(&image, &Parameters::Piqe), Ok(found.score));
        }
        compared.finish(11 * 4);
    }
}

#[test]
fn a_plain_mat_file_equals_a_compressed_one() {
    let folder = goldens().join("parameters");
    let plain = fs::read(folder.join("niqe/modelparameters_plain.mat")).unwrap();
    let files = [("modelparameters.mat", &plain[..])];
    let plain = Parameters::parse(Metric::Niqe, &files).unwrap();
    assert_eq!(plain, parameters(&folder, Metric::Niqe));
}

/// Brightness does not change NIQE: contrast that is a rounding error has no sign.
#[test]
fn niqe_does_not_change_with_brightness() {
    let parameters = parameters(&goldens().join("parameters"), Metric::Niqe);
    let mut compared = 0;
    for (image, case) in cases(&goldens(), "expected.json") {
        let (min, max) = (image.iter().min().unwrap(), image.iter().max().unwrap());
        let Ok(value) = measure(&image, &parameters) else { continue };
        // White or black pixels cannot be made brighter or darker.
        let darker = RgbImage::from_fn(image.width(), image.height(), |x, y| {
            let scaled = image.get_pixel(x, y).0.map(|value| value / 2 + 10);
            image::Rgb(scaled)
        });
        let scaled = measure(&darker, &parameters).unwrap();
        for shift in [1, 7, 64, 115] {
            let mut brighter = darker.clone();
            brighter.iter_mut().for_each(|value| *value += shift);
            let shifted = measure(&brighter, &parameters).unwrap();
            let error = (shifted - scaled).abs();
            assert!(error < 1e-9, "{}: {shifted}, not {scaled}", case["file"]);
            compared += 1;
        }
        assert!(min < max && value.is_finite());
    }
    assert!(compared >= 4 * 5, "only {compared} images were compared");
}

#[test]
fn the_authors_parameters_give_the_expected_values() {
    let Some(authors) = std::env::var_os("DOGIQA_PARAMETERS").map(PathBuf::from) else {
        for folder in folders_with("expected_real.json") {
            announce_absent(&folder, "the authors' parameters", "DOGIQA_PARAMETERS, and so none");
        }
        return;
    };
    let metrics = [Metric::Niqe, Metric::Brisque, Metric::Biqi, Metric::Bliinds2];
    let all = metrics.map(|metric| parameters(&authors, metric));
    for folder in folders_with("expected_real.json") {
        let mut compared = Compared::new("the authors' parameters", &folder);
        for (image, case) in cases(&folder, "expected_real.json") {
            compared.image(&case);
            for parameters in &all {
                let golden = &case[parameters.metric().name()];
                compared.score(measure(&image, parameters), golden);
                let grey = grey(&image);
                match parameters {
                    Parameters::Biqi(_) if !golden.is_null() => {
                        let (jpeg, features) =
                            (JpegTerms::of(&grey).score(), biqi::features(&grey));
                        compare_biqi(&mut compared, parameters, &features, jpeg, golden);
                    }
                    Parameters::Bliinds2(inner) => {
                        let optimum = inner.optimum(&bliinds2::features(&red(&image)));
                        compared.close("optimum", optimum, golden.get("optimum"), BLOCK_FEATURE);
                    }
                    _ => {}
                }
            }
        }
        compared.finish(1);
    }
}
