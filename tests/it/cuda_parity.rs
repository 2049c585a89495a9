//! Compares the networks on a GPU with their goldens and with the CPU. Needs a machine with a GPU:
//! `cargo test --features cuda cuda_parity`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use dog_iqa::engine::{ClipIqaScorer, MplugOwl3Scorer, Qwen3_5VlScorer, Scorer, Segmenter};
use dog_iqa::imaging::{self, Picture, crop_whole};
use dog_iqa::method::{LevelDistribution, Standard, StandardForm};
use dog_iqa::models::clip_iqa::ClipIqaSettings;
use dog_iqa::models::device::DeviceId;
use dog_iqa::models::mplug_owl3::RatingSettings;
use dog_iqa::models::qwen3_5_vl::QRealignSettings;
use dog_iqa::models::sam2::amg::AmgSettings;

use crate::cli::photo;
use crate::clip::clip;
use crate::engine_conformance::{lenient, sam2_on};
use crate::goldens::Place;
use crate::qwen3_5::q_realign;
use crate::small_networks::checkpoint_with_real_vocabulary;
use crate::{goldens_clip_iqa, goldens_mplug_owl3, goldens_qwen3_5_vl, goldens_sam2};

/// Compares a network in a place with one golden folder.
type Compare = fn(&Path, &'static str, &Place);

const PHOTOS: [&str; 4] = ["cat.jpg", "coffee.jpg", "rocket.jpg", "hopper.jpg"];
/// Margin between the two likeliest levels above which bf16 must not change the level.
const MARGIN: f64 = 0.1;
/// Dtypes and their tolerances, as shares of a tensor's largest value. A GPU sums in another order
/// than the reference, so single precision is not held to the goldens' own tolerance.
const DTYPES: [(&str, DType, f64); 3] =
    [("f32", DType::F32, 1e-3), ("bf16", DType::BF16, 0.25), ("f16", DType::F16, 0.05)];

fn pictures() -> Vec<Picture> {
    let open = |name: &&str| {
        let bytes = std::fs::read(photo(name)).unwrap();
        imaging::decode(&bytes, &imaging::Settings::default()).unwrap()
    };
    PHOTOS.iter().map(open).collect()
}

fn gpu() -> Device {
    DeviceId::Cuda(0).open().unwrap()
}

/// Prints the error of every golden tensor in every dtype; then fails if one is over its tolerance.
#[test]
fn every_golden_tensor_is_met_on_a_gpu() {
    let device = gpu();
    let mut failures = Vec::new();
    for (part, dtype, share) in DTYPES {
        let place = Place { device: device.clone(), dtype, share: Some(share), prints: true };
        let compare_clip = |folder: &Path, part, place: &Place| {
            goldens_clip_iqa::compare_folder(folder, place, part);
        };
        let suites: [(Vec<PathBuf>, Compare); 4] = [
            (goldens_sam2::all_folders(), goldens_sam2::compare),
            (goldens_mplug_owl3::all_folders(), goldens_mplug_owl3::compare),
            (goldens_qwen3_5_vl::all_folders(), goldens_qwen3_5_vl::compare),
            (goldens_clip_iqa::all_folders(), compare_clip),
        ];
        let folders = suites
            .into_iter()
            .flat_map(|(folders, compare)| folders.into_iter().map(move |path| (path, compare)));
        for (folder, compare) in folders {
            let ends = catch_unwind(AssertUnwindSafe(|| compare(&folder, part, &place)));
            if ends.is_err() {
                failures.push(format!("{} in {part}", folder.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_gpu_finds_as_many_masks_as_the_cpu() {
    let many = AmgSettings { points_per_side: 8, ..lenient() };
    let masks = |dtype, device: &Device| -> Vec<usize> {
        let segmenter = sam2_on(many.clone(), dtype, device);
        let inputs =
            pictures().iter().map(|one| segmenter.prepare(one).unwrap()).collect::<Vec<_>>();
        segmenter.segment(&inputs).unwrap().iter().map(Vec::len).collect()
    };
    let expected = masks(DType::F32, &Device::Cpu);
    let found = DTYPES.map(|(name, dtype, _)| (name, masks(dtype, &gpu())));
    println!("masks: cpu f32 {expected:?}, gpu {found:?}");
    for (name, found) in found {
        // One mask at the edge of a filter may fall to the other side, also in single precision.
        let margin = if name == "f32" { 20 } else { 5 };
        for (gpu, cpu) in found.into_iter().zip(&expected) {
            assert!(gpu.abs_diff(*cpu) * margin <= *cpu, "{name}: {gpu} masks, {cpu} on the cpu");
        }
    }
}

/// Rates the photos with a scorer.
fn ratings<S: Scorer>(scorer: &S) -> Vec<LevelDistribution> {
    let inputs = pictures();
    let inputs = inputs.iter().map(|one| scorer.prepare(&crop_whole(one)).unwrap());
    scorer.rate(&inputs.collect::<Vec<_>>()).unwrap()
}

/// Compares ratings on a GPU in every dtype with those of the CPU.
fn check_levels(name: &str, rate: impl Fn(DType, &Device) -> Vec<LevelDistribution>) {
    let expected = rate(DType::F32, &Device::Cpu);
    let found = DTYPES.map(|(dtype_name, dtype, _)| (dtype_name, rate(dtype, &gpu())));
    for (dtype, found) in &found {
        for (expected, found) in expected.iter().zip(found) {
            let pairs = expected.probabilities().iter().zip(found.probabilities());
            let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("levels: {name}, gpu {dtype}: probabilities {apart:.2e} apart");
        }
    }
    for (dtype, found) in found {
        for (expected, found) in expected.iter().zip(found) {
            let mut shares = expected.probabilities().to_vec();
            shares.sort_by(|a, b| b.total_cmp(a));
            if dtype == "f32" {
                let pairs = expected.probabilities().iter().zip(found.probabilities());
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3), "{name}");
            } else if shares[0] - shares[1] > MARGIN {
                assert_eq!(found.level(), expected.level(), "{name} in {dtype}");
            }
        }
    }
}

#[test]
fn a_gpu_gives_the_levels_of_the_cpu() {
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    for name in ["mplug_owl3_240728", "mplug_owl3_241014", "mplug_owl3_241101"] {
        let folder = checkpoint_with_real_vocabulary(name);
        check_levels(name, |dtype, device| {
            let (path, settings) = (folder.path(), RatingSettings::default());
            ratings(&MplugOwl3Scorer::open(path, &standard, settings, dtype, device).unwrap())
        });
    }
    let folder = q_realign();
    check_levels("qwen3_5_vl", |dtype, device| {
        let (path, settings) = (folder.path(), QRealignSettings::default());
        ratings(&Qwen3_5VlScorer::open(path, &standard, settings, dtype, device).unwrap())
    });
    for name in ["resnet", "vit"] {
        let folder = clip(name);
        check_levels(name, |dtype, device| {
            let (path, settings) = (folder.path(), ClipIqaSettings::default());
            ratings(&ClipIqaScorer::open(path, &standard, settings, dtype, device).unwrap())
        });
    }
}
