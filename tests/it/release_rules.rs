//! The rules of the authors' program, without its networks: reading, regions, crops, prompts,
//! answers and formulas, against complete runs of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dog_iqa::config::{Settings, load};
use dog_iqa::imaging::{Crop, CropMargin, CropMode, Picture, crop_region, decode};
use dog_iqa::method::{
    AggregationSettings, AnswerKind, GeneratedAnswer, LevelDistribution, Mask, ObjectAssessment,
    RawMask, RegionKind, RegionSettings, Rle, Segmentation, Standard, StandardForm,
    StandardSettings, StandardWording, assess, select_regions,
};
use dog_iqa::models::mplug_owl3::{
    Generation, Grid, IMAGE, Message, Prompt, RatedPart, RatingSettings, Tokenizer, Turns,
    answer_text, rating_messages,
};
use image::{Rgb, RgbImage};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::golden_folders::{Suite, folders, has_file};
use crate::goldens::{Comparison, json};
use crate::qwen2::tokenizer_json;

/// Tolerance of a score from the stored levels and areas, which are whole numbers.
const SCORE_TOLERANCE: f64 = 1e-9;

/// Returns every folder with runs of the authors' program that has these files and folders. For
/// another one, prints the first file that it lacks.
pub(crate) fn release_folders(part: &str, files: &[&str]) -> Vec<PathBuf> {
    let mut all = folders(Suite::Release, &["dogiqa_release"]);
    all.retain(|folder| files.iter().all(|file| has_file(folder, part, file)));
    all
}

/// Returns the settings of a preset.
pub(crate) fn preset(name: &str) -> &'static Settings {
    static PRESETS: OnceLock<BTreeMap<&str, Settings>> = OnceLock::new();
    let presets = PRESETS.get_or_init(|| {
        let settings =
            |name: &str| load(None, &[format!("method.preset={name}")]).unwrap().settings;
        ["paper", "release", "release-tables"].map(|name| (name, settings(name))).into()
    });
    &presets[name]
}

/// Reads a picture as the preset `release` does.
pub(crate) fn read_as_stored(path: &Path) -> Picture {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    decode(&bytes, &preset("release").imaging).unwrap()
}

/// Selection of regions by the preset `release`, with this minimum area.
pub(crate) fn regions_as_released(area_min_px: u64) -> RegionSettings {
    RegionSettings { area_min_px, ..preset("release").method.regions.clone() }
}

/// The three formulas by their names in the goldens.
pub(crate) fn formulas() -> [(&'static str, &'static AggregationSettings); 3] {
    [("paper", "paper"), ("release", "release"), ("tables", "release-tables")]
        .map(|(formula, name)| (formula, &preset(name).method.aggregation))
}

pub(crate) fn sha256_of(pixels: &RgbImage) -> String {
    hex::encode(Sha256::digest(pixels.as_raw()))
}

#[test]
fn files_are_read_as_by_the_authors_program() {
    for folder in release_folders("reading", &["reading.json", "reading"]) {
        let mut comparison = Comparison::new(&folder, "reading");
        for (name, expected) in json(&folder.join("reading.json")).as_object().unwrap() {
            let picture = read_as_stored(&folder.join("reading").join(name));
            let size = (u64::from(picture.width()), u64::from(picture.height()));
            let golden = ["width", "height"].map(|side| expected[side].as_u64().unwrap());
            comparison.equal(&format!("size of {name}"), &size, &golden.into());
            let digest = expected["rgb_sha256"].as_str().unwrap();
            comparison.equal(name, &sha256_of(picture.pixels()), &digest.to_owned());
        }
        comparison.finish(20);
    }
}

/// A region of a run, or of a corner case.
#[derive(Debug, Deserialize)]
pub(crate) struct GoldenRegion {
    pub(crate) kind: Option<String>,
    pub(crate) area: u64,
    #[serde(rename = "box")]
    pub(crate) bbox: Option<[u32; 4]>,
    pixels: Option<u64>,
    crop_sha256: Option<String>,
    segmentation: Option<Rle>,
    crop_box: Option<GoldenCrop>,
    crop_mask: Option<GoldenCrop>,
}

#[derive(Debug, Deserialize)]
struct GoldenCrop {
    size: [u32; 2],
    sha256: String,
}

/// The regions of a picture with one minimum area.
#[derive(Debug, Deserialize)]
pub(crate) struct GoldenRegions {
    pub(crate) regions: Vec<GoldenRegion>,
}

/// A made-up list of masks with the regions that the program finds in it.
#[derive(Debug, Deserialize)]
struct MaskCase {
    name: String,
    width: u32,
    height: u32,
    min_area: u64,
    masks: Vec<Value>,
    regions: Vec<GoldenRegion>,
    area_sum: u64,
}

impl MaskCase {
    fn segmentation(&self) -> Segmentation {
        let masks = self.masks.iter().map(|mask| {
            let rle = mask.get("segmentation").unwrap_or(mask);
            raw_mask(serde_json::from_value(rle.clone()).unwrap())
        });
        let settings = regions_as_released(self.min_area);
        select_regions(self.width, self.height, masks.collect(), &settings).unwrap()
    }
}

fn raw_mask(rle: Rle) -> RawMask {
    RawMask { mask: Mask::new(rle).unwrap(), predicted_iou: None, stability_score: None }
}

/// Returns the name of a kind in the goldens.
fn kind_name(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Object => "mask",
        RegionKind::Remainder => "remainder",
        RegionKind::Frame => "frame",
    }
}

/// Compares a list of regions with that of the program.
pub(crate) fn check_regions(
    comparison: &mut Comparison,
    name: &str,
    picture: &Picture,
    ours: &Segmentation,
    golden: &[GoldenRegion],
) {
    comparison.equal(&format!("{name}: number of regions"), &ours.regions.len(), &golden.len());
    for (index, (ours, golden)) in ours.regions.iter().zip(golden).enumerate() {
        let name = format!("{name}, region {index}");
        let crop = |mode| crop_region(picture, index, ours, (mode, CropMargin::default()));
        comparison.equal(&format!("{name}: weight"), &ours.weight_px, &golden.area);
        if let Some(kind) = &golden.kind {
            comparison.equal(&format!("{name}: kind"), &kind_name(ours.kind), &kind.as_str());
        }
        if let Some(bbox) = golden.bbox {
            comparison.equal(&format!("{name}: box"), &ours.mask.bbox().into(), &bbox);
        }
        if let Some(pixels) = golden.pixels {
            comparison.equal(&format!("{name}: pixels"), &ours.mask.area_px(), &pixels);
        }
        if let Some(segmentation) = &golden.segmentation {
            comparison.equal(&format!("{name}: mask"), ours.mask.rle(), segmentation);
        }
        if let Some(digest) = &golden.crop_sha256 {
            let ours = sha256_of(&crop(CropMode::BoundingBox).pixels);
            comparison.equal(&format!("{name}: crop"), &ours, digest);
        }
        for (mode, golden) in
            [(CropMode::BoundingBox, &golden.crop_box), (CropMode::Mask, &golden.crop_mask)]
        {
            let Some(golden) = golden else { continue };
            let Crop { pixels, .. } = crop(mode);
            let name = format!("{name}: {mode:?}");
            comparison.equal(&name, &pixels.dimensions(), &golden.size.into());
            comparison.equal(&name, &sha256_of(&pixels), &golden.sha256);
        }
    }
}

/// The picture of the corner cases.
fn made_up_picture(width: u32, height: u32) -> Picture {
    let sample = |value: u32| u8::try_from(value % 256).unwrap();
    Picture::from_rgb(RgbImage::from_fn(width, height, |x, y| {
        Rgb([sample(7 * x + 3 * y), sample(5 * x), sample(11 * y)])
    }))
}

#[test]
fn every_corner_case_of_the_region_list_is_that_of_the_authors_program() {
    for folder in release_folders("corner cases of regions", &["mask_cases.json"]) {
        let mut comparison = Comparison::new(&folder, "corner cases of regions");
        let cases: Vec<MaskCase> =
            serde_json::from_value(json(&folder.join("mask_cases.json"))).unwrap();
        for case in &cases {
            let ours = case.segmentation();
            let picture = made_up_picture(case.width, case.height);
            check_regions(&mut comparison, &case.name, &picture, &ours, &case.regions);
            let sum: u64 = ours.regions.iter().map(|region| region.weight_px).sum();
            comparison.equal(&format!("{}: sum of areas", case.name), &sum, &case.area_sum);
        }
        comparison.finish(250);
    }
}

/// Masks of a run, in order.
pub(crate) fn golden_masks(masks: &Value, image: &str, variant: &str) -> Vec<RawMask> {
    let with = if variant.ends_with("/no-extension") { "without" } else { "with" };
    let masks = masks["images"][image][format!("{with}_extension")].as_array().unwrap();
    let rles = masks.iter().map(|mask| serde_json::from_value(mask["segmentation"].clone()));
    rles.map(|rle| raw_mask(rle.unwrap())).collect()
}

/// Returns the minimum area of a variant such as `t1000/no-extension`.
pub(crate) fn area_min_px(variant: &str) -> u64 {
    variant.split('/').next().unwrap().trim_start_matches('t').parse().unwrap()
}

/// Regions by picture and variant.
pub(crate) type AllRegions = BTreeMap<String, BTreeMap<String, GoldenRegions>>;

pub(crate) fn golden_regions(folder: &Path) -> AllRegions {
    serde_json::from_value(json(&folder.join("regions.json"))).unwrap()
}

#[test]
fn the_regions_of_the_programs_masks_are_its_regions() {
    for folder in release_folders("regions", &["regions.json", "masks.json", "images"]) {
        let mut comparison = Comparison::new(&folder, "regions");
        let masks = json(&folder.join("masks.json"));
        for (image, variants) in &golden_regions(&folder) {
            let picture = read_as_stored(&folder.join("images").join(image));
            for (variant, golden) in variants {
                let masks = golden_masks(&masks, image, variant);
                let settings = regions_as_released(area_min_px(variant));
                let (width, height) = (picture.width(), picture.height());
                let ours = select_regions(width, height, masks, &settings).unwrap();
                let name = format!("{image} {variant}");
                check_regions(&mut comparison, &name, &picture, &ours, &golden.regions);
            }
        }
        comparison.finish(400);
    }
}

/// Returns the standard of a name in the goldens, such as `word-5` or `number_decimal`.
pub(crate) fn standard_named(name: &str) -> Standard {
    let (form, levels) = match name {
        "word-default" => (StandardForm::Word, 7),
        "number" => (StandardForm::Number, 7),
        "number_decimal" => (StandardForm::NumberDecimal, 7),
        "word_only" => (StandardForm::WordOnly, 7),
        word => (StandardForm::Word, word.strip_prefix("word-").unwrap().parse().unwrap()),
    };
    let wording = StandardWording::Release;
    Standard::from_settings(&StandardSettings { levels, form, wording, own: None }).unwrap()
}

/// Returns the messages of the program's question, with the text of the views.
pub(crate) fn messages(standard: &Standard, part: RatedPart, grid: Grid) -> Vec<Message> {
    let settings = RatingSettings { turns: Turns::UserOnly, ..RatingSettings::default() };
    let views = grid.text(Generation::V240728);
    rating_messages(standard, &settings, part)
        .into_iter()
        .map(|message| Message::new(message.role, message.text.replace(IMAGE, &views)))
        .collect()
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(Path::new("tokenizer.json"), &tokenizer_json()).unwrap()
}

/// Parses `2x3`: rows, then columns.
fn grid_named(name: &str) -> Grid {
    let (rows, columns) = name.split_once('x').unwrap();
    Grid { rows: rows.parse().unwrap(), columns: columns.parse().unwrap() }
}

pub(crate) fn part_named(name: &str) -> RatedPart {
    if name == "whole" { RatedPart::Whole } else { RatedPart::Region }
}

#[test]
fn every_prompt_is_that_of_the_authors_program_byte_by_byte() {
    let tokenizer = tokenizer();
    let settings = RatingSettings { turns: Turns::UserOnly, ..RatingSettings::default() };
    for folder in release_folders("prompts", &["prompts.json"]) {
        let mut comparison = Comparison::new(&folder, "prompts");
        let prompts = json(&folder.join("prompts.json"));
        for (name, golden) in prompts["standards"].as_object().unwrap() {
            let standard = standard_named(name);
            for (part, turn) in
                [(RatedPart::Whole, "user_turn_whole"), (RatedPart::Region, "user_turn_region")]
            {
                let ours = rating_messages(&standard, &settings, part);
                let user = golden[turn].as_str().unwrap().to_owned();
                comparison.equal(&format!("{name} {turn}"), &ours[0].text, &user);
            }
        }
        for (name, golden) in prompts["ids"].as_object().unwrap() {
            let parts: Vec<&str> = name.split('/').collect();
            let standard = standard_named(parts[0]);
            let ours = messages(&standard, part_named(parts[1]), grid_named(parts[2]));
            let turn = golden["user_turn_cut"].as_str().unwrap().to_owned();
            comparison.equal(&format!("{name}: text"), &ours[0].text, &turn);
            let Prompt { ids, image_starts } = Prompt::new(&ours, &tokenizer).unwrap();
            let golden_ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).unwrap();
            comparison.equal(&format!("{name}: ids"), &ids, &golden_ids);
            let starts: Vec<usize> =
                serde_json::from_value(golden["image_starts"].clone()).unwrap();
            comparison.equal(&format!("{name}: starts of views"), &image_starts, &starts);
        }
        comparison.finish(16 + 3 * 112);
    }
}

/// Returns the answer that one token is.
pub(crate) fn answer_of(tokenizer: &Tokenizer, token: u32) -> GeneratedAnswer {
    GeneratedAnswer::new(answer_text(tokenizer, token).unwrap())
}

#[test]
fn every_token_of_the_vocabulary_is_the_level_that_the_authors_program_reads() {
    let tokenizer = tokenizer();
    for folder in release_folders("answers", &["answers.json"]) {
        let mut comparison = Comparison::new(&folder, "answers");
        let answers = json(&folder.join("answers.json"));
        let levels: BTreeMap<String, u8> =
            serde_json::from_value(answers["level_of_token"].clone()).unwrap();
        let stops: Vec<u32> = serde_json::from_value(answers["stops_the_program"].clone()).unwrap();
        let count = u32::try_from(answers["vocab_size"].as_u64().unwrap()).unwrap();
        for token in 0..count {
            let answer = answer_of(&tokenizer, token);
            let kind = match levels.get(&token.to_string()) {
                Some(_) => AnswerKind::Number,
                None if stops.binary_search(&token).is_ok() => AnswerKind::Empty,
                None => AnswerKind::NotANumber,
            };
            let level = levels.get(&token.to_string()).copied().unwrap_or(1);
            comparison.equal(
                &format!("token {token}"),
                &(answer.kind(), answer.level()),
                &(kind, level),
            );
        }
        comparison.finish(151_851);
    }
}

/// A picture of a run of the program.
#[derive(Debug, Deserialize)]
pub(crate) struct GoldenScores {
    pub(crate) whole: usize,
    pub(crate) regions: Vec<usize>,
    pub(crate) levels: Vec<u8>,
    pub(crate) areas: Vec<u64>,
    pub(crate) global_level: u8,
    pub(crate) local: f64,
    pub(crate) n: usize,
    pub(crate) scores: BTreeMap<String, f64>,
}

/// A run of the program over all pictures.
#[derive(Debug, Deserialize)]
pub(crate) struct GoldenRun {
    pub(crate) k: u8,
    /// False if crops are black outside the mask.
    pub(crate) bbox: bool,
    pub(crate) regions: String,
    pub(crate) images: BTreeMap<String, GoldenScores>,
}

pub(crate) fn golden_runs(folder: &Path) -> BTreeMap<String, GoldenRun> {
    serde_json::from_value(json(&folder.join("runs.json"))).unwrap()
}

/// A rating of this level, which may be none of the `k` levels.
fn rating(k: u8, level: u8) -> LevelDistribution {
    let uniform = vec![1.0 / f64::from(k); usize::from(k)];
    let answer = GeneratedAnswer::new(level.to_string());
    LevelDistribution::new(uniform).unwrap().with_answer(answer)
}

#[test]
fn the_three_formulas_give_the_programs_scores() {
    for folder in
        release_folders("formulas", &["runs.json", "regions.json", "masks.json", "images"])
    {
        let mut comparison = Comparison::new(&folder, "formulas");
        let masks = json(&folder.join("masks.json"));
        for (run, GoldenRun { k, regions: variant, images, .. }) in golden_runs(&folder) {
            for (image, golden) in images {
                let name = format!("{run} {image}");
                let picture = read_as_stored(&folder.join("images").join(&image));
                let masks = golden_masks(&masks, &image, &variant);
                let settings = regions_as_released(area_min_px(&variant));
                let (width, height) = (picture.width(), picture.height());
                let found = select_regions(width, height, masks, &settings).unwrap();
                comparison.equal(&format!("{name}: regions"), &found.regions.len(), &golden.n);
                let weights: Vec<u64> =
                    found.regions.iter().map(|region| region.weight_px).collect();
                comparison.equal(&format!("{name}: areas"), &weights, &golden.areas);
                let rated = found.regions.into_iter().zip(&golden.levels);
                let objects: Vec<_> = rated
                    .map(|(region, &level)| ObjectAssessment { region, rating: rating(k, level) })
                    .collect();
                for (formula, settings) in formulas() {
                    let ours = assess(rating(k, golden.global_level), objects.clone(), settings);
                    let name = format!("{name}: {formula}");
                    let local = (ours.local.unwrap() - golden.local).abs();
                    comparison.close_by(&name, local, SCORE_TOLERANCE);
                    let score = (ours.score - golden.scores[formula]).abs();
                    comparison.close_by(&name, score, SCORE_TOLERANCE);
                }
            }
        }
        comparison.finish(500);
    }
}
