//! Values of hand-crafted metrics as scores.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::ParallelProgressIterator;
use rayon::prelude::*;

use crate::checkpoints::metrics::{LoadedParameters, load_all_parameters};
use crate::cli::terminal::{image_bar, print_status};
use crate::evaluation::{Score, Scores};
use crate::imaging::{self, Picture};
use crate::metrics::{Better, Metric, measure};

/// The metrics of the images, and the images that could not be read.
#[derive(Debug, Default)]
pub(crate) struct MetricScores {
    /// The scores of each metric. Values of a metric of which lower ones are better are negated.
    pub(crate) scores: Vec<Scores>,
    /// Number of images that could not be decoded. Each was reported on standard error.
    pub(crate) failed: usize,
}

/// Measures the images, several at a time. An image for which a metric is not defined has no score.
///
/// # Errors
/// Fails if the parameters of a metric are missing or damaged.
pub(crate) fn measure_images(
    metrics: &[Metric],
    parameters: Option<&Path>,
    images: &[PathBuf],
    imaging: &imaging::Settings,
) -> anyhow::Result<MetricScores> {
    let loaded = load_all_parameters(metrics, parameters)?;
    let progress = image_bar(images.len() as u64)?;
    let measured: Vec<Option<Vec<Option<f64>>>> = images
        .par_iter()
        .progress_with(progress.clone())
        .map(|path| match decode(path, imaging) {
            Ok(picture) => {
                let value = |it: &LoadedParameters| measure(picture.pixels(), &it.parameters).ok();
                Some(loaded.iter().map(value).collect())
            }
            Err(reason) => {
                progress.suspend(|| print_status(&format!("{}: {reason}", path.display())));
                None
            }
        })
        .collect();
    progress.finish_and_clear();
    let scores = metrics.iter().enumerate().map(|(index, metric)| {
        let sign = if metric.better() == Better::Lower { -1.0 } else { 1.0 };
        let mut scores = Vec::new();
        let mut without_value = 0;
        for (path, values) in images.iter().zip(&measured) {
            match values.as_ref().and_then(|values| values[index]) {
                Some(value) => scores
                    .push(Score { names: vec![path.display().to_string()], value: sign * value }),
                None => without_value += usize::from(values.is_some()),
            }
        }
        let origin = match metric.better() {
            Better::Lower => format!("{metric}, negated"),
            Better::Higher => metric.to_string(),
        };
        Scores { origin, scores, without_value }
    });
    let failed = measured.iter().filter(|values| values.is_none()).count();
    Ok(MetricScores { scores: scores.collect(), failed })
}

fn decode(path: &Path, imaging: &imaging::Settings) -> Result<Picture, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    imaging::decode(&bytes, imaging).map_err(|error| error.to_string())
}
