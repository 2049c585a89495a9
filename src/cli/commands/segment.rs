//! `dogiqa segment`: segments images with SAM 2 and prints the masks as JSON.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tempfile::TempDir;

use crate::checkpoints::hub::locate;
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::image_arguments::{ResolvedImages, resolve_references};
use crate::cli::journey_setup::open_journey;
use crate::cli::report_folder::picture_file_name;
use crate::cli::single_model::{single_device, spawn_model_lane};
use crate::cli::terminal::{print_result, print_status};
use crate::config::Settings;
use crate::engine::lane::{Lane, RunBatch};
use crate::engine::{Devices, ModelInfo, Precision, Sam2Segmenter, Segmenter};
use crate::event::ImageReference;
use crate::imaging::Picture;
use crate::method::Rle;
use crate::models::sam2::amg::{AmgPreset, AmgSettings, GeneratedMask as Found};
use crate::pipeline::Journey;
use crate::redact;
use crate::report::outline_masks;

const EXAMPLES: &str = "Examples:\n  \
    dogiqa segment --model sam2.1-tiny photo.jpg | jq '.masks | length'\n  \
    dogiqa segment --model sam2/ --preset sam2-default --annotate outlined/ photos/\n  \
    dogiqa segment --model sam2/ --amg points_per_side=24 --amg use_m2m=true photo.jpg\n\n\
    Exit codes: 0 every image was segmented; 1 an image failed; 2 wrong usage.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files, folders, globs or URIs; `-` reads an image, or a list with one path or URI per line,
    /// from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// SAM 2 or 2.1 model: a preset, an `owner/name` of the Hub, a `.pt` or `.safetensors` file, or
    /// a folder with one
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Preset of the mask generator's parameters
    #[arg(long, value_enum, default_value_t = PresetName::DogIqa)]
    preset: PresetName,
    /// Override one parameter, named as in SAM 2's automatic mask generator: `--amg
    /// points_per_side=24`. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    amg: Vec<String>,
    /// Device of the model: `auto`, `cpu`, `cuda:0`, `metal`
    #[arg(long, default_value = "auto")]
    device: Devices,
    /// Number format of the weights; half precision is slow on a CPU
    #[arg(long, value_name = "auto|f32|f16|bf16", default_value = "auto")]
    dtype: Precision,
    /// Write each picture with outlined masks into this folder
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PresetName {
    /// Few, large objects with little overlap: the defaults of the worker
    DogIqa,
    /// The parameters of the authors' program: fewer points, overlapping masks
    Release,
    /// Defaults of SAM 2's automatic mask generator
    Sam2Default,
}

/// The output line of one image.
#[derive(Debug, Serialize)]
struct ImageLine<'a> {
    image: &'a str,
    width: u32,
    height: u32,
    model: ModelLine<'a>,
    masks: Vec<MaskLine<'a>>,
}

#[derive(Debug, Serialize)]
struct ModelLine<'a> {
    name: &'a str,
    version: &'a str,
    weights: &'a str,
    sha256: &'a str,
}

/// One mask. Boxes are `[x, y, width, height]` in pixels.
#[derive(Debug, Serialize)]
struct MaskLine<'a> {
    segmentation: &'a Rle,
    bbox: Option<[u32; 4]>,
    area: u64,
    predicted_iou: f32,
    stability_score: f32,
    point: [f32; 2],
    crop_box: [u32; 4],
}

pub(crate) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<CommandOutcome> {
    let amg = amg_settings(args.preset, &args.amg)?;
    if let Some(folder) = &args.annotate {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let stdin_folder = TempDir::new().context("a temporary folder")?;
    let ResolvedImages { references, mut failed } =
        resolve_references(&args.images, &stdin_folder, &mut settings)?;
    let mut segmented = 0;
    let (model, place, precision) = (args.model.clone(), single_device(&args.device)?, args.dtype);
    let open = move || -> anyhow::Result<(RunBatch<Picture, Vec<Found>>, ModelInfo)> {
        let path = locate(&model).context("--model")?;
        let device = place.open().context("--device")?;
        let segmenter =
            Sam2Segmenter::open(&path, amg, precision.on(place), &device).context("--model")?;
        let info = segmenter.info();
        let find = move |pictures: &[Picture]| {
            pictures.iter().map(|picture| segmenter.find(picture)).collect()
        };
        Ok((Box::new(find), info))
    };
    let (lane, info) = spawn_model_lane("segment", open).await?;
    let journey = open_journey(&settings).await?;

    let progress = ProgressBar::new(references.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}")?);
    for (index, reference) in references.iter().enumerate() {
        progress.tick();
        match find_masks(&journey, &lane, reference).await {
            Ok((picture, found)) => {
                segmented += 1;
                let line = json_line(reference, &picture, &info, &found)?;
                progress.suspend(|| print_result(&line))?;
                if let Some(folder) = &args.annotate {
                    annotate(
                        &folder.join(picture_file_name(index, &reference.id)),
                        &picture,
                        &found,
                    )?;
                }
            }
            Err(message) => {
                failed += 1;
                progress
                    .suspend(|| print_status(&format!("{}: {message}", redact::id(&reference.id))));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if failed > 0 {
        print_status(&format!("{segmented} segmented, {failed} failed"));
        return Ok(CommandOutcome::Negative);
    }
    Ok(CommandOutcome::Success)
}

/// Returns the picture and its masks, or a message if this image fails. Other images continue.
async fn find_masks(
    journey: &Journey,
    lane: &Lane<Picture, Vec<Found>>,
    reference: &ImageReference,
) -> Result<(Picture, Vec<Found>), String> {
    let picture = journey.fetch_picture(reference).await.map_err(|failure| failure.with_code())?;
    let found = lane.submit(picture.clone()).await.map_err(|error| error.to_string())?;
    Ok((picture, found))
}

/// Returns the parameters of the preset with the given `KEY=VALUE` changes.
fn amg_settings(preset: PresetName, changes: &[String]) -> anyhow::Result<AmgSettings> {
    let preset = match preset {
        PresetName::DogIqa => AmgPreset::DogIqa,
        PresetName::Release => AmgPreset::Release,
        PresetName::Sam2Default => AmgPreset::Sam2Default,
    };
    let mut table = toml::Table::try_from(preset.settings())?;
    for change in changes {
        let Some((key, value)) = change.split_once('=') else {
            bail!("`--amg {change}` is not KEY=VALUE");
        };
        let text = value.trim();
        // Text that is not TOML becomes a string, which serde refuses with the parameter's name.
        let value = text.parse().unwrap_or_else(|_| toml::Value::String(text.to_owned()));
        table.insert(key.trim().to_owned(), value);
    }
    let settings: AmgSettings = table.try_into().context("--amg")?;
    settings.check().map_err(|message| anyhow::anyhow!(message)).context("--amg")?;
    Ok(settings)
}

fn json_line(
    reference: &ImageReference,
    picture: &Picture,
    info: &ModelInfo,
    found: &[Found],
) -> anyhow::Result<String> {
    let weights = info.weights.first().context("a network has weights")?;
    let line = ImageLine {
        image: &reference.id,
        width: picture.width(),
        height: picture.height(),
        model: ModelLine {
            name: &info.name,
            version: &info.version,
            weights: &weights.name,
            sha256: &weights.sha256,
        },
        masks: found.iter().map(MaskLine::of).collect(),
    };
    Ok(serde_json::to_string(&line)?)
}

impl<'a> MaskLine<'a> {
    fn of(found: &'a Found) -> Self {
        let [left, top, ..] = found.crop.corners;
        Self {
            segmentation: &found.rle,
            bbox: found.rle.bbox().map(Into::into),
            area: found.rle.area(),
            predicted_iou: found.predicted_iou,
            stability_score: found.stability_score,
            point: found.point,
            crop_box: [left, top, found.crop.width(), found.crop.height()],
        }
    }
}

fn annotate(path: &Path, picture: &Picture, found: &[Found]) -> anyhow::Result<()> {
    let masks = found.iter().map(|mask| (&mask.rle, format!("{:.2}", mask.predicted_iou)));
    outline_masks(picture, masks).save(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_set_by_name_and_errors_name_them() {
        let changes = ["points_per_side=24", "use_m2m = true", "pred_iou_thresh=0.5"];
        let changed = amg_settings(PresetName::Sam2Default, &changes.map(str::to_owned)).unwrap();
        let expected = AmgSettings {
            points_per_side: 24,
            use_m2m: true,
            pred_iou_thresh: 0.5,
            ..AmgSettings::default()
        };
        assert_eq!(changed, expected);
        for (change, named) in [
            ("points=3", "points"),
            ("points_per_side=many", "points_per_side"),
            ("points_per_side", "KEY=VALUE"),
            ("points_per_side=0", "points_per_side"),
        ] {
            let error = amg_settings(PresetName::DogIqa, &[change.to_owned()]).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{change}: {error:#}");
        }
    }
}
