//! Checks every engine's models against the contract of the traits.

use std::path::Path;

use candle_core::{DType, Device};
use dog_iqa::engine::{ClassicScorer, ClassicSegmenter, Sam2Segmenter, Segmenter};
use dog_iqa::imaging::Picture;
use dog_iqa::method::{RawMask, RegionKind, RegionSettings, select_regions};
use dog_iqa::models::sam2::amg::{AmgPreset, AmgSettings};
use image::RgbImage;

use crate::broken_weights::segmenter_with;
use crate::conformance;

#[test]
fn the_classic_segmenter_conforms() {
    conformance::segmenter(&ClassicSegmenter::new(), |a, b| a == b);
}

#[test]
fn the_classic_scorer_conforms_on_every_standard() {
    for levels in [2, 3, 5, 7, 9] {
        conformance::scorer(&ClassicScorer::new(levels), levels, |a, b| a == b);
    }
}

/// The small random network of the goldens, which seldom believes in its masks.
fn sam2(settings: AmgSettings) -> Sam2Segmenter {
    sam2_on(settings, DType::F32, &Device::Cpu)
}

pub(crate) fn sam2_on(settings: AmgSettings, dtype: DType, device: &Device) -> Sam2Segmenter {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2");
    let model = folder.join("model.hf.safetensors");
    Sam2Segmenter::open(&model, settings, dtype, device).unwrap()
}

/// The segmenter of the goldens with one tensor set to a value everywhere.
fn sam2_with(tensor: &str, value: f32) -> Sam2Segmenter {
    let folder = segmenter_with(tensor, value);
    let path = folder.path().join("model.safetensors");
    Sam2Segmenter::open(&path, lenient(), DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn values_that_are_not_numbers_are_errors_and_never_fewer_masks() {
    for (tensor, value, name) in [
        ("mask_decoder.iou_prediction_head.proj_out.bias", f32::NAN, "predictions"),
        ("mask_decoder.output_hypernetworks_mlps.2.proj_out.bias", f32::NAN, "masks"),
        ("mask_decoder.output_hypernetworks_mlps.2.proj_out.bias", f32::INFINITY, "masks"),
    ] {
        let segmenter = sam2_with(tensor, value);
        let picture = conformance::pictures().into_iter().next().unwrap();
        let input = segmenter.prepare(&picture).unwrap();
        let error = segmenter.segment(&[input]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("not numbers"), "{tensor} {value}: {error}");
    }
}

pub(crate) fn lenient() -> AmgSettings {
    AmgSettings {
        points_per_side: 4,
        pred_iou_thresh: 0.15,
        stability_score_thresh: 0.02,
        ..AmgSettings::default()
    }
}

/// Returns true for the same masks in the same order, except for pixels whose logit is at the
/// threshold: a larger batch adds in another order.
fn alike_to_rounding(a: &[RawMask], b: &[RawMask]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            let (small, large) = (a.mask.area_px(), b.mask.area_px());
            let near = |a: Option<f32>, b: Option<f32>| (a.unwrap() - b.unwrap()).abs() < 2e-5;
            small.abs_diff(large) <= large / 1000 && near(a.predicted_iou, b.predicted_iou)
        })
}

#[test]
fn the_sam2_segmenter_conforms() {
    conformance::segmenter(&sam2(lenient()), alike_to_rounding);
    let with_crops =
        AmgSettings { crop_n_layers: 1, crop_n_points_downscale_factor: 2.0, ..lenient() };
    conformance::segmenter(&sam2(with_crops), alike_to_rounding);
}

#[test]
fn sam2_names_itself_and_its_weights() {
    let info = sam2(lenient()).info();
    assert_eq!(info.name, "sam2.1-custom");
    assert_eq!(info.weights[0].name, "model.hf.safetensors");
    assert_eq!(info.weights[0].sha256.len(), 64);
}

/// Pictures without anything to find, and shapes that no photo has.
#[test]
fn sam2_answers_hostile_pictures_and_what_it_does_not_find_is_the_remainder() {
    let settings = AmgSettings { crop_n_layers: 1, ..lenient() };
    for (width, height) in [(1, 1), (1, 5000), (5000, 1), (3, 2), (640, 480)] {
        let black = Picture::from_rgb(RgbImage::new(width, height));
        for segmenter in [sam2(settings.clone()), sam2(AmgPreset::DogIqa.settings())] {
            let input = segmenter.prepare(&black).unwrap();
            let masks = segmenter.segment(&[input]).unwrap().remove(0);
            for raw in &masks {
                let frame = (raw.mask.rle().width(), raw.mask.rle().height());
                assert_eq!(frame, (width, height));
            }
        }
    }
    // The trained thresholds are far above what a random network believes of its masks.
    let black = Picture::from_rgb(RgbImage::new(640, 480));
    let segmenter = sam2(AmgPreset::Sam2Default.settings());
    let masks = segmenter.segment(&[segmenter.prepare(&black).unwrap()]).unwrap().remove(0);
    assert_eq!(masks, []);
    let regions = select_regions(640, 480, masks, &RegionSettings::default()).unwrap().regions;
    assert_eq!(regions.len(), 1);
    assert_eq!(regions[0].kind, RegionKind::Remainder);
    assert_eq!(regions[0].mask.area_px(), 640 * 480);
}
