//! Time of each stage of the paper's engine on one photo: SAM 2.1 tiny and mPLUG-Owl3 1B with
//! published shapes and random weights, in `f32` and with a 4-bit language model, on all cores;
//! with the default settings, and with the masks and ratings of the preset `release`.
//!
//! ```text
//! cargo bench --bench engine
//! ```
//! Each stage is compared with the arithmetic of its shapes and with the fastest matrix product of
//! this machine in the same run. The number of crops is fixed, because random weights would find an
//! arbitrary number of objects.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[path = "support/paper_engine/mod.rs"]
mod paper_engine;
#[path = "../tests/support/qwen2.rs"]
mod qwen2;
#[path = "../tests/support/random_tensor.rs"]
mod random_tensor;

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device};
use dog_iqa::checkpoints::{BlockFormat, MplugOwl3Checkpoint};
use dog_iqa::engine::{MplugOwl3Scorer, Sam2Segmenter, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, Picture};
use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::mplug_owl3::{Grid, RatingSettings, Release};
use dog_iqa::models::sam2::Size;
use dog_iqa::models::sam2::amg::AmgPreset;

use paper_engine::matrix_product::peak_giga_flops;
use paper_engine::measure::{median, peak_mib, times};
use paper_engine::photo::photo;
use paper_engine::{
    checkpoints, copy_of, masks_without_thresholds, rating_giga_flop, release_rating,
    release_rating_giga_flop, release_standard, segmentation_giga_flop, without_thresholds,
};

/// Number of crops of the photo, including the whole image.
const CROPS: usize = 9;
/// Number of runs of each stage.
const RUNS: usize = 3;
const POINTS_PER_SIDE: usize = 16;
const SIZE: Size = Size::Tiny;
const RELEASE: Release = Release::B1V241014;

fn main() {
    let arguments: Vec<String> =
        env::args().skip_while(|argument| argument != "run").skip(1).collect();
    if let [segmenter, scorer, peak, ..] = &arguments[..] {
        let stages = Stages { peak_giga_flops: peak.parse().unwrap() };
        return stages.run(Path::new(segmenter), Path::new(scorer));
    }
    let folder = tempfile::tempdir().unwrap();
    let segmenter = checkpoints::sam2(folder.path(), SIZE);
    let scorer = checkpoints::owl(folder.path(), RELEASE);
    let quantised = folder.path().join("q4-k.gguf");
    MplugOwl3Checkpoint::open(&scorer)
        .unwrap()
        .quantize(BlockFormat::Q4K, &quantised, |_, _| {})
        .unwrap();

    let peak = peak_giga_flops(&Device::Cpu, DType::F32, 2048);
    println!("peak of this machine at 2048 × 2048 × 2048 in f32: {peak:.0} GFLOP/s");
    println!(
        "scorer | stage                   |       s |  GFLOP | GFLOP/s | of the peak | peak, MiB"
    );
    for (name, scorer) in [("f32", &scorer), ("q4-k", &quantised)] {
        // A process for each scorer, so that its peak memory is its own.
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

/// The stages of one photo, measured against the peak of this machine.
struct Stages {
    peak_giga_flops: f64,
}

impl Stages {
    fn run(&self, segmenter_path: &Path, scorer_path: &Path) {
        let cpu = Device::Cpu;
        let standard = Standard::builtin(7, StandardForm::Word).unwrap();
        let masks = masks_without_thresholds(POINTS_PER_SIDE);
        let started = Instant::now();
        let segmenter = Sam2Segmenter::open(segmenter_path, masks, DType::F32, &cpu).unwrap();
        let settings = RatingSettings::default();
        let scorer =
            MplugOwl3Scorer::open(scorer_path, &standard, settings, DType::F32, &cpu).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{:<23} | {seconds:>7.2} |      - |       - |           - | {:>9}",
            "opening both",
            peak_mib()
        );

        let photo = Picture::from_rgb(photo(0));
        let crops: Vec<Crop> = (0..CROPS).map(|_| copy_of(&photo)).collect();
        let giga_flop = segmentation_giga_flop(SIZE, POINTS_PER_SIDE);
        self.print("masks, 256 points", seconds_of_masks(&segmenter, &photo), giga_flop);
        let giga_flop = CROPS as f64 * rating_giga_flop(RELEASE);
        self.print("ratings of 9 crops", seconds_of_ratings(&scorer, &crops, RUNS), giga_flop);
        drop((segmenter, scorer));

        let masks = without_thresholds(AmgPreset::Release);
        let giga_flop = segmentation_giga_flop(SIZE, masks.points_per_side);
        let segmenter = Sam2Segmenter::open(segmenter_path, masks, DType::F32, &cpu).unwrap();
        self.print("preset release: masks", seconds_of_masks(&segmenter, &photo), giga_flop);
        drop(segmenter);
        let (standard, rating) = (release_standard(), release_rating());
        let scorer =
            MplugOwl3Scorer::open(scorer_path, &standard, rating, DType::F32, &cpu).unwrap();
        let grid = Grid::choose(photo.width(), photo.height(), 384);
        let giga_flop = CROPS as f64 * release_rating_giga_flop(RELEASE, grid);
        // Minutes, so once.
        let seconds = seconds_of_ratings(&scorer, &crops, 1);
        self.print("preset release: ratings", seconds, giga_flop);
    }

    fn print(&self, stage: &str, seconds: f64, giga_flop: f64) {
        let rate = giga_flop / seconds;
        let share = 100.0 * rate / self.peak_giga_flops;
        println!(
            "{stage:<23} | {seconds:>7.2} | {giga_flop:>6.0} | {rate:>7.0} | {share:>9.0} % | {:>9}",
            peak_mib()
        );
    }
}

fn seconds_of_masks(segmenter: &Sam2Segmenter, photo: &Picture) -> f64 {
    median(times(RUNS, || {
        let input = segmenter.prepare(photo).unwrap();
        drop(segmenter.segment(&[input]).unwrap());
    }))
}

fn seconds_of_ratings(scorer: &MplugOwl3Scorer, crops: &[Crop], runs: usize) -> f64 {
    median(times(runs, || {
        let inputs: Vec<_> = crops.iter().map(|crop| scorer.prepare(crop).unwrap()).collect();
        drop(scorer.rate(&inputs).unwrap());
    }))
}
