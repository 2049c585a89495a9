//! The published networks at their real shapes, with random weights: the number of parameters, and
//! one image from pixels to masks.

use candle_core::DType;
use dog_iqa::checkpoints::Sam2Checkpoint;
use dog_iqa::models::sam2::amg::{AmgSettings, MaskGenerator, prepare};
use dog_iqa::models::sam2::{Config, Sam2, Size};
use image::{Rgb, RgbImage};

use crate::random_checkpoint::write;
use crate::random_weights::network;

/// Returns the parameters of the trunk and the neck, in millions. The other parts of the image path
/// have the same size in all networks. The complete checkpoints have 38.9, 46.0, 80.8 and 224.4
/// million parameters, because they include the video path
/// and the object score.
fn parameters(size: Size) -> (f64, f64) {
    match size {
        Size::Tiny => (26.85, 0.37),
        Size::Small => (33.95, 0.37),
        Size::BasePlus => (68.68, 0.43),
        Size::Large => (212.15, 0.55),
    }
}

fn check(size: Size) {
    let config = Config::of_size(size);
    let (model, shapes) = network(|vb| Sam2::new(&config, &vb));
    let millions = |prefix: &str| {
        let of_part = shapes.iter().filter(|(name, _)| name.starts_with(prefix));
        of_part.map(|(_, shape)| shape.elem_count()).sum::<usize>() as f64 / 1e6
    };
    let (trunk, neck) = parameters(size);
    let close = |ours: f64, golden: f64| (ours - golden).abs() < 0.006;
    assert!(close(millions("image_encoder.trunk"), trunk), "{}", millions("image_encoder.trunk"));
    assert!(close(millions("image_encoder.neck"), neck), "{}", millions("image_encoder.neck"));
    assert!(close(millions("sam_mask_decoder"), 4.083), "{}", millions("sam_mask_decoder"));
    assert!(close(millions("sam_prompt_encoder"), 0.0065), "{}", millions("sam_prompt_encoder"));

    // A checkpoint with the real names and shapes, and no configuration.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, DType::F32, &shapes);
    let checkpoint = Sam2Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.size(), Some(size));
    assert_eq!(checkpoint.config(), &config);
    let opened = checkpoint.load(DType::F32, model.device()).unwrap();
    drop(model);

    let settings = AmgSettings {
        points_per_side: 2,
        pred_iou_thresh: 0.0,
        stability_score_thresh: 0.0,
        ..AmgSettings::default()
    };
    let generator = MaskGenerator::new(opened, settings).unwrap();
    let photo = RgbImage::from_fn(320, 200, |x, y| {
        Rgb([x, y, x * y / 97].map(|value| value.to_le_bytes()[0]))
    });
    let prepared = prepare(&photo, generator.settings(), config.image_size).unwrap();
    let found = generator.generate(&[prepared]).unwrap().remove(0);
    assert!(!found.is_empty(), "without filters at least one mask remains");
    for mask in &found {
        assert_eq!((mask.rle.width(), mask.rle.height()), (320, 200));
        assert!((0.0..=1.0).contains(&mask.predicted_iou), "{}", mask.predicted_iou);
    }
}

#[test]
fn sam2_tiny_is_built_opened_and_run() {
    check(Size::Tiny);
}

#[test]
fn sam2_small_is_built_opened_and_run() {
    check(Size::Small);
}

#[test]
fn sam2_base_plus_is_built_opened_and_run() {
    check(Size::BasePlus);
}

#[test]
fn sam2_large_is_built_opened_and_run() {
    check(Size::Large);
}
