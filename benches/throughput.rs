//! Images per second of the paper's engine on any device, with random weights at published shapes: the full
//! method, each model alone, the cascade, the batch-size curve, and how busy each lane is.
//!
//! ```text
//! cargo bench --bench throughput                                                  tiny and 1B, on this machine
//! cargo bench --features cuda --bench throughput -- --size production --device cuda:0 --images 200
//! ```
//! Every mask passes the filters, so that drawing them costs what it can cost; the number of crops is set. The
//! arithmetic that the shapes count stands beside the best that the device reaches at a product of matrices.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[path = "support/checkpoints.rs"]
mod checkpoints;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/question.rs"]
mod question;
#[path = "../tests/support/qwen2.rs"]
mod qwen2;
#[path = "../tests/support/random_tensor.rs"]
mod random_tensor;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use dog_iqa::engine::{Devices, Engine, EngineName, MplugOwl3Scorer, Scorer, Settings};
use dog_iqa::imaging::{Crop, CropSource, Picture, crop_whole};
use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::device::Place;
use dog_iqa::models::mplug_owl3::{Config, RatingSettings, Release};
use dog_iqa::models::sam2::Size;
use dog_iqa::models::sam2::amg::{AmgSettings, Preset};
use dog_iqa::telemetry::metrics;
use futures::future::join_all;
use futures::{StreamExt, stream};
use image::{Rgb, RgbImage};

use measure::{median, peak_mib, times};
use question::{giga_flop, paper_prompt};

/// Crops of a picture beside the whole.
const CROPS: usize = 8;
/// Pictures on the road at once.
const AT_ONCE: usize = 16;
/// GFLOP of a click of SAM 2's decoder, all included, as its plain form counts.
const GIGA_FLOP_CLICK: f64 = 3.64;
/// Runs of each size of the batch-size curve.
const RUNS: usize = 3;
/// What no batch takes.
const LIMIT: Duration = Duration::from_hours(1);

/// What is measured.
struct Plan {
    size: Size,
    release: Release,
    /// GFLOP of SAM 2's encoder.
    encoder: f64,
    points_per_side: usize,
    devices: Devices,
    images: usize,
    batches: &'static [usize],
}

impl Plan {
    fn of_arguments() -> Self {
        let arguments: Vec<String> = env::args().collect();
        let value = |name: &str| {
            let place = arguments.iter().position(|argument| argument == name)?;
            arguments.get(place + 1).cloned()
        };
        let devices = value("--device").map_or(Devices::Auto, |text| text.parse().unwrap());
        let images = value("--images").map(|text| text.parse().unwrap());
        if value("--size").is_some_and(|size| size == "production") {
            let (size, release) = (Size::Large, Release::B7V241101);
            let (encoder, points_per_side, images) = (1_820.0, 32, images.unwrap_or(200));
            let batches = &[1, 4, 8, 16, 32, 64];
            return Self { size, release, encoder, points_per_side, devices, images, batches };
        }
        let (size, release) = (Size::Tiny, Release::B1V241014);
        let (encoder, points_per_side, images) = (292.0, 16, images.unwrap_or(2));
        Self { size, release, encoder, points_per_side, devices, images, batches: &[1, 4] }
    }

    fn engine_settings(&self, segmenter: &Path, scorer: &Path) -> Settings {
        let mut settings = Settings { name: EngineName::DogIqa, ..Settings::default() };
        segmenter.to_str().unwrap().clone_into(&mut settings.dog_iqa.segmenter);
        scorer.to_str().unwrap().clone_into(&mut settings.dog_iqa.scorer);
        settings.dog_iqa.device = self.devices.clone();
        settings.dog_iqa.masks = AmgSettings {
            points_per_side: self.points_per_side,
            pred_iou_thresh: 0.0,
            stability_score_thresh: 0.0,
            ..Preset::DogIqa.settings()
        };
        settings
    }

    /// GFLOP of a picture's masks, and of one crop's rating.
    fn giga_flop(&self) -> [f64; 2] {
        let masks = self.encoder + self.points_per_side.pow(2) as f64 * GIGA_FLOP_CLICK;
        let [_, rating] = giga_flop(&Config::of_release(self.release), &paper_prompt());
        [masks, rating]
    }
}

fn main() {
    let plan = Plan::of_arguments();
    let places = plan.devices.ids();
    let place = places[0];
    let folder = tempfile::tempdir().unwrap();
    let segmenter = checkpoints::sam2(folder.path(), plan.size);
    let scorer = checkpoints::owl(folder.path(), plan.release);
    let best = best_product(place);
    let dtype = place.dtype().as_str();
    println!("{places:?}, {dtype}: best product {best:.0} GFLOP/s; {} images a row", plan.images);

    let recorder = metrics::install().unwrap();
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    let started = Instant::now();
    let engine = Engine::open(&plan.engine_settings(&segmenter, &scorer), &standard).unwrap();
    println!("opened and warmed up in {:.1} s", started.elapsed().as_secs_f64());
    println!("work                         | images/s | of the best | busy: segment | score");
    let [masks, rating] = plan.giga_flop();
    let all = CROPS as f64 + 1.0;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bound = best * places.len() as f64;
    let rows: [(&str, f64, Work); 4] = [
        ("SAM 2 alone", masks, Work { masks: 1, whole_first: false, crops: 0 }),
        ("9 ratings alone", all * rating, Work { masks: 0, whole_first: false, crops: CROPS }),
        ("full method", masks + all * rating, Work { masks: 1, whole_first: false, crops: CROPS }),
        (
            "cascade, half goes on",
            f64::midpoint(rating, masks + all * rating),
            Work { masks: 2, whole_first: true, crops: CROPS },
        ),
    ];
    for (name, giga_flop, work) in rows {
        let busy_before = busy(&recorder.render());
        let started = Instant::now();
        runtime.block_on(work.run(&engine, plan.images));
        let seconds = started.elapsed().as_secs_f64();
        let rate = plan.images as f64 / seconds;
        let busy_after = busy(&recorder.render());
        let share = |lane: usize| {
            100.0 * (busy_after[lane] - busy_before[lane]) / seconds / places.len() as f64
        };
        let of_best = 100.0 * rate * giga_flop / bound;
        println!(
            "{name:<28} | {rate:>8.3} | {of_best:>9.0} % | {:>11.0} % | {:>3.0} %",
            share(0),
            share(1)
        );
    }
    println!("peak memory of the process: {} MiB", peak_mib());
    drop(engine);
    curve(&plan, place, &scorer, &standard, best);
}

/// Ratings per second by the number of crops in a batch.
fn curve(plan: &Plan, place: Place, path: &Path, standard: &Standard, best: f64) {
    let device = place.open().unwrap();
    let (settings, dtype) = (RatingSettings::default(), place.dtype());
    let scorer = MplugOwl3Scorer::open(path, standard, settings, dtype, &device).unwrap();
    let [_, giga_flop] = plan.giga_flop();
    println!("crops in a batch | ratings/s | of the best");
    for &batch in plan.batches {
        let crop = crop_whole(&picture(batch));
        let inputs: Vec<_> = (0..batch).map(|_| scorer.prepare(&crop).unwrap()).collect();
        drop(scorer.rate(&inputs).unwrap());
        let seconds = median(times(RUNS, || drop(scorer.rate(&inputs).unwrap())));
        let rate = batch as f64 / seconds;
        println!("{batch:>16} | {rate:>9.3} | {:>9.0} %", 100.0 * rate * giga_flop / best);
    }
}

/// What is done with each picture.
#[derive(Clone, Copy)]
struct Work {
    /// One picture in so many gets masks and what follows; 0: none gets masks.
    masks: usize,
    /// Whether the whole is rated before anything else.
    whole_first: bool,
    crops: usize,
}

impl Work {
    async fn run(self, engine: &Engine, images: usize) {
        let each = stream::iter(0..images).map(|number| self.one(engine, number));
        each.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    async fn one(self, engine: &Engine, number: usize) {
        let picture = picture(number);
        let goes_on = self.masks < 2 || number.is_multiple_of(self.masks);
        if self.whole_first {
            engine.rate(crop_whole(&picture), LIMIT).await.unwrap();
        }
        if self.masks > 0 && goes_on {
            engine.segment(&picture, LIMIT).await.unwrap();
        }
        if self.crops == 0 || !goes_on {
            return;
        }
        let wholes = usize::from(!self.whole_first);
        let ratings = (0..self.crops + wholes).map(|index| {
            let pixels = Arc::clone(picture.pixels());
            engine.rate(Crop { source: CropSource::Region(index), pixels }, LIMIT)
        });
        for rating in join_all(ratings).await {
            rating.unwrap();
        }
    }
}

/// A picture of 1024 × 768 pixels, another for each number.
fn picture(number: usize) -> Picture {
    let shift = u32::try_from(number).unwrap() * 37;
    Picture::from_rgb(RgbImage::from_fn(1024, 768, |x, y| {
        let wave = |period: u32| ((x + shift) * y / 64 + (x + y) * 255 / period).to_le_bytes()[0];
        Rgb([wave(500), wave(90), wave(33)])
    }))
}

/// Busy seconds of the lanes `segment` and `score`, over all devices, from what `/metrics` would show.
fn busy(page: &str) -> [f64; 2] {
    ["segment", "score"].map(|lane| {
        let lines = page.lines().filter(|line| {
            line.starts_with("dogiqa_lane_busy_seconds{")
                && line.contains(&format!("lane=\"{lane}\""))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    })
}

/// GFLOP/s of the best of some large products in the device's own format.
fn best_product(place: Place) -> f64 {
    let device = place.open().unwrap();
    let side = if place == Place::Cpu { 2048 } else { 8192 };
    let matrix = random_tensor::random("a", &(side, side).into()).unwrap();
    let matrix = matrix.to_dtype(place.dtype()).unwrap().to_device(&device).unwrap();
    let product = |_| {
        let started = Instant::now();
        let product: Tensor = matrix.matmul(&matrix).unwrap();
        device.synchronize().unwrap();
        drop(std::hint::black_box(product));
        2e-9 * (side as f64).powi(3) / started.elapsed().as_secs_f64()
    };
    (0..10).map(product).fold(0.0, f64::max)
}
