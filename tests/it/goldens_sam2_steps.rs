//! The separate steps around SAM 2 against the reference: resizing, and each step of the mask
//! generator.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes and positions in small pictures"
)]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::Weights;
use dog_iqa::imaging::Picture;
use dog_iqa::method::Rle;
use dog_iqa::models::sam2::amg::{
    AmgSettings, Bitmap, CropBox, MaskEnlargement, SmallRegionKind, clean_logits, clean_masks,
    corners, crop_boxes, in_model, in_pixels, is_near_crop_edge, non_maximum_suppression,
    point_grid, point_grids, remove_small_regions,
};
use dog_iqa::models::sam2::{preprocess, resize_cubic, trunk_position};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::golden_folders::{Suite, folders};
use crate::goldens::{
    Comparison, image_of, json, picture, resize_tolerance, tensors, tensors_if_any,
};

/// The steps of one folder.
struct Steps {
    cases: Value,
    tensors: HashMap<String, Tensor>,
    comparison: Comparison,
}

impl Steps {
    fn open(folder: &Path) -> Self {
        Self {
            cases: json(&folder.join("amg_steps.json")),
            tensors: tensors_if_any(&folder.join("amg_steps.safetensors")),
            comparison: Comparison::new(folder, "steps of the generator"),
        }
    }

    /// Returns the cases of a step whose tensors the folder has; their names are in `named`. The
    /// file may have a single case without an array.
    fn cases<T: DeserializeOwned>(&mut self, step: &str, named: &[&str]) -> Vec<T> {
        let cases = match self.cases[step].clone() {
            Value::Array(cases) => cases,
            Value::Null => Vec::new(),
            case => vec![case],
        };
        if cases.is_empty() {
            self.comparison.absent(step);
        }
        let (complete, others): (Vec<Value>, Vec<Value>) = cases.into_iter().partition(|case| {
            let mut names = named.iter().flat_map(|key| match &case[key] {
                Value::Array(names) => names.clone(),
                name => vec![name.clone()],
            });
            names.all(|name| self.tensors.contains_key(name.as_str().unwrap_or(step)))
        });
        for _ in others {
            self.comparison.absent(&format!("a tensor of `{step}`"));
        }
        let cases = complete.into_iter().map(|case| {
            serde_json::from_value(case)
                .unwrap_or_else(|error| panic!("the cases of `{step}`: {error}"))
        });
        cases.collect()
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("amg_steps.safetensors lacks `{name}`"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.tensor(name).to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn bitmap(&self, name: &str) -> Bitmap {
        let width = *self.tensor(name).dims().last().unwrap();
        Bitmap { width, bits: self.floats(name).iter().map(|&bit| bit != 0.0).collect() }
    }

    fn rle(&self, name: &str) -> Rle {
        rle_of(&self.bitmap(name))
    }
}

fn rle_of(bitmap: &Bitmap) -> Rle {
    let (width, height) = (bitmap.width as u32, (bitmap.bits.len() / bitmap.width) as u32);
    Rle::from_bitmap(width, height, &bitmap.bits).unwrap()
}

#[test]
fn every_step_of_the_generator_follows_the_reference() {
    for folder in folders(Suite::Sam2Steps, &["sam2"]) {
        let mut steps = Steps::open(&folder);
        check_stability(&mut steps);
        check_boxes_and_runs(&mut steps);
        check_nms(&mut steps);
        check_small_regions(&mut steps);
        check_fill_holes(&mut steps);
        check_grids(&mut steps);
        check_crops(&mut steps);
        check_upsampling(&mut steps);
        check_position(&mut steps, &folder);
        steps.comparison.finish_if_any(280);
    }
}

#[derive(Deserialize)]
struct Stability {
    mask_threshold: f64,
    offset: f64,
    scores: Vec<Option<f32>>,
}

fn check_stability(steps: &mut Steps) {
    if !steps.tensors.contains_key("stability.logits") {
        return steps.comparison.absent("stability.logits");
    }
    let (count, height, width) = steps.tensor("stability.logits").dims3().unwrap();
    let logits = steps.floats("stability.logits");
    // Enlarging a map to its own size changes nothing.
    let same = MaskEnlargement::new((width, height), (width as u32, height as u32));
    for case in steps.cases::<Stability>("stability", &[]) {
        let Stability { mask_threshold, offset, .. } = case;
        let thresholds = [-offset, 0.0, offset].map(|offset| (mask_threshold + offset) as f32);
        let scores: Vec<Option<f32>> = logits
            .chunks_exact(height * width)
            .map(|logits| {
                let [possible, _, sure] = same.measure(logits, thresholds).counts;
                Some(sure as f32 / possible as f32).filter(|score| !score.is_nan())
            })
            .collect();
        assert_eq!(scores.len(), count);
        steps.comparison.equal("stability", &scores, &case.scores);
    }
}

#[derive(Deserialize)]
struct Boxes {
    masks: String,
    boxes: Vec<[u32; 4]>,
}

#[derive(Deserialize)]
struct Runs {
    mask: String,
    counts: Vec<u32>,
    area: u64,
    coco: String,
}

fn check_boxes_and_runs(steps: &mut Steps) {
    for case in steps.cases::<Boxes>("mask_to_box", &["masks"]) {
        let Bitmap { width, bits } = steps.bitmap(&case.masks);
        let pixels = bits.len() / case.boxes.len();
        for (bits, golden) in bits.chunks_exact(pixels).zip(&case.boxes) {
            let ours = corners(&rle_of(&Bitmap { width, bits: bits.to_vec() }));
            steps.comparison.equal("mask_to_box", &ours, golden);
        }
    }
    for case in steps.cases::<Runs>("rle", &["mask"]) {
        let ours = steps.rle(&case.mask);
        steps.comparison.equal(&case.mask, &ours.counts().to_vec(), &case.counts);
        steps.comparison.equal(&case.mask, &ours.area(), &case.area);
        steps.comparison.equal(&case.mask, &ours.to_compressed(), &case.coco);
    }
}

#[derive(Deserialize)]
struct Nms {
    name: String,
    boxes: String,
    scores: String,
    iou_threshold: f64,
    kept: Vec<usize>,
    order_of_ties_undefined: bool,
}

fn check_nms(steps: &mut Steps) {
    for case in steps.cases::<Nms>("nms", &["boxes", "scores"]) {
        let boxes = steps.floats(&case.boxes);
        let (boxes, _) = boxes.as_chunks::<4>();
        let mut ours =
            non_maximum_suppression(boxes, &steps.floats(&case.scores), case.iou_threshold);
        let mut golden = case.kept;
        if case.order_of_ties_undefined {
            ours.sort_unstable();
            golden.sort_unstable();
        }
        steps.comparison.equal(&case.name, &ours, &golden);
    }
}

#[derive(Deserialize)]
struct SmallRegions {
    mask: String,
    mode: String,
    area_thresh: u32,
    out: String,
    changed: bool,
    largest_is_a_tie: bool,
}

#[derive(Deserialize)]
struct PostProcess {
    masks: Vec<String>,
    min_area: u32,
    nms_thresh: f64,
    kept: Vec<usize>,
    boxes: Vec<[u32; 4]>,
    counts: Vec<Vec<u32>>,
}

fn check_small_regions(steps: &mut Steps) {
    for case in steps.cases::<SmallRegions>("small_regions", &["mask", "out"]) {
        let mut ours = steps.bitmap(&case.mask);
        let kind =
            if case.mode == "holes" { SmallRegionKind::Holes } else { SmallRegionKind::Islands };
        let changed = remove_small_regions(&mut ours, case.area_thresh, kind);
        steps.comparison.equal(&case.out, &changed, &case.changed);
        let golden = steps.bitmap(&case.out);
        if case.largest_is_a_tie {
            // The order of the parts decides between regions of equal area.
            let area = |mask: &Bitmap| mask.bits.iter().filter(|bit| **bit).count();
            steps.comparison.equal(&case.out, &area(&ours), &area(&golden));
        } else {
            steps.comparison.equal(&case.out, &ours, &golden);
        }
    }
    for case in steps.cases::<PostProcess>("postprocess_small_regions", &["masks"]) {
        let masks: Vec<Rle> = case.masks.iter().map(|mask| steps.rle(mask)).collect();
        let cleaned = clean_masks(&masks, case.min_area, case.nms_thresh).unwrap();
        let kept: Vec<usize> = cleaned.iter().map(|mask| mask.index).collect();
        let now = cleaned.iter().map(|mask| mask.changed.as_ref().unwrap_or(&masks[mask.index]));
        let counts: Vec<Vec<u32>> = now.clone().map(|rle| rle.counts().to_vec()).collect();
        let boxes: Vec<[u32; 4]> = now.map(corners).collect();
        steps.comparison.equal("postprocess_small_regions", &kept, &case.kept);
        steps.comparison.equal("postprocess_small_regions", &boxes, &case.boxes);
        steps.comparison.equal("postprocess_small_regions", &counts, &case.counts);
    }
}

#[derive(Deserialize)]
struct FillHoles {
    logits: String,
    mask_threshold: f32,
    max_hole_area: u32,
    max_sprinkle_area: u32,
    hw: [usize; 2],
    out: String,
}

fn check_fill_holes(steps: &mut Steps) {
    for case in steps.cases::<FillHoles>("fill_holes", &["logits", "out"]) {
        let dims = steps.tensor(&case.logits).dims().to_vec();
        let &[.., height, width] = &dims[..] else { panic!("`{}` is no map", case.logits) };
        let mut logits = steps.floats(&case.logits);
        let enlargement =
            MaskEnlargement::new((width, height), (case.hw[1] as u32, case.hw[0] as u32));
        let mut ours = Vec::new();
        for logits in logits.chunks_exact_mut(height * width) {
            let (hole_area, island_area) = (case.max_hole_area, case.max_sprinkle_area);
            clean_logits(logits, width, case.mask_threshold, hole_area, island_area);
            ours.extend(enlargement.map(logits));
        }
        let golden = steps.tensor(&case.out).clone();
        let ours = Tensor::from_vec(ours, golden.dims(), &Device::Cpu).unwrap();
        steps.comparison.close(&case.out, &ours, &golden, 2e-5);
    }
}

#[derive(Deserialize)]
struct Grid {
    n: usize,
    points: String,
}

#[derive(Deserialize)]
struct Grids {
    n_per_side: usize,
    n_layers: usize,
    scale_per_layer: f64,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Points {
    n: usize,
    crop_hw: [u32; 2],
    image_size: usize,
    pixels: String,
    model: String,
}

fn check_grids(steps: &mut Steps) {
    fn to_tensor(grid: &[[f64; 2]]) -> Tensor {
        Tensor::from_slice(grid.as_flattened(), (grid.len(), 2), &Device::Cpu).unwrap()
    }
    for case in steps.cases::<Grid>("point_grid", &["points"]) {
        let golden = steps.tensor(&case.points).clone();
        steps.comparison.close(&case.points, &to_tensor(&point_grid(case.n)), &golden, 1e-15);
    }
    for case in steps.cases::<Grids>("all_layer_point_grids", &["layers"]) {
        let settings = AmgSettings {
            points_per_side: case.n_per_side,
            crop_n_layers: case.n_layers,
            crop_n_points_downscale_factor: case.scale_per_layer,
            ..AmgSettings::default()
        };
        let ours = point_grids(&settings);
        assert_eq!(ours.len(), case.layers.len());
        for (ours, name) in ours.iter().zip(&case.layers) {
            let golden = steps.tensor(name).clone();
            steps.comparison.close(name, &to_tensor(ours), &golden, 1e-15);
        }
    }
    for case in steps.cases::<Points>("points_to_model", &["pixels", "model"]) {
        let [height, width] = case.crop_hw;
        let crop = CropBox { corners: [0, 0, width, height], layer: 0 };
        let pixels = in_pixels(&point_grid(case.n), &crop);
        let model: Vec<[f32; 2]> =
            pixels.iter().map(|&point| in_model(point, &crop, case.image_size)).collect();
        let golden = steps.floats(&case.pixels);
        steps.comparison.equal(&case.pixels, &pixels.as_flattened().to_vec(), &golden);
        let golden = steps.floats(&case.model);
        steps.comparison.equal(&case.model, &model.as_flattened().to_vec(), &golden);
    }
}

#[derive(Deserialize)]
struct Crops {
    im_hw: [u32; 2],
    n_layers: usize,
    overlap_ratio: f64,
    boxes: Vec<[i64; 4]>,
    layers: Vec<usize>,
}

#[derive(Deserialize)]
struct NearEdge {
    crop_box: [u32; 4],
    orig_box: [u32; 4],
    atol: f64,
    boxes: Vec<[u32; 4]>,
    near: Vec<bool>,
}

#[derive(Deserialize)]
struct Uncrop {
    mask: String,
    crop_box: [u32; 4],
    orig_hw: [u32; 2],
    out: String,
}

fn check_crops(steps: &mut Steps) {
    for case in steps.cases::<Crops>("crop_boxes", &[]) {
        let [height, width] = case.im_hw;
        let ours = crop_boxes((width, height), case.n_layers, case.overlap_ratio);
        let golden: Vec<([i64; 4], usize)> = case
            .boxes
            .iter()
            .copied()
            .zip(case.layers)
            // The reference fails on empty crops; our generator skips them.
            .filter(|([left, top, right, bottom], _)| left < right && top < bottom)
            .collect();
        let ours: Vec<_> =
            ours.iter().map(|crop| (crop.corners.map(i64::from), crop.layer)).collect();
        steps.comparison.equal(&format!("crop_boxes {:?}", case.im_hw), &ours, &golden);
    }
    for case in steps.cases::<NearEdge>("near_crop_edge", &[]) {
        let crop = CropBox { corners: case.crop_box, layer: 0 };
        let [left, top, width, height] = case.orig_box;
        assert_eq!((left, top), (0, 0));
        let tolerance_px = case.atol as u32;
        let near = |&bbox: &[u32; 4]| is_near_crop_edge(bbox, &crop, (width, height), tolerance_px);
        let ours: Vec<bool> = case.boxes.iter().map(near).collect();
        steps.comparison.equal("near_crop_edge", &ours, &case.near);
    }
    for case in steps.cases::<Uncrop>("uncrop", &["mask", "out"]) {
        let Bitmap { width, bits } = steps.bitmap(&case.mask);
        let logits: Vec<f32> = bits.iter().map(|&bit| if bit { 1.0 } else { -1.0 }).collect();
        let [left, top, right, bottom] = case.crop_box;
        let size = (right - left, bottom - top);
        assert_eq!(size, (width as u32, (bits.len() / width) as u32));
        let frame = (case.orig_hw[1], case.orig_hw[0]);
        let enlargement = MaskEnlargement::new((width, bits.len() / width), size);
        let runs = enlargement.runs(&logits, 0.0, (left, top), frame.1);
        let ours = Rle::from_spans(frame.0, frame.1, runs).unwrap();
        let golden = steps.rle(&case.out);
        steps.comparison.equal(&case.out, &ours, &golden);
    }
}

#[derive(Deserialize)]
struct Upsample {
    logits: String,
    hw: [usize; 2],
    out: String,
    err_f32_vs_f64: f64,
}

fn check_upsampling(steps: &mut Steps) {
    for case in steps.cases::<Upsample>("upsample", &["logits", "out"]) {
        let dims = steps.tensor(&case.logits).dims().to_vec();
        let &[.., height, width] = &dims[..] else { panic!("`{}` is no map", case.logits) };
        let enlargement =
            MaskEnlargement::new((width, height), (case.hw[1] as u32, case.hw[0] as u32));
        let golden = steps.tensor(&case.out).clone();
        let ours = enlargement.map(&steps.floats(&case.logits));
        let ours = Tensor::from_vec(ours, golden.dims(), &Device::Cpu).unwrap();
        let tolerance = (4.0 * case.err_f32_vs_f64).max(1e-5);
        steps.comparison.close(&case.out, &ours, &golden, tolerance);
    }
}

#[derive(Deserialize)]
struct Position {
    pos_embed: String,
    pos_embed_window: String,
    cases: Vec<PositionCase>,
}

#[derive(Deserialize)]
struct PositionCase {
    hw: [usize; 2],
    bicubic: String,
    out: String,
    err_f32_vs_f64: f64,
}

fn check_position(steps: &mut Steps, folder: &Path) {
    // The names of the positions are those of the original files.
    let path = folder.join("model.original.safetensors");
    if !path.exists() {
        return steps.comparison.absent("model.original.safetensors");
    }
    let weights = Weights::open(&path).unwrap();
    for case in steps.cases::<Position>("pos_embed", &[]) {
        let Position { pos_embed, pos_embed_window, cases } = case;
        let load = |name: &str| weights.load(name, DType::F32, &Device::Cpu).unwrap();
        let (background, window) = (load(&pos_embed), load(&pos_embed_window));
        for case in cases {
            let mut names = [&case.bicubic, &case.out].into_iter();
            if let Some(name) = names.find(|name| !steps.tensors.contains_key(*name)) {
                steps.comparison.absent(name);
                continue;
            }
            let size = (case.hw[0], case.hw[1]);
            let tolerance = (20.0 * case.err_f32_vs_f64).max(1e-6);
            let golden = steps.tensor(&case.bicubic).clone();
            let ours = resize_cubic(&background, size).unwrap();
            steps.comparison.close(&case.bicubic, &ours, &golden, tolerance);
            let golden = steps.tensor(&case.out).clone();
            let ours = trunk_position(&background, &window, size).unwrap();
            steps.comparison.close(&case.out, &ours, &golden, tolerance);
        }
    }
}

#[test]
fn pictures_of_every_shape_are_resized_as_in_the_reference() {
    for folder in folders(Suite::Sam2Preprocessing, &["sam2"]) {
        let goldens = tensors(&folder.join("preprocess.safetensors"));
        let mut comparison = Comparison::new(&folder, "preprocessing");
        let names = goldens.keys().filter_map(|name| name.strip_prefix("orig."));
        let names: BTreeSet<&str> = names.map(|name| name.split('.').next().unwrap()).collect();
        for name in names {
            let of = |part: &str| goldens.get(&format!("orig.{name}{part}"));
            let sides = [("", 1), (".rows", 2), (".cols", 1)];
            let size = sides.iter().find_map(|(part, dim)| of(part)?.dim(*dim).ok()).unwrap();
            let Some(path) = image_of(&folder, &format!("preprocess/{name}.png")) else {
                comparison.absent(name);
                continue;
            };
            let picture: Picture = picture(&path);
            let ours = preprocess(picture.pixels(), size).unwrap();
            comparison.close_if_present(name, || ours.clone(), of(""), 2e-3);
            let lines = Tensor::new(&[0_u32, 1, 62, 127], &Device::Cpu).unwrap();
            for (part, dim) in [("rows", 1), ("cols", 2)] {
                let ours = || ours.index_select(&lines, dim).unwrap();
                let tolerance = resize_tolerance(&picture, size);
                let golden = of(&format!(".{part}"));
                comparison.close_if_present(&format!("{name}.{part}"), ours, golden, tolerance);
            }
        }
        comparison.finish_if_any(18);
    }
}
