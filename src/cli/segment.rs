//! `dogiqa segment`: what SAM 2 sees in an image.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tempfile::TempDir;

use crate::config::Settings;
use crate::engine::lane::{Lane, RunBatch};
use crate::engine::{Devices, ModelInfo, Precision, Sam2Segmenter, Segmenter};
use crate::event::ImageReference;
use crate::imaging::Picture;
use crate::method::Rle;
use crate::models::hub::locate;
use crate::models::sam2::amg::{AmgSettings, Found, Preset};
use crate::pipeline::Journey;
use crate::report::outline_masks;
use crate::storage::shown_id;

use super::device::{on_device, one_place};
use super::gallery::picture_name;
use super::inputs::references;
use super::output::{complain, say};
use super::{Outcome, build};

/// What to look at, with which network.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dogiqa segment --model sam2.1-tiny photo.jpg | jq '.masks | length'\n  \
    dogiqa segment --model sam2/ --preset sam2-default --annotate outlined/ photos/\n  \
    dogiqa segment --model sam2/ --amg points_per_side=24 --amg use_m2m=true photo.jpg"
)]
pub(super) struct Args {
    /// Files, folders, globs, URIs; `-` reads an image or a list of them from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// SAM 2 or 2.1: a preset, an `owner/name` of the Hub, a `.pt` or `.safetensors`, or a folder with one
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Parameters of the mask generator
    #[arg(long, value_enum, default_value_t = PresetName::DogIqa)]
    preset: PresetName,
    /// One parameter by its name in the reference: `--amg points_per_side=24`. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    amg: Vec<String>,
    /// Where it runs: `auto`, `cpu`, `cuda:0`, `metal`
    #[arg(long, default_value = "auto")]
    device: Devices,
    /// Number format of the weights; half formats are slow on a processor
    #[arg(long, value_name = "auto|f32|f16|bf16", default_value = "auto")]
    dtype: Precision,
    /// Write each picture with its masks outlined into this folder
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
}

/// The presets by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PresetName {
    /// Few, large objects, as the paper reports them
    DogIqa,
    /// The reference's defaults
    Sam2Default,
}

/// One line of output.
#[derive(Debug, Serialize)]
struct Segmented<'a> {
    image: &'a str,
    width: u32,
    height: u32,
    model: Model<'a>,
    masks: Vec<MaskLine<'a>>,
}

#[derive(Debug, Serialize)]
struct Model<'a> {
    name: &'a str,
    version: &'a str,
    weights: &'a str,
    sha256: &'a str,
}

/// One mask; boxes are `[x, y, width, height]` in pixels.
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

pub(super) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<Outcome> {
    let amg = amg_settings(args.preset, &args.amg)?;
    if let Some(folder) = &args.annotate {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let piped = TempDir::new().context("a temporary folder")?;
    let references = references(&args.images, &piped, &mut settings)?;
    let (model, place, precision) = (args.model.clone(), one_place(&args.device)?, args.dtype);
    let open = move || -> anyhow::Result<(RunBatch<Picture, Vec<Found>>, ModelInfo)> {
        let path = locate(&model).context("--model")?;
        let device = place.open().context("--device")?;
        let segmenter = Sam2Segmenter::open(&path, amg, precision.on(place), &device);
        let segmenter = segmenter.context("--model")?;
        let info = segmenter.info();
        let find =
            move |pictures: &[Picture]| pictures.iter().map(|one| segmenter.find(one)).collect();
        Ok((Box::new(find), info))
    };
    let (segmenter, info) = on_device("segment", open).await?;
    let journey = build::journey(&settings).await?;

    let mut failed = 0;
    let progress = ProgressBar::new(references.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}")?);
    for (index, reference) in references.iter().enumerate() {
        progress.tick();
        match look(&journey, &segmenter, reference).await {
            Ok((picture, found)) => {
                let line = line(reference, &picture, &info, &found)?;
                progress.suspend(|| say(&line))?;
                if let Some(folder) = &args.annotate {
                    annotate(&folder.join(picture_name(index, &reference.id)), &picture, &found)?;
                }
            }
            Err(message) => {
                failed += 1;
                progress.suspend(|| complain(&format!("{}: {message}", shown_id(&reference.id))));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if failed > 0 {
        complain(&format!("{} segmented, {failed} failed", references.len() - failed));
        return Ok(Outcome::Negative);
    }
    Ok(Outcome::Done)
}

/// The picture and its masks, or why this image has none; others may.
async fn look(
    journey: &Journey,
    segmenter: &Lane<Picture, Vec<Found>>,
    reference: &ImageReference,
) -> Result<(Picture, Vec<Found>), String> {
    let picture = journey.fetch_picture(reference).await.map_err(|failure| failure.with_code())?;
    let found = segmenter.submit(picture.clone()).await.map_err(|error| error.to_string())?;
    Ok((picture, found))
}

/// The preset with single parameters changed.
fn amg_settings(preset: PresetName, changes: &[String]) -> anyhow::Result<AmgSettings> {
    let preset = match preset {
        PresetName::DogIqa => Preset::DogIqa,
        PresetName::Sam2Default => Preset::Sam2Default,
    };
    let mut table = toml::Table::try_from(preset.settings())?;
    for change in changes {
        let Some((key, value)) = change.split_once('=') else {
            bail!("`--amg {change}` is not KEY=VALUE");
        };
        // A number, `true` and the like as they are, anything else as text for serde to refuse.
        let value = value.trim();
        let value = value.parse().unwrap_or_else(|_| toml::Value::String(value.to_owned()));
        table.insert(key.trim().to_owned(), value);
    }
    let settings: AmgSettings = table.try_into().context("--amg")?;
    settings.check().map_err(|message| anyhow::anyhow!(message)).context("--amg")?;
    Ok(settings)
}

fn line(
    reference: &ImageReference,
    picture: &Picture,
    info: &ModelInfo,
    found: &[Found],
) -> anyhow::Result<String> {
    let weights = info.weights.first().context("a network has weights")?;
    let segmented = Segmented {
        image: &reference.id,
        width: picture.width(),
        height: picture.height(),
        model: Model {
            name: &info.name,
            version: &info.version,
            weights: &weights.name,
            sha256: &weights.sha256,
        },
        masks: found.iter().map(MaskLine::of).collect(),
    };
    Ok(serde_json::to_string(&segmented)?)
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
    fn parameters_are_changed_by_name_and_refused_by_name() {
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
