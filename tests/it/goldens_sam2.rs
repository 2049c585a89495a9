//! SAM 2 against tensors of the reference implementation, stage by stage, for every golden folder.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, IndexOp, Tensor};
use dog_iqa::checkpoints::Sam2Checkpoint;
use dog_iqa::models::sam2::amg::MaskEnlargement;
use dog_iqa::models::sam2::{
    DecodedPrompts, EncodedImages, FineFeatures, MASKS, PointLabel, Prompts, Sam2, TwoWayState,
    in_rows, preprocess,
};
use serde_json::Value;

use crate::golden_folders::{Suite, folders, has_file};
use crate::goldens::{
    Comparison, Place, image_of, json, largest, on_device, picture, resize_tolerance, tensors,
};

/// Files of weights that a folder may have. All have the same tensors.
const WEIGHTS: [&str; 4] = [
    "model.hf.safetensors",
    "model.safetensors",
    "model.original.safetensors",
    "model.original.pt",
];
/// Tolerance of a tensor that `tolerance.json` does not name, as a share of its largest value: the
/// largest of the repository's folder.
const SHARE: f64 = 1e-4;

/// Returns the weights of a folder.
pub(crate) fn weights(folder: &Path) -> PathBuf {
    let paths = WEIGHTS.map(|name| folder.join(name));
    let found = paths.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{} has none of {WEIGHTS:?}", folder.display()))
}

/// One golden folder, opened.
struct Golden {
    /// On the CPU.
    io: HashMap<String, Tensor>,
    /// The tensors of numbers with a fraction, on the device of the place.
    inputs: HashMap<String, Tensor>,
    tolerance: Value,
    comparison: Comparison,
    place: Place,
}

impl Golden {
    fn open(folder: &Path, part: &'static str, place: &Place) -> Self {
        let io = tensors(&folder.join("io.safetensors"));
        Self {
            inputs: on_device(&io, &place.device),
            io,
            tolerance: tolerances(folder),
            comparison: Comparison::at(place, folder, part),
            place: place.clone(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.io.contains_key(name)
    }

    /// Compares a tensor that the folder may lack, with [`Golden::tolerance`].
    fn check(&mut self, name: &str, ours: &Tensor) {
        let Some(golden) = self.io.get(name).cloned() else {
            return self.comparison.absent(name);
        };
        if self.place.is_half() && self.place.device.is_cpu() && self.comparison.is_foreign() {
            // Rounding of a half format differs between networks far more than ours from theirs.
            return self.comparison.measure(name, ours, &golden);
        }
        let tolerance = self.tolerance(name, &golden);
        self.comparison.close(name, ours, &golden, tolerance);
    }

    /// Returns the tolerance of the goldens' README: 20 times the reference's own error in single
    /// precision, and at least 1e-6 of the largest value. Elsewhere, the share of the largest
    /// value.
    fn tolerance(&self, name: &str, golden: &Tensor) -> f64 {
        let largest = largest(golden);
        match self.place.share {
            // The tokens of the masks are the least exact: they end the longest chain of roundings.
            Some(share) if name.ends_with("mask_tokens") => 4.0 * share * largest,
            Some(share) => share * largest.max(0.1),
            None => match self.tolerance[name]["err_f32_vs_f64"].as_f64() {
                Some(error) => (20.0 * error).max(1e-6 * largest.max(1.0)),
                None => SHARE * largest.max(1.0),
            },
        }
    }

    /// Returns the picture at the size of the network, normalised. It may be a tensor of the file.
    fn image(&self, folder: &Path, size: usize) -> Tensor {
        if let Some(image) = self.inputs.get("image") {
            return image.clone();
        }
        let path = image_of(folder, "image.png").expect("a picture or a tensor of it");
        let image = preprocess(picture(&path).pixels(), size).unwrap().unsqueeze(0).unwrap();
        image.to_device(&self.place.device).unwrap()
    }
}

/// Reads the tolerances of a folder. Without a file there are none.
fn tolerances(folder: &Path) -> Value {
    let path = folder.join("tolerance.json");
    if path.exists() { json(&path) } else { Value::Null }
}

/// Moves the channels to the front, as in the reference.
fn channels_first(map: &Tensor) -> Tensor {
    map.permute((0, 3, 1, 2)).unwrap()
}

/// Reshapes `(n, side², channels)` to `(n, channels, side, side)`.
fn as_map(tokens: &Tensor) -> Tensor {
    let (count, area, channels) = tokens.dims3().unwrap();
    let side = area.isqrt();
    channels_first(&tokens.reshape((count, side, side, channels)).unwrap())
}

fn check_encoder(golden: &mut Golden, model: &Sam2, image: &Tensor) {
    let trunk = model.image_encoder().trunk();
    let input = image;
    let image = image.to_dtype(golden.place.dtype).unwrap();
    let mut map = trunk.patch_embed().forward(&image).unwrap();
    golden.check("trunk.patch_embed", &map);
    golden.check("trunk.pos_embed", trunk.position());
    map = map.broadcast_add(trunk.position()).unwrap();
    let mut stages = Vec::new();
    for (index, block) in trunk.blocks().iter().enumerate() {
        map = block.forward(&map).unwrap();
        golden.check(&format!("trunk.block{index}"), &map);
        if trunk.stage_ends().contains(&index) {
            golden.check(&format!("trunk.stage{}", stages.len()), &channels_first(&map));
            stages.push(map.clone());
        }
    }
    let levels = model.image_encoder().neck().forward(&stages).unwrap();
    for (index, level) in levels.iter().enumerate() {
        golden.check(&format!("neck.level{index}"), &channels_first(level));
    }
    let narrowed = model.mask_decoder().narrowed(&levels[0], &levels[1]).unwrap();
    golden.check("high_res_feats.0", &channels_first(&narrowed[0]));
    golden.check("high_res_feats.1", &channels_first(&narrowed[1]));
    let encoded = model.encode(input).unwrap();
    golden.check("image_embed", &as_map(&encoded.tokens));
    golden.check("dense_pe", &as_map(&model.position().unsqueeze(0).unwrap()));
}

struct Case {
    coords: Tensor,
    labels: Vec<PointLabel>,
    masks: Option<Tensor>,
}

impl Case {
    fn read(golden: &Golden, name: &str) -> Self {
        let of = |part: &str| golden.io.get(&format!("{name}.{part}"));
        let first = ["coords", "mask_input", "masks4", "iou4"].iter().find_map(|part| of(part));
        let prompts = first.expect("a case has prompts or results").dim(0).unwrap();
        let without = || Tensor::zeros((prompts, 0, 2), DType::F32, &Device::Cpu).unwrap();
        let coords = golden.inputs.get(&format!("{name}.coords")).cloned().unwrap_or_else(without);
        let labels = golden.io.get(&format!("{name}.labels")).map_or_else(Vec::new, |labels| {
            let labels = labels.to_dtype(DType::I64).unwrap().flatten_all().unwrap();
            let labels: Vec<i64> = labels.to_vec1().unwrap();
            labels.into_iter().map(label_of).collect()
        });
        let masks = golden.inputs.get(&format!("{name}.mask_input"));
        let masks = masks.map(|masks| masks.squeeze(1).unwrap());
        Self { coords, labels, masks }
    }
}

/// The label with the reference's number.
fn label_of(number: i64) -> PointLabel {
    match number {
        -1 => PointLabel::Padding,
        0 => PointLabel::Background,
        1 => PointLabel::Foreground,
        2 => PointLabel::BoxStart,
        3 => PointLabel::BoxEnd,
        _ => panic!("{number} is no label of a point"),
    }
}

fn check_prompts(golden: &mut Golden, model: &Sam2, encoded: &EncodedImages, name: &str) {
    let case = Case::read(golden, name);
    let encoder = model.prompt_encoder();
    // A case without points has no sparse prompts to compare.
    if golden.has(&format!("{name}.coords")) {
        let sparse = encoder.sparse(&case.coords, &case.labels).unwrap();
        golden.check(&format!("{name}.sparse"), &sparse);
        let dense = match &case.masks {
            Some(masks) => as_map(&encoder.of_masks(masks).unwrap()),
            None => encoder.without_mask().unwrap().flatten_all().unwrap(),
        };
        golden.check(&format!("{name}.dense"), &dense);
    } else {
        golden.comparison.absent(&format!("{name}.sparse"));
    }
    let image_of = vec![0; case.coords.dim(0).unwrap()];
    let prompts = Prompts {
        image_of: &image_of,
        points: &case.coords,
        labels: &case.labels,
        masks: case.masks.as_ref(),
    };
    let mut layers: Vec<TwoWayState> = Vec::new();
    let decoded = model.decode(encoded, &prompts, |state| layers.push(state.clone())).unwrap();
    check_transformer(golden, name, &layers, &decoded);
    check_upscaling(golden, model, encoded, name, &decoded);
    let decoder = model.mask_decoder();
    golden.check(&format!("{name}.mask_tokens"), &decoded.mask_tokens);
    golden.check(&format!("{name}.iou4"), &decoded.iou);
    assert_eq!(decoded.iou.dtype(), DType::F32);
    if golden.place.dtype == DType::BF16 && !golden.place.prints {
        // Rounded to bf16, different predictions would be equal, and their order arbitrary.
        let rounded = decoded.iou.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        let apart = (&decoded.iou - rounded).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() > 0.0, "{name}: rounded to bf16");
    }
    let masks = decoder.masks(&decoded, &encoded.fine, &image_of, 0..MASKS).unwrap();
    golden.check(&format!("{name}.masks4"), &masks);
    check_enlarged(golden, name, &masks);
    // In a half format, another mask may be chosen.
    if golden.place.is_half() {
        return;
    }
    if golden.has(&format!("{name}.single_index")) {
        check_choice(golden, model, name, &decoded, &masks);
    } else {
        golden.comparison.absent(&format!("{name}.single_index"));
    }
}

/// Compares masks at the sizes in the file: `NAME.upsampled_96x128`.
fn check_enlarged(golden: &mut Golden, name: &str, masks: &Tensor) {
    let prefix = format!("{name}.upsampled_");
    let enlarged: Vec<String> =
        golden.io.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
    for key in enlarged {
        let (prompts, count, rows, columns) = masks.dims4().unwrap();
        let (height, width) = key.strip_prefix(&prefix).unwrap().split_once('x').unwrap();
        let (height, width): (u32, u32) = (height.parse().unwrap(), width.parse().unwrap());
        let enlargement = MaskEnlargement::new((columns, rows), (width, height));
        let masks: Vec<f32> = masks.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> =
            masks.chunks_exact(rows * columns).flat_map(|mask| enlargement.map(mask)).collect();
        let shape = (prompts, count, height as usize, width as usize);
        golden.check(&key, &Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    }
}

fn check_transformer(
    golden: &mut Golden,
    name: &str,
    layers: &[TwoWayState],
    decoded: &DecodedPrompts,
) {
    for (index, layer) in layers.iter().enumerate() {
        golden.check(&format!("{name}.tw.layer{index}.queries"), &layer.queries);
        golden.check(&format!("{name}.tw.layer{index}.keys"), &layer.keys);
    }
    golden.check(&format!("{name}.tw.keys"), &decoded.image);
    // Only rows 2 to 5 of the last attention's queries are accessible, as mask tokens.
    let part = format!("{name}.tw.queries");
    let Some(queries) = golden.io.get(&part) else { return golden.comparison.absent(&part) };
    let tolerance = golden.tolerance(&part, queries);
    let queries = queries.narrow(1, 2, MASKS).unwrap();
    golden.comparison.close(&part, &decoded.mask_tokens, &queries, tolerance);
}

fn check_upscaling(
    golden: &mut Golden,
    model: &Sam2,
    encoded: &EncodedImages,
    name: &str,
    decoded: &DecodedPrompts,
) {
    let upscale = model.mask_decoder().upscale();
    let FineFeatures { children: half, grandchildren: quarter } = &encoded.fine;
    let image_of = vec![0; decoded.image.dim(0).unwrap()];
    let children = upscale.children(&decoded.image, half, &image_of).unwrap();
    let (_, area, channels) = children.dims3().unwrap();
    let without = children.broadcast_sub(&half.reshape((1, area, channels)).unwrap()).unwrap();
    golden.check(&format!("{name}.up.dc1"), &of_children(&without));
    let activated = upscale.activated(&children).unwrap();
    golden.check(&format!("{name}.up.act1"), &of_children(&activated));
    let pixels = upscale.pixels(&activated, quarter, &image_of).unwrap();
    golden.check(&format!("{name}.upscaled"), &in_rows(&pixels).unwrap());
}

/// Reshapes `(n, side² · 4, channels)` to `(n, channels, 2 · side, 2 · side)`.
fn of_children(children: &Tensor) -> Tensor {
    let (count, area, channels) = children.dims3().unwrap();
    let side = (area / 4).isqrt();
    let map = children.reshape(&[count, side, side, 2, 2, channels][..]).unwrap();
    let map = map.permute([0, 1, 3, 2, 4, 5]).unwrap();
    channels_first(&map.reshape((count, 2 * side, 2 * side, channels)).unwrap())
}

fn check_choice(
    golden: &mut Golden,
    model: &Sam2,
    name: &str,
    decoded: &DecodedPrompts,
    masks: &Tensor,
) {
    let chosen = model.mask_decoder().choose_one(masks, &decoded.iou).unwrap();
    let index: Vec<i64> =
        golden.io[&format!("{name}.single_index")].flatten_all().unwrap().to_vec1().unwrap();
    let index: Vec<usize> = index.into_iter().map(|mask| usize::try_from(mask).unwrap()).collect();
    let ours: Vec<usize> = chosen.iter().map(|&(mask, _)| mask).collect();
    golden.comparison.equal(&format!("{name}.single_index"), &ours, &index);
    let stability: Vec<f32> = chosen.iter().map(|&(_, stability)| stability).collect();
    let stability = Tensor::new(stability, &Device::Cpu).unwrap();
    golden.check(&format!("{name}.single_stability"), &stability);
    let pick = |tensor: &Tensor| {
        let rows = chosen
            .iter()
            .enumerate()
            .map(|(row, &(mask, _))| tensor.i((row, mask..=mask)).unwrap());
        Tensor::stack(&rows.collect::<Vec<_>>(), 0).unwrap()
    };
    golden.check(&format!("{name}.single_mask"), &pick(masks));
    golden.check(&format!("{name}.single_iou"), &pick(&decoded.iou));
}

/// Returns the names of the cases in the file: those of prompts, and one without a prompt.
fn cases(golden: &Golden) -> BTreeSet<String> {
    let ends = ["coords", "mask_input", "masks4", "iou4"];
    let names = golden.io.keys().filter_map(|name| {
        let (case, end) = name.split_once('.')?;
        ends.contains(&end).then(|| case.to_owned())
    });
    names.collect()
}

/// Compares the network in a place with one golden folder.
pub(crate) fn compare(folder: &Path, part: &'static str, place: &Place) {
    let mut golden = Golden::open(folder, part, place);
    let model = load(&weights(folder), place.dtype, &place.device);
    let size = model.config().image_size;
    let input = golden.image(folder, size);
    let path = image_of(folder, "image.png").filter(|_| golden.has("image"));
    if let Some(path) = path {
        let picture = picture(&path);
        let image = preprocess(picture.pixels(), size).unwrap().unsqueeze(0).unwrap();
        golden.comparison.close("image", &image, &input, resize_tolerance(&picture, size));
    } else {
        golden.comparison.absent("image");
    }
    check_encoder(&mut golden, &model, &input);
    let encoded = model.encode(&input).unwrap();
    let cases = cases(&golden);
    assert!(!cases.is_empty(), "{}: there are cases", folder.display());
    for case in cases {
        check_prompts(&mut golden, &model, &encoded, &case);
    }
    golden.comparison.require_one(&["masks4", "iou4"]);
    if !place.is_half() {
        golden.comparison.leave_none(&golden.io, is_not_compared);
    }
    golden.comparison.finish(if place.is_half() { 65 } else { 89 });
}

/// Returns true for an input, or a tensor of the video or of a level that a single image does not
/// need.
fn is_not_compared(name: &str) -> bool {
    let ends = ["coords", "labels", "mask_input", "obj_score"];
    ends.contains(&name.rsplit('.').next().unwrap()) || name == "neck.level3"
}

fn load(path: &Path, dtype: DType, device: &Device) -> Sam2 {
    Sam2Checkpoint::open(path).unwrap().load(dtype, device).unwrap()
}

/// Returns every golden folder of the network.
pub(crate) fn all_folders() -> Vec<PathBuf> {
    folders(Suite::Sam2, &["sam2"])
}

#[test]
fn every_stage_of_the_network_follows_the_reference() {
    for folder in all_folders() {
        compare(&folder, "network", &Place::cpu());
    }
}

/// Half formats run the plain operations, as a GPU does. Norms, softmax, positions and heads stay
/// in single precision. The reference has no tolerance for them. These are about forty units in the
/// last place (2⁻⁸ and 2⁻¹¹) of each tensor's largest value.
#[test]
fn half_formats_follow_the_reference_within_their_precision() {
    for folder in all_folders() {
        for (part, dtype, share) in [("bf16", DType::BF16, 0.16), ("f16", DType::F16, 0.02)] {
            compare(&folder, part, &Place::cpu_in(dtype, share));
        }
    }
}

/// Returns the case with the most prompts, of those with points and without a mask.
fn largest_case(golden: &Golden) -> Option<String> {
    let mut cases = cases(golden);
    cases.retain(|name| {
        golden.has(&format!("{name}.coords")) && !golden.has(&format!("{name}.mask_input"))
    });
    let prompts = |name: &String| golden.io[&format!("{name}.coords")].dim(0).unwrap();
    cases.into_iter().max_by_key(prompts)
}

/// Returns all outputs of a network for the largest case, concatenated.
fn outputs(model: &Sam2, golden: &Golden, (image, case): (&Tensor, &str)) -> Vec<f32> {
    let encoded = model.encode(image).unwrap();
    let case = Case::read(golden, case);
    let image_of = vec![0; case.coords.dim(0).unwrap()];
    let prompts =
        Prompts { image_of: &image_of, points: &case.coords, labels: &case.labels, masks: None };
    let decoded = model.decode(&encoded, &prompts, |_| {}).unwrap();
    let masks = model.mask_decoder().masks(&decoded, &encoded.fine, &image_of, 0..MASKS).unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    [flat(&decoded.iou), flat(&masks)].concat()
}

#[test]
fn all_files_of_a_checkpoint_give_equal_bits() {
    for folder in all_folders() {
        let golden = Golden::open(&folder, "network", &Place::cpu());
        let first = load(&weights(&folder), DType::F32, &Device::Cpu);
        let image = golden.image(&folder, first.config().image_size);
        let Some(case) = largest_case(&golden) else {
            assert!(golden.comparison.is_foreign(), "a case with points");
            continue;
        };
        let expected = outputs(&first, &golden, (&image, &case));
        for name in WEIGHTS {
            // The name of a Hub's file, which the repository has under another one.
            if name != "model.safetensors" && has_file(&folder, "files of weights", name) {
                let model = load(&folder.join(name), DType::F32, &Device::Cpu);
                let ours = outputs(&model, &golden, (&image, &case));
                assert!(ours == expected, "{name} gives other bits");
            }
        }
    }
}

#[test]
fn images_of_a_batch_are_encoded_as_each_alone() {
    for folder in all_folders() {
        let golden = Golden::open(&folder, "network", &Place::cpu());
        let model = load(&weights(&folder), DType::F32, &Device::Cpu);
        let image = golden.image(&folder, model.config().image_size);
        let other = (&image * -0.5).unwrap();
        let batch = model.encode(&Tensor::cat(&[&image, &other], 0).unwrap()).unwrap();
        let mut comparison = Comparison::new(&folder, "batched encoder");
        for (index, image) in [&image, &other].into_iter().enumerate() {
            let alone = model.encode(image).unwrap();
            for (name, together, alone) in [
                ("tokens", &batch.tokens, &alone.tokens),
                ("children", &batch.fine.children, &alone.fine.children),
                ("grandchildren", &batch.fine.grandchildren, &alone.fine.grandchildren),
            ] {
                let together = together.narrow(0, index, 1).unwrap();
                comparison.close(&format!("{name} {index}"), &together, alone, 1e-4);
            }
        }
        comparison.finish(6);
    }
}

#[test]
fn size_and_version_of_a_checkpoint_are_detected_from_its_tensors() {
    for folder in all_folders() {
        let checkpoint = Sam2Checkpoint::open(&weights(&folder)).unwrap();
        if has_file(&folder, "size of the network", "config.json") {
            let config = json(&folder.join("config.json"));
            let embed = &config["vision_config"]["backbone_config"]["hidden_size"];
            let embed = embed.as_u64().unwrap();
            assert_eq!(checkpoint.config().trunk.embed_dim as u64, embed);
        }
        let newer = ["occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"];
        let is_newer = newer.iter().any(|name| checkpoint.weights().shapes().contains_key(*name));
        assert_eq!(checkpoint.version().name(), if is_newer { "2.1" } else { "2" });
    }
}
