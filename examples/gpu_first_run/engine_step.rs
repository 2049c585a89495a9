//! The engine with both networks on one device: images per second of each kind of work, the load of
//! the lanes, and ratings per second for each batch size.

use std::error::Error;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use dog_iqa::engine::{Engine, EngineLimits, LaneSettings, ModelInfo, RunError, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, CropSource, Picture};
use dog_iqa::method::{LevelDistribution, Mask, RawMask};
use dog_iqa::models::device::{DeviceId, peak_bytes};
use dog_iqa::models::mplug_owl3::{Grid, Prefix, stack, views};
use dog_iqa::models::sam2::amg::{AmgPreset, AmgSettings, MaskGenerator, PreparedImage, prepare};
use dog_iqa::models::sam2::{PointLabel, Prompts};
use dog_iqa::telemetry::metrics;
use futures::future::join_all;
use futures::{StreamExt, stream};
use image::{Rgb, RgbImage};
use serde_json::json;

use crate::lane_load::busy_seconds;
use crate::networks::{Owl, Shapes};
use crate::rows::{Rows, time};

/// Crops of an image, in addition to the whole image.
const CROPS: usize = 8;
/// Images in flight.
const IN_FLIGHT: usize = 16;
/// Time limit of a batch, which none reaches.
const LIMIT: Duration = Duration::from_hours(1);
/// Percentage of the masks whose predicted intersection over union passes.
const PASSING_PERCENT: usize = 40;

/// Runs the engine with the parameters of the authors and with ours.
pub(crate) fn run(
    id: DeviceId,
    device: &Device,
    shapes: &Shapes,
    rows: &mut Rows,
) -> Result<(), Box<dyn Error>> {
    let dtype = id.dtype();
    batch_sizes(device, dtype, shapes, rows)?;
    let recorder = metrics::install(None)?;
    let works = [
        (AmgPreset::Release, true, Work::FullMethod, "full method, 64 points, cut"),
        (AmgPreset::DogIqa, false, Work::FullMethod, "full method, 256 points"),
        (AmgPreset::DogIqa, false, Work::Cascade, "cascade, half continue, 256 points"),
        (AmgPreset::DogIqa, false, Work::Global, "whole image only"),
    ];
    let images = if shapes.is_small() { 3 } else { 24 };
    for (preset, cuts, work, name) in works {
        let mut masks = preset.settings();
        masks.stability_score_thresh = 0.0;
        if shapes.is_small() {
            masks.points_per_side = 4;
        }
        let sam2 = NetworkSegmenter::new(id, shapes, masks);
        let owl = NetworkScorer::new(id, shapes, cuts);
        let lane = LaneSettings::default().limits_on(id);
        let limits = EngineLimits { segment: lane, score: lane };
        let engine = Engine::new("first-run", "1", sam2, owl, limits)?;
        let runtime = tokio::runtime::Runtime::new()?;
        // Opens the networks, and reserves memory.
        runtime.block_on(work.run(&engine, images.min(8)));
        let before = busy_seconds(&recorder.render());
        let started = Instant::now();
        let ((), bytes) = peak_bytes(device, || runtime.block_on(work.run(&engine, images)))?;
        let seconds = started.elapsed().as_secs_f64();
        let after = busy_seconds(&recorder.render());
        let load = |lane: usize| (after[lane] - before[lane]) / seconds;
        rows.add(
            name,
            &json!({
                "images_per_s": images as f64 / seconds,
                "segment_busy": load(0), "score_busy": load(1), "memory_mib": bytes >> 20,
            }),
        );
    }
    Ok(())
}

/// Measures ratings per second for each number of crops in a batch.
fn batch_sizes(
    device: &Device,
    dtype: DType,
    shapes: &Shapes,
    rows: &mut Rows,
) -> Result<(), Box<dyn Error>> {
    let owl = shapes.owl(dtype, device)?;
    let prefix = owl.prefix(1)?;
    let size = shapes.owl.vision_config.image_size;
    let counts: &[usize] = if shapes.is_small() { &[1, 2] } else { &[1, 4, 8, 16, 32, 64] };
    for &count in counts {
        rows.measure(&format!("ratings, {count} crops"), || {
            let views = Tensor::full(127_u8, (count, 3, size, size), &Device::Cpu)?;
            let timing = time(device, 3, || rate(&owl, &prefix, &views))?;
            Ok(json!({
                "ms": timing.ms, "value": 1e3 * count as f64 / timing.ms, "unit": "ratings/s",
            }))
        });
    }
    Ok(())
}

/// The work for each image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Masks, then ratings of the whole image and all crops.
    FullMethod,
    /// A rating of the whole image; for every other image then masks and ratings of all crops.
    Cascade,
    /// A rating of the whole image.
    Global,
}

impl Work {
    async fn run(self, engine: &Engine, images: usize) {
        let each = stream::iter(0..images).map(|number| self.one(engine, number));
        each.buffer_unordered(IN_FLIGHT).collect::<Vec<()>>().await;
    }

    async fn one(self, engine: &Engine, number: usize) {
        let picture = picture(number);
        engine.rate(crop(&picture, CropSource::Whole), LIMIT).await.unwrap();
        if self == Self::Global || (self == Self::Cascade && number.is_multiple_of(2)) {
            return;
        }
        engine.segment(&picture, LIMIT).await.unwrap();
        let pending =
            (0..CROPS).map(|index| engine.rate(crop(&picture, CropSource::Region(index)), LIMIT));
        for rating in join_all(pending).await {
            rating.unwrap();
        }
    }
}

/// Returns a smooth picture of a photo's size.
fn picture(number: usize) -> Picture {
    let shift = u32::try_from(number).unwrap();
    let shade = |x: u32, y: u32| {
        let wave =
            |period: u32| ((x + shift * 7) * y / 64 + (x + y) * 255 / period).to_le_bytes()[0];
        Rgb([wave(100), wave(370), wave(1100)])
    };
    Picture::from_rgb(RgbImage::from_fn(1024, 768, shade))
}

/// Returns the whole picture as a crop with its own copy of the pixels: crops that share them are
/// rated once.
fn crop(picture: &Picture, source: CropSource) -> Crop {
    Crop { source, pixels: RgbImage::clone(picture.pixels()).into(), picture: None }
}

fn batch_error(error: impl std::fmt::Display) -> RunError {
    RunError::Batch(error.to_string().into())
}

fn info(name: &str) -> ModelInfo {
    ModelInfo { name: name.to_owned(), version: "1".to_owned(), weights: Vec::new() }
}

/// The segmenter's network, opened on the thread of its lane.
struct NetworkSegmenter {
    id: DeviceId,
    shapes: Shapes,
    settings: AmgSettings,
    generator: OnceLock<MaskGenerator>,
}

impl NetworkSegmenter {
    fn new(id: DeviceId, shapes: &Shapes, settings: AmgSettings) -> Self {
        Self { id, shapes: shapes.clone(), settings, generator: OnceLock::new() }
    }

    /// Opens the network, and sets the threshold that [`PASSING_PERCENT`] of its masks pass.
    fn open(&self, sample: &PreparedImage) -> Result<MaskGenerator, Box<dyn Error>> {
        let device = self.id.open()?;
        let model = self.shapes.sam2(self.id.dtype(), &device)?;
        let encoded = model.encode(&sample.crops)?;
        let count = 64;
        let points = (Tensor::rand(0_f32, 1.0, (count, 1, 2), &device)?
            * self.shapes.sam2.image_size as f64)?;
        let (image_of, labels) = (vec![0; count], vec![PointLabel::Foreground; count]);
        let prompts =
            Prompts { image_of: &image_of, points: &points, labels: &labels, masks: None };
        let decoded = model.decode(&encoded, &prompts, |_| {})?;
        device.synchronize()?;
        let mut iou: Vec<f32> =
            decoded.iou.narrow(1, 1, 3)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        iou.sort_by(f32::total_cmp);
        let position = iou.len() * (100 - PASSING_PERCENT) / 100;
        let pred_iou_thresh = f64::from(iou[position]);
        Ok(MaskGenerator::new(model, AmgSettings { pred_iou_thresh, ..self.settings.clone() })?)
    }
}

impl Segmenter for NetworkSegmenter {
    type Input = PreparedImage;

    fn info(&self) -> ModelInfo {
        info("random-sam2")
    }

    fn prepare(&self, picture: &Picture) -> Result<PreparedImage, RunError> {
        prepare(picture.pixels(), &self.settings, self.shapes.sam2.image_size).map_err(batch_error)
    }

    fn cost(input: &PreparedImage) -> usize {
        input.crops.elem_count() / 3
    }

    fn segment(&self, batch: &[PreparedImage]) -> Result<Vec<Vec<RawMask>>, RunError> {
        if self.generator.get().is_none() {
            self.generator.set(self.open(&batch[0]).map_err(batch_error)?).ok();
        }
        let generator = self.generator.get().unwrap();
        let found = generator.generate(batch).map_err(batch_error)?;
        let raw = |masks: Vec<_>| {
            let masks = masks.into_iter();
            masks.filter_map(|found: dog_iqa::models::sam2::amg::GeneratedMask| {
                let mask = Mask::new(found.rle).ok()?;
                Some(RawMask { mask, predicted_iou: None, stability_score: None })
            })
        };
        Ok(found.into_iter().map(|masks| raw(masks).collect()).collect())
    }
}

/// A crop as the scorer's network reads it.
struct Views {
    views: Tensor,
}

/// The scorer's network, opened on the thread of its lane.
struct NetworkScorer {
    id: DeviceId,
    shapes: Shapes,
    cuts: bool,
    /// The network and the prefixes of prompts with one view and with five.
    network: OnceLock<(Owl, [Prefix; 2])>,
}

impl NetworkScorer {
    fn new(id: DeviceId, shapes: &Shapes, cuts: bool) -> Self {
        Self { id, shapes: shapes.clone(), cuts, network: OnceLock::new() }
    }

    fn open(&self) -> Result<(Owl, [Prefix; 2]), Box<dyn Error>> {
        let owl = self.shapes.owl(self.id.dtype(), &self.id.open()?)?;
        let prefixes = [owl.prefix(1)?, owl.prefix(5)?];
        Ok((owl, prefixes))
    }
}

impl Scorer for NetworkScorer {
    type Input = Views;

    fn info(&self) -> ModelInfo {
        info("random-mplug-owl3")
    }

    fn prepare(&self, crop: &Crop) -> Result<Views, RunError> {
        let size = u32::try_from(self.shapes.owl.vision_config.image_size).unwrap();
        // Every crop is cut into four and the whole, so that all prompts are alike.
        let grid = self.cuts.then_some(Grid { rows: 2, columns: 2 });
        let views = stack(&views(&crop.pixels, size, grid)).map_err(batch_error)?;
        Ok(Views { views })
    }

    fn cost(input: &Views) -> usize {
        input.views.elem_count() / 3
    }

    fn rate(&self, batch: &[Views]) -> Result<Vec<LevelDistribution>, RunError> {
        if self.network.get().is_none() {
            self.network.set(self.open().map_err(batch_error)?).ok();
        }
        let (owl, prefixes) = self.network.get().unwrap();
        let views: Vec<&Tensor> = batch.iter().map(|input| &input.views).collect();
        let views = Tensor::cat(&views, 0).map_err(batch_error)?;
        let logits = rate(owl, &prefixes[usize::from(self.cuts)], &views).map_err(batch_error)?;
        let of = |logits: &Vec<f64>| LevelDistribution::from_logits(logits).map_err(batch_error);
        logits.iter().map(of).collect()
    }
}

/// Returns the level logits of each crop.
fn rate(owl: &Owl, prefix: &Prefix, views: &Tensor) -> candle_core::Result<Vec<Vec<f64>>> {
    let embeds = owl.model.encode(views)?;
    let (_, hidden) = prefix.resume(&owl.model, &embeds)?;
    owl.head.logits(&hidden)
}
