//! CLIP-IQA against tensors of an independent implementation, for every golden folder. A folder may
//! lack tensors: those that are there are compared and counted.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::ClipCheckpoint;
use dog_iqa::models::clip_iqa::{
    ATTRIBUTES, Clip, ModifiedResNet, Pairs, QualityHead, VisionTransformer, normalise, score,
    spread,
};
use image::RgbImage;
use image::imageops::crop_imm;

use crate::golden_folders::{Suite, announce, folders, shown};
use crate::goldens::{Comparison, Place, image_of, json, largest, picture, tensors};

/// Tolerance of features and maps, as a share of a tensor's largest value.
const SHARE: f64 = 1e-4;
/// Tolerance of probabilities, scores and levels.
const PROBABILITY: f64 = 1e-5;

/// Returns an image of a folder, which may lack it.
fn image(folder: &Path, name: &str) -> Option<RgbImage> {
    let path = image_of(folder, &format!("{name}.png"))?;
    Some(picture(&path).pixels().as_ref().clone())
}

/// One golden folder, opened.
struct Golden {
    io: HashMap<String, Tensor>,
    clip: Clip,
    logit_scale: f64,
    comparison: Comparison,
    place: Place,
}

impl Golden {
    fn open(folder: &Path, part: &'static str, place: &Place) -> Self {
        let checkpoint = ClipCheckpoint::open(folder).unwrap();
        Self {
            io: tensors(&folder.join("io.safetensors")),
            clip: checkpoint.load(place.dtype, &place.device).unwrap(),
            logit_scale: checkpoint.logit_scale(),
            comparison: Comparison::at(place, folder, part),
            place: place.clone(),
        }
    }

    /// Compares features or a map that the folder may lack.
    fn check(&mut self, name: &str, ours: &Tensor) {
        let golden = self.io.get(name);
        let tolerance = self.place.share.unwrap_or(SHARE) * golden.map_or(0.0, largest);
        let ours = || ours.to_dtype(DType::F32).unwrap();
        self.comparison.close_if_present(name, ours, golden, tolerance);
    }

    /// Compares numbers that the folder may lack.
    fn check_numbers(&mut self, name: &str, ours: Vec<f64>, tolerance: f64) {
        let ours = || Tensor::new(ours, &Device::Cpu).unwrap();
        self.comparison.close_if_present(name, ours, self.io.get(name), tolerance);
    }

    fn check_shape(&mut self, name: &str, ours: [usize; 3]) {
        let Some(golden) = self.io.get(name) else { return self.comparison.absent(name) };
        let golden: Vec<i64> = golden.to_dtype(DType::I64).unwrap().to_vec1().unwrap();
        let ours = ours.map(|side| i64::try_from(side).unwrap()).to_vec();
        self.comparison.equal(name, &ours, &golden);
    }

    /// Returns the prompts without their padding.
    fn prompts(&self) -> Option<Vec<Vec<u32>>> {
        let (ids, lengths) = (self.io.get("token_ids")?, self.io.get("token_lengths")?);
        let (ids, lengths): (Vec<Vec<i64>>, Vec<i64>) =
            (ids.to_vec2().unwrap(), lengths.to_vec1().unwrap());
        let rows = ids.iter().zip(lengths).map(|(row, length)| {
            let row = row[..usize::try_from(length).unwrap()].iter();
            row.map(|id| u32::try_from(*id).unwrap()).collect()
        });
        Some(rows.collect())
    }

    /// Returns the names of the images, those of tensors of results or stages.
    fn images(&self) -> BTreeSet<String> {
        let names = self.io.keys().filter_map(|name| name.split_once('.'));
        names.map(|(image, _)| image.to_owned()).collect()
    }

    /// Runs the tower for an image, and compares its maps. Returns its feature.
    fn check_stages(&mut self, name: &str, rgb: &RgbImage) -> Tensor {
        match (self.clip.image.resnet().cloned(), self.clip.image.vit().cloned()) {
            (Some(resnet), _) => self.check_maps(name, rgb, &resnet),
            (None, Some(vit)) => self.check_tokens(name, rgb, &vit),
            (None, None) => panic!("{name}: no image tower"),
        }
    }

    fn check_maps(&mut self, name: &str, rgb: &RgbImage, resnet: &ModifiedResNet) -> Tensor {
        let mut maps = Vec::new();
        let pixels = normalise(rgb).unwrap().to_device(&self.place.device).unwrap();
        let feature = resnet.run(&pixels, |stage, map| {
            maps.push((stage, map.to_dtype(DType::F32)?));
            Ok(())
        });
        for (stage, map) in maps {
            let stage = if stage == 0 { "stem".to_owned() } else { format!("layer{stage}") };
            let planes = map.squeeze(0).unwrap().permute((2, 0, 1)).unwrap();
            let planes = planes.contiguous().unwrap();
            let shape = planes.dims3().unwrap();
            self.check_shape(&format!("{name}.{stage}.shape"), shape.into());
            self.check(&format!("{name}.{stage}.mean"), &planes.mean((1, 2)).unwrap());
            if stage == "layer4" {
                self.check(&format!("{name}.{stage}"), &planes);
            }
        }
        feature.unwrap()
    }

    fn check_tokens(&mut self, name: &str, rgb: &RgbImage, vit: &VisionTransformer) -> Tensor {
        let side = u32::try_from(vit.side()).unwrap();
        let pixels = normalise(&crop_imm(rgb, 0, 0, side, side).to_image()).unwrap();
        let planes = pixels.squeeze(0).unwrap().permute((2, 0, 1)).unwrap();
        self.check(&format!("{name}.pixels"), &planes.contiguous().unwrap());
        let mut stages = Vec::new();
        let feature = vit.run(&pixels.to_device(&self.place.device).unwrap(), |tokens| {
            stages.push(tokens.squeeze(0)?.to_dtype(DType::F32)?);
            Ok(())
        });
        for (index, tokens) in stages.iter().enumerate() {
            let stage = index.checked_sub(1).map(|layer| format!("layer{layer}"));
            let stage = stage.unwrap_or_else(|| "embeddings".to_owned());
            self.check(&format!("{name}.{stage}"), tokens);
        }
        feature.unwrap()
    }
}

/// Returns every golden folder of a CLIP.
pub(crate) fn all_folders() -> Vec<PathBuf> {
    folders(Suite::Clip, &["clip_iqa/resnet", "clip_iqa/vit"])
}

fn compare(place: &Place, part: &'static str) {
    for folder in all_folders() {
        compare_folder(&folder, place, part);
    }
}

/// Compares the network in a place with one golden folder.
pub(crate) fn compare_folder(folder: &Path, place: &Place, part: &'static str) {
    let mut golden = Golden::open(folder, part, place);
    let is_resnet = golden.clip.image.resnet().is_some();
    let mut head = None;
    if let Some(prompts) = golden.prompts() {
        let features = golden.clip.text.features(&prompts).unwrap();
        golden.check("text_features", &features);
        let rows = golden.clip.text.rows(&prompts).unwrap();
        head = Some(QualityHead::new(&rows, golden.logit_scale));
    }
    for name in golden.images() {
        let Some(rgb) = image(folder, &name) else {
            golden.comparison.absent(&format!("{name}.png"));
            continue;
        };
        let feature = golden.check_stages(&name, &rgb).squeeze(0).unwrap();
        golden.check(&format!("{name}.image_features"), &feature);
        let (Some(head), false) = (&head, place.is_half()) else { continue };
        let feature: Vec<f32> = feature.to_vec1().unwrap();
        let logits: Vec<f64> = head.logits(&feature).concat();
        let probabilities = head.probabilities(&feature);
        // Logits are up to the scale.
        let tolerance = golden.logit_scale.exp() * SHARE;
        golden.check_numbers(&format!("{name}.logits"), logits, tolerance);
        for (part, numbers) in [
            ("score", vec![score(&probabilities)]),
            ("levels5", spread(&probabilities, 5).unwrap().probabilities().to_vec()),
            ("levels7", spread(&probabilities, 7).unwrap().probabilities().to_vec()),
            ("probabilities", probabilities),
        ] {
            golden.check_numbers(&format!("{name}.{part}"), numbers, PROBABILITY);
        }
    }
    let of_image = if is_resnet { 12 } else { 5 };
    let of_ratings = if place.is_half() { 0 } else { 5 };
    if !place.is_half() {
        golden.comparison.require_one(&["logits", "image_features", "score"]);
        golden.comparison.leave_none(&golden.io, |name| name.starts_with("token_"));
    }
    golden.comparison.finish(1 + 3 * (of_image + of_ratings));
}

#[test]
fn every_tensor_equals_the_reference() {
    compare(&Place::cpu(), "clip");
}

#[test]
fn half_formats_are_near_the_reference() {
    compare(&Place::cpu_in(DType::BF16, 0.02), "clip in bf16");
    compare(&Place::cpu_in(DType::F16, 0.003), "clip in f16");
}

#[test]
fn every_prompt_has_the_tokens_of_the_tokenizer() {
    for folder in folders(Suite::ClipPrompts, &["clip_iqa"]) {
        let golden = json(&folder.join("prompts.json"));
        let mut comparison = Comparison::new(&folder, "prompts");
        let pairs = [Pairs::Paper, Pairs::IqaPytorch].map(Pairs::prompts).concat();
        let attributes = ATTRIBUTES.map(|(_, pair)| pair);
        for prompt in pairs.into_iter().chain(attributes).flatten() {
            let Some(ids) = golden.get(prompt.text) else {
                comparison.absent(prompt.text);
                continue;
            };
            let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
            comparison.equal(prompt.text, &prompt.tokens(), &ids);
        }
        let others = golden.as_object().unwrap().keys().filter(|text| !comparison.has(text));
        let others: Vec<&String> = others.collect();
        if !others.is_empty() {
            let folder = shown(&folder);
            announce(&format!("golden {folder}: no prompts of ours: {others:?}\n"));
        }
        comparison.finish(20);
    }
}
