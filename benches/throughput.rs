//! Images per second of the paper's engine on any device, with published shapes and random weights:
//! the full method, with the default settings and with those of the preset `release`; each model
//! alone, the cascade, the batch-size curve, and the load of each lane.
//!
//! ```text
//! cargo bench --bench throughput                 SAM 2.1 tiny and mPLUG-Owl3 1B, on this machine
//! cargo bench --features cuda --bench throughput -- --size production --device cuda:0 --images 200
//! ```
//! Every mask passes the filters, so that the upscaling of masks has its full cost; the number of
//! crops is fixed. The arithmetic of the shapes is compared with the fastest matrix product of the
//! device.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[path = "support/lane_load.rs"]
mod lane_load;
#[path = "support/paper_engine/mod.rs"]
mod paper_engine;
#[path = "../tests/support/qwen2.rs"]
mod qwen2;
#[path = "../tests/support/random_tensor.rs"]
mod random_tensor;

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use dog_iqa::engine::{Devices, Engine, EngineName, MplugOwl3Scorer, Scorer, Settings};
use dog_iqa::imaging::{Picture, crop_whole};
use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::device::DeviceId;
use dog_iqa::models::mplug_owl3::{Grid, RatingSettings, Release};
use dog_iqa::models::sam2::Size;
use dog_iqa::models::sam2::amg::AmgPreset;
use dog_iqa::telemetry::metrics;
use futures::future::join_all;
use futures::{StreamExt, stream};
use lane_load::busy_seconds;
use metrics_exporter_prometheus::PrometheusHandle;

use paper_engine::matrix_product::peak_giga_flops;
use paper_engine::measure::{median, peak_mib, times};
use paper_engine::photo::photo;
use paper_engine::{
    checkpoints, copy_of, masks_without_thresholds, rating_giga_flop, release_rating,
    release_rating_giga_flop, release_standard, segmentation_giga_flop, without_thresholds,
};

/// Number of crops of an image, in addition to the whole image.
const CROPS: usize = 8;
/// Maximum number of images in flight.
const IN_FLIGHT_MAX: usize = 16;
/// Number of runs of each batch size.
const RUNS: usize = 3;
/// Time limit of a batch, which none reaches.
const LIMIT: Duration = Duration::from_hours(1);

/// The models, the devices and the amount of work, from the command line.
struct Plan {
    size: Size,
    release: Release,
    points_per_side: usize,
    devices: Devices,
    images: usize,
    batches: &'static [usize],
}

impl Plan {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = env::args().collect();
        let value = |name: &str| {
            let position = arguments.iter().position(|argument| argument == name)?;
            arguments.get(position + 1).cloned()
        };
        let devices = value("--device").map_or(Devices::Auto, |text| text.parse().unwrap());
        let images = value("--images").map(|text| text.parse().unwrap());
        if value("--size").is_some_and(|size| size == "production") {
            return Self {
                size: Size::Large,
                release: Release::B7V241101,
                points_per_side: 32,
                devices,
                images: images.unwrap_or(200),
                batches: &[1, 4, 8, 16, 32, 64],
            };
        }
        Self {
            size: Size::Tiny,
            release: Release::B1V241014,
            points_per_side: 16,
            devices,
            images: images.unwrap_or(2),
            batches: &[1, 4],
        }
    }

    fn engine_settings(&self, segmenter: &Path, scorer: &Path) -> Settings {
        let mut settings = Settings { name: EngineName::DogIqa, ..Settings::default() };
        segmenter.to_str().unwrap().clone_into(&mut settings.dog_iqa.segmenter);
        settings.dog_iqa.scorer = scorer.to_str().unwrap().into();
        settings.dog_iqa.device = self.devices.clone();
        settings.dog_iqa.masks = masks_without_thresholds(self.points_per_side);
        settings
    }
}

fn main() {
    let plan = Plan::from_arguments();
    let devices = plan.devices.ids();
    let first = devices[0];
    let folder = tempfile::tempdir().unwrap();
    let segmenter = checkpoints::sam2(folder.path(), plan.size);
    let scorer = checkpoints::owl(folder.path(), plan.release);
    let side = if first == DeviceId::Cpu { 2048 } else { 8192 };
    let peak = peak_giga_flops(&first.open().unwrap(), first.dtype(), side);
    let dtype = first.dtype().as_str();
    println!("{devices:?}, {dtype}: peak {peak:.0} GFLOP/s; {} images per row", plan.images);

    let recorder = metrics::install(None).unwrap();
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    let started = Instant::now();
    let engine = Engine::open(&plan.engine_settings(&segmenter, &scorer), &standard).unwrap();
    println!("opened and warmed up in {:.1} s", started.elapsed().as_secs_f64());
    println!("work                         | images/s | of the peak | busy: segment | score");
    let masks = segmentation_giga_flop(plan.size, plan.points_per_side);
    let rating = rating_giga_flop(plan.release);
    let all_ratings = (CROPS as f64 + 1.0) * rating;
    let rows: [(&str, f64, Work); 4] = [
        ("SAM 2 alone", masks, Work::Segment),
        ("9 ratings alone", all_ratings, Work::Rate),
        ("full method", masks + all_ratings, Work::FullMethod),
        ("cascade, half continues", f64::midpoint(rating, masks + all_ratings), Work::Cascade),
    ];
    print_rows(&rows, &engine, &plan, &recorder, peak);
    drop(engine);
    let mut settings = plan.engine_settings(&segmenter, &scorer);
    settings.dog_iqa.masks = without_thresholds(AmgPreset::Release);
    settings.dog_iqa.rating = release_rating();
    let engine = Engine::open(&settings, &release_standard()).unwrap();
    let photo = picture(0);
    let grid = Grid::choose(photo.width(), photo.height(), 384);
    let ratings = (CROPS as f64 + 1.0) * release_rating_giga_flop(plan.release, grid);
    let masks = segmentation_giga_flop(plan.size, settings.dog_iqa.masks.points_per_side);
    let row = ("full method, preset release", masks + ratings, Work::FullMethod);
    print_rows(&[row], &engine, &plan, &recorder, peak);
    println!("peak memory of the process: {} MiB", peak_mib());
    drop(engine);
    batch_size_curve(&plan, &scorer, &standard, peak);
}

/// Prints a row for each kind of work.
fn print_rows(
    rows: &[(&str, f64, Work)],
    engine: &Engine,
    plan: &Plan,
    recorder: &PrometheusHandle,
    peak: f64,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let device_count = plan.devices.ids().len() as f64;
    for &(name, giga_flop, work) in rows {
        let busy_before = busy_seconds(&recorder.render());
        let started = Instant::now();
        runtime.block_on(work.run(engine, plan.images));
        let seconds = started.elapsed().as_secs_f64();
        let rate = plan.images as f64 / seconds;
        let busy_after = busy_seconds(&recorder.render());
        let load =
            |lane: usize| 100.0 * (busy_after[lane] - busy_before[lane]) / seconds / device_count;
        let of_peak = 100.0 * rate * giga_flop / (peak * device_count);
        println!(
            "{name:<28} | {rate:>8.3} | {of_peak:>9.0} % | {:>11.0} % | {:>3.0} %",
            load(0),
            load(1)
        );
    }
}

/// Prints the ratings per second for each batch size.
fn batch_size_curve(plan: &Plan, scorer: &Path, standard: &Standard, peak: f64) {
    let first = plan.devices.ids()[0];
    let device = first.open().unwrap();
    let on = (first.dtype(), &device);
    let scorer =
        MplugOwl3Scorer::open(scorer, standard, RatingSettings::default(), on.0, on.1).unwrap();
    let giga_flop = rating_giga_flop(plan.release);
    println!("crops per batch  | ratings/s | of the peak");
    for &batch in plan.batches {
        let picture = picture(batch);
        let inputs: Vec<_> =
            (0..batch).map(|_| scorer.prepare(&copy_of(&picture)).unwrap()).collect();
        drop(scorer.rate(&inputs).unwrap());
        let seconds = median(times(RUNS, || drop(scorer.rate(&inputs).unwrap())));
        let rate = batch as f64 / seconds;
        println!("{batch:>16} | {rate:>9.3} | {:>9.0} %", 100.0 * rate * giga_flop / peak);
    }
}

/// The work for each image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Masks only.
    Segment,
    /// Ratings of the whole image and all crops only.
    Rate,
    /// Masks, then ratings of the whole image and all crops.
    FullMethod,
    /// A rating of the whole image; for every other image then masks and ratings of all crops.
    Cascade,
}

impl Work {
    async fn run(self, engine: &Engine, images: usize) {
        let each = stream::iter(0..images).map(|number| self.one(engine, number));
        each.buffer_unordered(IN_FLIGHT_MAX).collect::<Vec<()>>().await;
    }

    async fn one(self, engine: &Engine, number: usize) {
        let picture = picture(number);
        if self == Self::Cascade {
            engine.rate(crop_whole(&picture), LIMIT).await.unwrap();
            if !number.is_multiple_of(2) {
                return;
            }
        }
        if self != Self::Rate {
            engine.segment(&picture, LIMIT).await.unwrap();
        }
        let ratings = match self {
            Self::Segment => 0,
            Self::Rate | Self::FullMethod => CROPS + 1,
            Self::Cascade => CROPS,
        };
        let pending = (0..ratings).map(|_| engine.rate(copy_of(&picture), LIMIT));
        for rating in join_all(pending).await {
            rating.unwrap();
        }
    }
}

fn picture(number: usize) -> Picture {
    Picture::from_rgb(photo(number))
}
