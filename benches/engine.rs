//! The paper's engine on one photo, stage by stage: SAM 2.1 tiny and mPLUG-Owl3 1B at their real shapes with
//! random weights, in `f32` and with the language model in 4 bits, on all cores.
//!
//! ```text
//! cargo bench --bench engine
//! ```
//! Each stage stands beside the arithmetic that its shapes count, and beside the best that this machine
//! reaches at a product of matrices in the same run. The number of objects is set: random weights would find
//! any.

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
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use dog_iqa::engine::{MplugOwl3Scorer, Sam2Segmenter, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, CropSource, Picture};
use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::mplug_owl3::{Checkpoint, Config, Format, RatingSettings, Release, quantize};
use dog_iqa::models::sam2::Size;
use dog_iqa::models::sam2::amg::{AmgSettings, Preset};
use image::RgbImage;

use measure::{median, peak_mib, times};
use question::{giga_flop, paper_prompt};

/// Crops of a photo, the whole among them.
const CROPS: usize = 9;
/// Runs of each stage.
const RUNS: usize = 3;
/// Of the encoder of SAM 2.1 tiny, and of one click of its decoder, all included.
const GIGA_FLOP_SAM2: [f64; 2] = [292.0, 3.64];
const RELEASE: Release = Release::B1V241014;

fn main() {
    let paths: Vec<String> = env::args().skip_while(|argument| argument != "run").skip(1).collect();
    if let [segmenter, scorer, peak, ..] = &paths[..] {
        return run(Path::new(segmenter), Path::new(scorer), peak.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let segmenter = checkpoints::sam2(folder.path(), Size::Tiny);
    let owl = checkpoints::owl(folder.path(), RELEASE);
    let small = folder.path().join("q4-k.gguf");
    quantize(&Checkpoint::open(&owl).unwrap(), Format::Q4K, &small, |_, _| {}).unwrap();

    let peak = best_product();
    println!("this machine's best at 2048 × 2048 × 2048 in f32: {peak:.0} GFLOP/s");
    println!(
        "scorer | stage                |       s |  GFLOP | GFLOP/s | of the best | peak, MiB"
    );
    for (name, scorer) in [("f32", &owl), ("q4-k", &small)] {
        let output = Command::new(env::current_exe().unwrap())
            .args(["run", segmenter.to_str().unwrap(), scorer.to_str().unwrap()])
            .arg(peak.to_string())
            .output()
            .unwrap();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            println!("{name:<6} | {line}");
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// GFLOP/s of the best of some large products.
fn best_product() -> f64 {
    let matrix = random_tensor::random("a", &(2048, 2048).into()).unwrap();
    let rate = |_| {
        let started = Instant::now();
        let product: Tensor = matrix.matmul(&matrix).unwrap();
        drop(std::hint::black_box(product));
        2e-9 * 2048_f64.powi(3) / started.elapsed().as_secs_f64()
    };
    (0..10).map(rate).fold(0.0, f64::max)
}

/// The stages of one photo, in a process that has done nothing else.
fn run(segmenter: &Path, scorer: &Path, peak: f64) {
    let cpu = Device::Cpu;
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    let masks = AmgSettings {
        pred_iou_thresh: 0.0,
        stability_score_thresh: 0.0,
        ..Preset::DogIqa.settings()
    };
    let clicks = masks.points_per_side.pow(2) as f64;
    let started = Instant::now();
    let segmenter = Sam2Segmenter::open(segmenter, masks, DType::F32, &cpu).unwrap();
    let settings = RatingSettings::default();
    let scorer = MplugOwl3Scorer::open(scorer, &standard, settings, DType::F32, &cpu).unwrap();
    row("opening both", started.elapsed().as_secs_f64(), None, peak);

    let photo = Picture::from_rgb(RgbImage::from_fn(1024, 768, |x, y| {
        let wave = |period: u32| (x * y / 64 + (x + y) * 255 / period).to_le_bytes()[0];
        image::Rgb([wave(500), wave(90), wave(33)])
    }));
    let seconds = times(RUNS, || {
        let input = segmenter.prepare(&photo).unwrap();
        drop(segmenter.segment(&[input]).unwrap());
    });
    row(
        "masks, 256 points",
        median(seconds),
        Some(GIGA_FLOP_SAM2[0] + clicks * GIGA_FLOP_SAM2[1]),
        peak,
    );

    let crop = Crop { source: CropSource::Whole, pixels: Arc::clone(photo.pixels()) };
    let seconds = times(RUNS, || {
        let inputs: Vec<_> = (0..CROPS).map(|_| scorer.prepare(&crop).unwrap()).collect();
        drop(scorer.rate(&inputs).unwrap());
    });
    let [_, of_one] = giga_flop(&Config::of_release(RELEASE), &paper_prompt());
    row("ratings of 9 crops", median(seconds), Some(CROPS as f64 * of_one), peak);
}

fn row(stage: &str, seconds: f64, giga_flop: Option<f64>, peak: f64) {
    let memory = peak_mib();
    match giga_flop {
        None => {
            println!("{stage:<20} | {seconds:>7.2} |      - |       - |           - | {memory:>9}");
        }
        Some(count) => {
            let rate = count / seconds;
            let share = 100.0 * rate / peak;
            println!(
                "{stage:<20} | {seconds:>7.2} | {count:>6.0} | {rate:>7.0} | {share:>9.0} % | {memory:>9}"
            );
        }
    }
}
