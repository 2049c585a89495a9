//! Compares the networks on a GPU with the same networks on the CPU. Needs a machine with a GPU:
//! `cargo test --features cuda cuda_parity`.

use candle_core::{DType, Device};
use dog_iqa::engine::{MplugOwl3Scorer, Scorer, Segmenter};
use dog_iqa::imaging::{self, Picture, crop_whole};
use dog_iqa::method::{LevelDistribution, Standard, StandardForm};
use dog_iqa::models::device::DeviceId;
use dog_iqa::models::mplug_owl3::RatingSettings;
use dog_iqa::models::sam2::amg::AmgSettings;

use crate::cli::photo;
use crate::engine_conformance::{lenient, sam2_on};
use crate::small_networks::checkpoint_with_real_vocabulary;

const PHOTOS: [&str; 4] = ["cat.jpg", "coffee.jpg", "rocket.jpg", "hopper.jpg"];
/// Margin between the two likeliest levels above which bf16 must not change the level.
const MARGIN: f64 = 0.1;

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
    assert_eq!(masks(DType::F32, &gpu()), expected);
    for (half, single) in masks(DType::BF16, &gpu()).into_iter().zip(expected) {
        assert!(half.abs_diff(single) * 5 <= single, "{half} masks in bf16, {single} in f32");
    }
}

#[test]
fn a_gpu_gives_the_levels_of_the_cpu() {
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    for name in ["mplug_owl3_240728", "mplug_owl3_241014", "mplug_owl3_241101"] {
        let folder = checkpoint_with_real_vocabulary(name);
        let ratings = |dtype, device: &Device| -> Vec<LevelDistribution> {
            let (path, settings) = (folder.path(), RatingSettings::default());
            let scorer = MplugOwl3Scorer::open(path, &standard, settings, dtype, device).unwrap();
            let inputs = pictures();
            let inputs = inputs.iter().map(|one| scorer.prepare(&crop_whole(one)).unwrap());
            scorer.rate(&inputs.collect::<Vec<_>>()).unwrap()
        };
        let expected = ratings(DType::F32, &Device::Cpu);
        for (expected, single) in expected.iter().zip(ratings(DType::F32, &gpu())) {
            let pairs = expected.probabilities().iter().zip(single.probabilities());
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3), "{name}: {single:?}");
        }
        for (expected, half) in expected.iter().zip(ratings(DType::BF16, &gpu())) {
            let mut shares = expected.probabilities().to_vec();
            shares.sort_by(|a, b| b.total_cmp(a));
            if shares[0] - shares[1] > MARGIN {
                assert_eq!(half.level(), expected.level(), "{name}");
            }
        }
    }
}
