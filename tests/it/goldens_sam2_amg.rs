//! Complete runs of the mask generator against the reference, mask by mask.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use dog_iqa::checkpoints::Sam2Checkpoint;
use dog_iqa::imaging::Picture;
use dog_iqa::method::Rle;
use dog_iqa::models::sam2::amg::{
    AmgSettings, GeneratedMask, MaskGenerator, crop_boxes, non_maximum_suppression, point_grids,
    prepare,
};
use serde::Deserialize;
use serde_json::Value;

use crate::golden_folders::{Suite, announce_absent, folders};
use crate::goldens::{Comparison, image_of, json, picture};
use crate::goldens_sam2::weights;

/// Pixels that may differ between equal masks, because their logits are at the threshold: this
/// number, or this share of the union.
const PIXELS_FEW: f64 = 3.0;
const PIXELS_SHARE: f64 = 1e-3;
const IOU_TOLERANCE: f64 = 2e-5;
const STABILITY_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Run {
    params: Value,
    image: String,
    crops: Vec<Crop>,
    nms_calls: Vec<NmsCall>,
    masks: Vec<Mask>,
}

#[derive(Deserialize)]
struct Crop {
    #[serde(rename = "crop_box")]
    corners: [u32; 4],
    layer: usize,
    batches: Vec<Batch>,
}

#[derive(Deserialize)]
struct Batch {
    n_points: usize,
}

#[derive(Deserialize)]
struct NmsCall {
    kept: Vec<usize>,
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
}

#[derive(Deserialize)]
struct Mask {
    segmentation: Rle,
    segmentation_coco: String,
    area: u64,
    bbox: [f64; 4],
    predicted_iou: f64,
    point_coords: [[f32; 2]; 1],
    /// Null for a mask without a pixel.
    stability_score: Option<f64>,
    crop_box: [f64; 4],
}

/// Returns the runs of a folder, sorted by name.
fn runs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("amg_e2e")).unwrap().map(|entry| entry.unwrap().path());
    let mut runs: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    runs.sort();
    assert!(!runs.is_empty(), "no run in {}", folder.display());
    runs
}

fn settings(params: &Value) -> AmgSettings {
    let mut params = params.clone();
    // `output_mode` is not a setting, and null means the default.
    params.as_object_mut().unwrap().retain(|name, value| name != "output_mode" && !value.is_null());
    serde_json::from_value(params).unwrap()
}

fn generator(folder: &Path, settings: AmgSettings) -> MaskGenerator {
    let model =
        Sam2Checkpoint::open(&weights(folder)).unwrap().load(DType::F32, &Device::Cpu).unwrap();
    MaskGenerator::new(model, settings).unwrap()
}

fn generate(folder: &Path, run: &Run, change: impl FnOnce(&mut AmgSettings)) -> Vec<GeneratedMask> {
    let mut settings = settings(&run.params);
    change(&mut settings);
    let generator = generator(folder, settings);
    let picture = picture(&image_of(folder, &run.image).unwrap());
    let size = generator.model().config().image_size;
    let prepared = prepare(picture.pixels(), generator.settings(), size).unwrap();
    generator.generate(&[prepared]).unwrap().remove(0)
}

#[test]
fn complete_runs_find_the_masks_of_the_reference_in_order() {
    for folder in folders(Suite::Sam2Runs, &["sam2"]) {
        let mut comparison = Comparison::new(&folder, "complete runs of the generator");
        for path in runs(&folder) {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let run: Run = serde_json::from_value(json(&path)).unwrap();
            let Some(image) = image_of(&folder, &run.image) else {
                comparison.absent(&run.image);
                continue;
            };
            let found = generate(&folder, &run, |_| {});
            comparison.equal(&format!("{name}: masks"), &found.len(), &run.masks.len());
            for (index, (ours, golden)) in found.iter().zip(&run.masks).enumerate() {
                check_mask(&mut comparison, &format!("{name}: mask {index}"), ours, golden);
            }
            check_nms_calls(&mut comparison, &name, &run);
            let picture = picture(&image);
            check_crops(&mut comparison, &name, &run, (picture.width(), picture.height()));
        }
        comparison.finish_if_any(800);
    }
}

fn check_mask(comparison: &mut Comparison, name: &str, ours: &GeneratedMask, golden: &Mask) {
    let crop_box = {
        let [left, top, ..] = ours.crop.corners;
        [left, top, ours.crop.width(), ours.crop.height()].map(f64::from)
    };
    comparison.equal(&format!("{name}: point"), &[ours.point], &golden.point_coords);
    comparison.equal(&format!("{name}: crop"), &crop_box, &golden.crop_box);
    let theirs = &golden.segmentation;
    comparison.equal(&format!("{name}: text"), &theirs.to_compressed(), &golden.segmentation_coco);
    comparison.equal(&format!("{name}: area"), &theirs.area(), &golden.area);
    let (differing, union) = difference(&ours.rle, theirs);
    let few = PIXELS_FEW.max(PIXELS_SHARE * union);
    comparison.close_by(&format!("{name}: pixels"), differing, few);
    let [left, top, right, bottom] = ours.corners.map(f64::from);
    // The reference's width is the distance between the outermost pixels.
    let bbox = [left, top, right - left, bottom - top];
    for (side, (ours, golden)) in bbox.iter().zip(golden.bbox).enumerate() {
        // A differing pixel can move a side by one.
        let tolerance = if differing > 0.0 { 1.0 } else { 0.0 };
        comparison.close_by(&format!("{name}: box[{side}]"), (ours - golden).abs(), tolerance);
    }
    let apart = (f64::from(ours.predicted_iou) - golden.predicted_iou).abs();
    comparison.close_by(&format!("{name}: predicted IoU"), apart, IOU_TOLERANCE);
    let is_known = !ours.stability_score.is_nan();
    comparison.equal(&format!("{name}: stability"), &is_known, &golden.stability_score.is_some());
    if let Some(golden) = golden.stability_score {
        let apart = (f64::from(ours.stability_score) - golden).abs();
        let tolerance = STABILITY_TOLERANCE.max(PIXELS_FEW / union);
        comparison.close_by(&format!("{name}: stability"), apart, tolerance);
    }
}

/// Returns the number of pixels in only one of the masks, and in their union, at least 1.
fn difference(a: &Rle, b: &Rle) -> (f64, f64) {
    let union = Rle::union(a.width(), a.height(), [a, b]).unwrap().area();
    ((2 * union - a.area() - b.area()) as f64, union.max(1) as f64)
}

fn check_nms_calls(comparison: &mut Comparison, name: &str, run: &Run) {
    let settings = settings(&run.params);
    for (index, call) in run.nms_calls.iter().enumerate() {
        let is_between_crops = index == run.crops.len();
        let threshold =
            if is_between_crops { settings.crop_nms_thresh } else { settings.box_nms_thresh };
        let kept = non_maximum_suppression(&call.boxes, &call.scores, threshold);
        comparison.equal(&format!("{name}: NMS {index}"), &kept, &call.kept);
    }
}

/// Compares the crops in order, with the number of points in each.
fn check_crops(comparison: &mut Comparison, name: &str, run: &Run, size: (u32, u32)) {
    let settings = settings(&run.params);
    let ours = crop_boxes(size, settings.crop_n_layers, settings.crop_overlap_ratio);
    let grids = point_grids(&settings);
    let ours: Vec<_> =
        ours.iter().map(|crop| (crop.corners, crop.layer, grids[crop.layer].len())).collect();
    let points = |crop: &Crop| crop.batches.iter().map(|batch| batch.n_points).sum();
    let golden: Vec<_> =
        run.crops.iter().map(|crop| (crop.corners, crop.layer, points(crop))).collect();
    comparison.equal(&format!("{name}: crops"), &ours, &golden);
}

/// Returns true for the same masks in the same order, up to rounding.
fn alike(ours: &[GeneratedMask], theirs: &[GeneratedMask]) -> bool {
    let same = |(a, b): (&GeneratedMask, &GeneratedMask)| {
        a.point.map(f32::to_bits) == b.point.map(f32::to_bits)
            && {
                let (differing, union) = difference(&a.rle, &b.rle);
                differing <= PIXELS_FEW.max(PIXELS_SHARE * union)
            }
            && f64::from((a.predicted_iou - b.predicted_iou).abs()) <= IOU_TOLERANCE
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// Neither the prompts per call of the decoder nor the images per run change a mask.
#[test]
fn the_size_of_batches_changes_no_mask() {
    for folder in folders(Suite::Sam2Runs, &["sam2"]) {
        let run_of = |path: &PathBuf| -> Run { serde_json::from_value(json(path)).unwrap() };
        let has_image = |path: &PathBuf| image_of(&folder, &run_of(path).image).is_some();
        if !runs(&folder).iter().all(has_image) {
            announce_absent(&folder, "batches of the generator", "image of a run");
            continue;
        }
        for path in runs(&folder) {
            let run = run_of(&path);
            let one_by_one = generate(&folder, &run, |settings| settings.points_per_batch = 1);
            let at_once = generate(&folder, &run, |settings| settings.points_per_batch = 1000);
            assert!(alike(&one_by_one, &at_once), "{}", path.display());
        }
        let path = &runs(&folder)[0];
        let run = run_of(path);
        let generator = generator(&folder, settings(&run.params));
        let size = generator.model().config().image_size;
        let whole = picture(&image_of(&folder, &run.image).unwrap());
        let (width, height) = (whole.width(), whole.height() / 2 + 1);
        let half = image::imageops::crop_imm(&**whole.pixels(), 0, 0, width, height).to_image();
        let pictures = [whole, Picture::from_rgb(half)];
        let prepared = pictures
            .each_ref()
            .map(|picture| prepare(picture.pixels(), generator.settings(), size).unwrap());
        let together = generator.generate(&prepared).unwrap();
        for (prepared, together) in prepared.iter().zip(&together) {
            let alone = generator.generate(std::slice::from_ref(prepared)).unwrap().remove(0);
            assert!(alike(&alone, together), "{}", path.display());
        }
    }
}

#[test]
fn masks_can_be_limited_and_cleaned() {
    let folder = &folders(Suite::Sam2Runs, &["sam2"])[0];
    let run: Run = serde_json::from_value(json(&folder.join("amg_e2e/plain.json"))).unwrap();
    let all = generate(folder, &run, |_| {});
    let limited = generate(folder, &run, |settings| settings.masks_max = 4);
    assert_eq!(limited.len(), 4);
    let smallest = limited.iter().map(|mask| mask.rle.area()).min().unwrap();
    let dropped = all.iter().filter(|mask| !limited.contains(mask));
    assert!(dropped.map(|mask| mask.rle.area()).max().unwrap() <= smallest);

    let filled = generate(folder, &run, |settings| settings.min_mask_region_area = 12);
    assert_ne!(filled, all, "holes of the coarse masks were filled");
    let cleaned = generate(folder, &run, |settings| settings.small_region_area = 200);
    assert!(cleaned.len() <= all.len());
    assert_ne!(cleaned, all, "small regions of the finished masks were removed");
}
