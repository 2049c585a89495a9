//! Complete runs of the authors' program on small random networks: masks, views, logits, answers
//! and scores, and the same pictures through the command line and the embedded broker.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::MplugOwl3Checkpoint;
use dog_iqa::config::{self, load};
use dog_iqa::engine::{Engine, MplugOwl3Scorer, Sam2Segmenter, Scorer};
use dog_iqa::imaging::{Crop, CropMargin, CropMode, Picture, crop_region, crop_whole};
use dog_iqa::method::{
    LevelDistribution, ObjectAssessment, RawMask, Rle, Segmentation, Standard, assess,
    select_regions,
};
use dog_iqa::models::mplug_owl3::{Grid, MplugOwl3, Prefix, Prompt, Tokenizer, stack, views};
use dog_iqa::models::sam2::amg::{AmgSettings, GeneratedMask};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::cli::{command, text};
use crate::goldens::{Comparison, json};
use crate::qwen2::tokenizer_json;
use crate::release_rules::{
    GoldenRegion, GoldenRun, GoldenScores, answer_of, area_min_px, formulas, golden_masks,
    golden_regions, golden_runs, messages, part_named, preset, read_as_stored, regions_as_released,
    release_folders, standard_named,
};
use crate::stream::{Scene, reference};

/// Pixels that may differ between two masks, because their logits are at the threshold.
const PIXELS_MAX: u64 = 3;
const IOU_TOLERANCE: f64 = 2e-5;
const STABILITY_TOLERANCE: f64 = 1e-3;
/// Share of the largest digit logit of a rating.
const LOGITS_TOLERANCE: f64 = 1e-4;
/// The same in f16. The program's own f16 differs from its f32 by up to 1.5 %, and ours rounds at
/// other places.
const LOGITS_TOLERANCE_F16: f64 = 0.05;
/// Tolerance of a score from the program's masks and our levels.
const SCORE_TOLERANCE: f64 = 1e-6;
/// Tolerance of a score from our masks, which may differ by some pixels.
const END_TO_END_TOLERANCE: f64 = 1e-3;
/// Tokens of the digits 0 to 9.
const DIGITS: std::ops::RangeInclusive<usize> = 15..=24;

/// Files and folders of complete runs.
const RUN_FILES: [&str; 5] = ["runs.json", "masks.json", "images", "sam2", "mplug_owl3"];

/// The networks of a golden folder.
struct Networks {
    segmenter: PathBuf,
    scorer: TempDir,
}

impl Networks {
    fn of(folder: &Path) -> Self {
        let is_weights = |path: &PathBuf| path.extension().is_some_and(|end| end == "pt");
        let mut files = fs::read_dir(folder.join("sam2")).unwrap().map(|file| file.unwrap().path());
        let scorer = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(folder.join("mplug_owl3").join(file), scorer.path().join(file)).unwrap();
        }
        fs::write(scorer.path().join("tokenizer.json"), tokenizer_json()).unwrap();
        Self { segmenter: files.find(is_weights).expect("a .pt file"), scorer }
    }

    fn segmenter(&self, settings: AmgSettings) -> Sam2Segmenter {
        Sam2Segmenter::open(&self.segmenter, settings, DType::F32, &Device::Cpu).unwrap()
    }

    fn scorer(&self, standard: &Standard, dtype: DType) -> MplugOwl3Scorer {
        let settings = preset("release").engine.dog_iqa.rating.clone();
        MplugOwl3Scorer::open(self.scorer.path(), standard, settings, dtype, &Device::Cpu).unwrap()
    }

    /// Returns the settings of a run, as `key=value`.
    fn settings(&self, run: &str, golden: &GoldenRun, preset: &str) -> Vec<String> {
        let (standard, variant) = run.split_once('/').unwrap();
        let standard = standard.trim_end_matches("-masked");
        let mut settings = vec![
            format!("method.preset={preset}"),
            format!("engine.dog_iqa.segmenter={}", self.segmenter.display()),
            format!("engine.dog_iqa.scorer={}", self.scorer.path().display()),
            "engine.dog_iqa.dtype=f32".to_owned(),
            format!("method.regions.area_min_px={}", area_min_px(variant)),
            format!("method.standard.levels={}", golden.k),
        ];
        let with = |condition: bool, setting: &str| condition.then(|| setting.to_owned());
        settings.extend(with(standard == "number", "method.standard.form=number"));
        settings.extend(with(!golden.bbox, "pipeline.crop=mask"));
        let is_without = variant.ends_with("/no-extension");
        settings.extend(with(is_without, "engine.dog_iqa.masks.min_mask_region_area=0"));
        settings
    }
}

fn as_released(has_extension: bool) -> AmgSettings {
    let settings = preset("release").engine.dog_iqa.masks.clone();
    if has_extension { settings } else { AmgSettings { min_mask_region_area: 0, ..settings } }
}

/// Returns the number of pixels that are in one of two masks only.
fn difference(one: &Rle, other: &Rle) -> u64 {
    let union = Rle::union(one.width(), one.height(), [one, other]).unwrap();
    2 * union.area() - one.area() - other.area()
}

#[test]
fn the_mask_generator_finds_the_programs_masks() {
    for folder in release_folders("masks", &["masks.json", "images", "sam2"]) {
        let mut comparison = Comparison::new(&folder, "masks");
        let networks = Networks::of(&folder);
        let goldens = json(&folder.join("masks.json"));
        for (variant, has_extension) in [("with_extension", true), ("without_extension", false)] {
            let segmenter = networks.segmenter(as_released(has_extension));
            for (image, golden) in goldens["images"].as_object().unwrap() {
                let picture = read_as_stored(&folder.join("images").join(image));
                let ours = segmenter.find(&picture).unwrap();
                let golden = golden[variant].as_array().unwrap();
                let name = format!("{image} {variant}");
                comparison.equal(&format!("{name}: masks"), &ours.len(), &golden.len());
                for (index, (ours, golden)) in ours.iter().zip(golden).enumerate() {
                    check_mask(&mut comparison, &format!("{name} {index}"), ours, golden);
                }
            }
        }
        comparison.finish(100);
    }
}

fn check_mask(comparison: &mut Comparison, name: &str, ours: &GeneratedMask, golden: &Value) {
    let rle: Rle = serde_json::from_value(golden["segmentation"].clone()).unwrap();
    let pixels = difference(&ours.rle, &rle);
    assert!(pixels <= PIXELS_MAX, "{name}: {pixels} pixels differ");
    let [left, top, right, bottom] = ours.corners.map(f64::from);
    let bbox: [f64; 4] = serde_json::from_value(golden["bbox"].clone()).unwrap();
    comparison.equal(&format!("{name}: box"), &[left, top, right - left, bottom - top], &bbox);
    for (part, value, tolerance) in [
        ("predicted_iou", ours.predicted_iou, IOU_TOLERANCE),
        ("stability_score", ours.stability_score, STABILITY_TOLERANCE),
    ] {
        let error = (f64::from(value) - golden[part].as_f64().unwrap()).abs();
        comparison.close_by(&format!("{name}: {part}"), error, tolerance);
    }
}

/// A picture that was shown to the scorer, and its answer.
#[derive(Debug, Deserialize)]
struct GoldenRating {
    image: String,
    kind: String,
    #[serde(rename = "box")]
    bbox: [u32; 4],
    prompt: String,
    grid: [u32; 2],
    views_sha256: String,
    digits: Vec<f64>,
    generated_id: u32,
    text: String,
    level: u8,
}

/// The pictures of a golden folder with the regions of the program's masks.
struct Pictures {
    pictures: BTreeMap<String, Picture>,
    masks: Value,
}

impl Pictures {
    fn of(folder: &Path) -> Self {
        let masks = json(&folder.join("masks.json"));
        let names = masks["images"].as_object().unwrap().keys();
        let read =
            |name: &String| (name.clone(), read_as_stored(&folder.join("images").join(name)));
        Self { pictures: names.map(read).collect(), masks }
    }

    fn regions(&self, image: &str, variant: &str) -> Segmentation {
        let picture = &self.pictures[image];
        let masks: Vec<RawMask> = golden_masks(&self.masks, image, variant);
        let settings = regions_as_released(area_min_px(variant));
        select_regions(picture.width(), picture.height(), masks, &settings).unwrap()
    }
}

/// Returns the crop of each rating that a run mentions.
fn crops(pictures: &Pictures, runs: &BTreeMap<String, GoldenRun>) -> BTreeMap<usize, Crop> {
    let mut crops = BTreeMap::new();
    for run in runs.values() {
        let mode = if run.bbox { CropMode::BoundingBox } else { CropMode::Mask };
        for (image, golden) in &run.images {
            let picture = &pictures.pictures[image];
            crops.insert(golden.whole, crop_whole(picture));
            let regions = pictures.regions(image, &run.regions).regions;
            for (index, (region, &rating)) in regions.iter().zip(&golden.regions).enumerate() {
                crops.insert(
                    rating,
                    crop_region(picture, index, region, (mode, CropMargin::default())),
                );
            }
        }
    }
    crops
}

#[test]
fn every_rating_is_the_programs_from_its_views_to_its_level() {
    for folder in release_folders("ratings", &[&["ratings.json"], &RUN_FILES[..]].concat()) {
        let networks = Networks::of(&folder);
        let pictures = Pictures::of(&folder);
        let runs = golden_runs(&folder);
        let crops = crops(&pictures, &runs);
        let goldens: Vec<GoldenRating> =
            serde_json::from_value(json(&folder.join("ratings.json"))).unwrap();
        let mut rater = Rater::open(&networks, &folder);
        let mut ratings = BTreeMap::new();
        for (index, golden) in goldens.iter().enumerate() {
            let Some(crop) = crops.get(&index) else {
                rater.comparison.absent(&format!("the run of rating {index}"));
                continue;
            };
            ratings.insert(index, rater.rate(index, crop, golden));
        }
        rater.comparison.finish(181 * 7);
        check_scores(&folder, &pictures, &runs, &ratings);
    }
}

/// Standard whose ratings the engine's scorer repeats.
const SCORER_STANDARD: &str = "word-7";

/// The scorer, opened as a network and as the engine's scorer.
struct Rater {
    model: MplugOwl3,
    tokenizer: Tokenizer,
    prefixes: BTreeMap<String, Prefix>,
    scorer: MplugOwl3Scorer,
    comparison: Comparison,
}

impl Rater {
    fn open(networks: &Networks, folder: &Path) -> Self {
        let checkpoint = MplugOwl3Checkpoint::open(networks.scorer.path()).unwrap();
        Self {
            model: checkpoint.load(DType::F32, &Device::Cpu).unwrap(),
            tokenizer: checkpoint.tokenizer().unwrap(),
            prefixes: BTreeMap::new(),
            scorer: networks.scorer(&standard_named(SCORER_STANDARD), DType::F32),
            comparison: Comparison::new(folder, "ratings"),
        }
    }

    /// Compares each part of a rating, and returns our rating.
    fn rate(&mut self, index: usize, crop: &Crop, golden: &GoldenRating) -> LevelDistribution {
        let name = format!("rating {index}, {} {:?}", golden.image, golden.bbox);
        let (width, height) = crop.pixels.dimensions();
        let size = &[golden.bbox[2], golden.bbox[3]];
        self.comparison.equal(&format!("{name}: size"), &[width, height], size);
        let grid = Grid::choose(width, height, 384);
        self.comparison.equal(&format!("{name}: grid"), &[grid.rows, grid.columns], &golden.grid);
        let views = stack(&views(&crop.pixels, 384, Some(grid))).unwrap();
        let samples: Vec<u8> = views.flatten_all().unwrap().to_vec1().unwrap();
        let digest = hex::encode(Sha256::digest(&samples));
        self.comparison.equal(&format!("{name}: views"), &digest, &golden.views_sha256);

        let standard_name = golden.prompt.split('/').next().unwrap();
        let standard = standard_named(standard_name);
        let logits = self.logits(&standard, grid, &views, golden);
        let digits: Vec<f64> = logits[DIGITS].iter().copied().map(f64::from).collect();
        let error = largest_difference(&digits, &golden.digits);
        self.comparison.close_by(&format!("{name}: digits"), error, LOGITS_TOLERANCE);
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let likeliest = logits.iter().position(|&logit| logit.total_cmp(&largest).is_eq()).unwrap();
        let token = u32::try_from(likeliest).unwrap();
        self.comparison.equal(&format!("{name}: token"), &token, &golden.generated_id);
        let answer = answer_of(&self.tokenizer, token);
        self.comparison.equal(&format!("{name}: text"), &answer.text(), &golden.text.as_str());
        let levels = &digits[1..=usize::from(standard.k())];
        let rating = LevelDistribution::from_logits(levels).unwrap().with_answer(answer);
        self.comparison.equal(&format!("{name}: level"), &rating.level(), &golden.level);
        if standard_name == SCORER_STANDARD {
            self.check_scorer(&name, crop, &logits, &rating);
        }
        rating
    }

    /// Returns the logits of the token after the prompt.
    fn logits(
        &mut self,
        standard: &Standard,
        grid: Grid,
        views: &Tensor,
        golden: &GoldenRating,
    ) -> Vec<f32> {
        let Self { model, tokenizer, .. } = self;
        let prefix = self.prefixes.entry(golden.prompt.clone()).or_insert_with(|| {
            let messages = messages(standard, part_named(&golden.kind), grid);
            Prefix::new(model, &Prompt::new(&messages, tokenizer).unwrap()).unwrap()
        });
        let embeds = model.encode(views).unwrap();
        let hidden = prefix.resume(model, &embeds).unwrap().1;
        model.decoder().logits(&hidden).unwrap().to_vec2::<f32>().unwrap().remove(0)
    }

    /// Compares the rating of the engine's scorer with that of the network.
    fn check_scorer(
        &mut self,
        name: &str,
        crop: &Crop,
        logits: &[f32],
        expected: &LevelDistribution,
    ) {
        let inputs = [self.scorer.prepare(crop).unwrap()];
        let rating = self.scorer.rate(&inputs).unwrap().remove(0);
        self.comparison.equal(&format!("{name}: answer"), &rating.answer(), &expected.answer());
        for (ours, expected) in rating.probabilities().iter().zip(expected.probabilities()) {
            let error = (ours - expected).abs();
            self.comparison.close_by(&format!("{name}: probability"), error, 1e-5);
        }
        // The probability on no level follows from all logits.
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let on_level: f64 = weights[16..=22].iter().sum();
        let off_level = 1.0 - on_level / weights.iter().sum::<f64>();
        let error = (rating.off_level().unwrap() - off_level).abs();
        self.comparison.close_by(&format!("{name}: off_level"), error, 1e-5);
    }
}

/// Returns the largest difference as a share of the largest golden value.
fn largest_difference(ours: &[f64], golden: &[f64]) -> f64 {
    assert_eq!(ours.len(), golden.len());
    let largest = golden.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let differences = ours.iter().zip(golden).map(|(ours, golden)| (ours - golden).abs());
    differences.fold(0.0, f64::max) / largest
}

/// Compares the scores of all runs by all formulas, from the program's masks and our ratings.
fn check_scores(
    folder: &Path,
    pictures: &Pictures,
    runs: &BTreeMap<String, GoldenRun>,
    ratings: &BTreeMap<usize, LevelDistribution>,
) {
    let mut comparison = Comparison::new(folder, "scores of our ratings");
    for (run, golden_run) in runs {
        for (image, golden) in &golden_run.images {
            let regions = pictures.regions(image, &golden_run.regions).regions;
            let rated = regions.into_iter().zip(&golden.regions);
            let objects: Vec<ObjectAssessment> = rated
                .map(|(region, index)| ObjectAssessment { region, rating: ratings[index].clone() })
                .collect();
            for (formula, settings) in formulas() {
                let ours = assess(ratings[&golden.whole].clone(), objects.clone(), settings);
                let error = (ours.score - golden.scores[formula]).abs();
                comparison.close_by(&format!("{run} {image} {formula}"), error, SCORE_TOLERANCE);
            }
        }
    }
    comparison.finish(200);
}

#[derive(Debug, Deserialize)]
struct HalfRating {
    generated_id: u32,
    digits: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct HalfScores {
    whole: HalfRating,
    regions: Vec<HalfRating>,
}

#[test]
fn a_scorer_in_f16_generates_the_programs_tokens() {
    for folder in release_folders("ratings in f16", &[&["f16.json"], &RUN_FILES[..]].concat()) {
        let mut comparison = Comparison::new(&folder, "ratings in f16");
        let networks = Networks::of(&folder);
        let pictures = Pictures::of(&folder);
        let scorer = networks.scorer(&standard_named("word-7"), DType::F16);
        let tokenizer = crate::release_rules::tokenizer();
        let runs: BTreeMap<String, BTreeMap<String, HalfScores>> =
            serde_json::from_value(json(&folder.join("f16.json"))["runs"].clone()).unwrap();
        // The regions of `t1000` are among those of `t200`.
        for (run, images) in runs.into_iter().filter(|(run, _)| run.ends_with("/t200")) {
            let variant = run.split_once('/').unwrap().1;
            for (image, golden) in images {
                let picture = &pictures.pictures[&image];
                let regions = pictures.regions(&image, variant).regions;
                let mut crops = vec![crop_whole(picture)];
                crops.extend(regions.iter().enumerate().map(|(index, region)| {
                    crop_region(
                        picture,
                        index,
                        region,
                        (CropMode::BoundingBox, CropMargin::default()),
                    )
                }));
                let inputs: Vec<_> =
                    crops.iter().map(|crop| scorer.prepare(crop).unwrap()).collect();
                let ours = scorer.rate(&inputs).unwrap();
                let goldens = std::iter::once(&golden.whole).chain(&golden.regions);
                for (index, (ours, golden)) in ours.iter().zip(goldens).enumerate() {
                    let name = format!("{run} {image} {index}");
                    let expected = answer_of(&tokenizer, golden.generated_id);
                    comparison.equal(&format!("{name}: token"), ours.answer().unwrap(), &expected);
                    // The logits of the levels are known up to a constant.
                    let logits: Vec<f64> =
                        ours.probabilities().iter().map(|share| share.ln()).collect();
                    let levels = &golden.digits[1..=logits.len()];
                    let shift = logits[0] - levels[0];
                    let shifted: Vec<f64> = logits.iter().map(|logit| logit - shift).collect();
                    let error = largest_difference(&shifted, levels);
                    comparison.close_by(&name, error, LOGITS_TOLERANCE_F16);
                }
            }
        }
        comparison.finish(45);
    }
}

/// A picture of a run, with its regions and the formula of its score.
struct GoldenPicture<'a> {
    regions: &'a [GoldenRegion],
    scores: &'a GoldenScores,
    formula: &'a str,
}

/// Compares an event with a picture of a run.
fn check_event(comparison: &mut Comparison, name: &str, event: &Value, golden: &GoldenPicture<'_>) {
    let GoldenPicture { regions, scores, formula } = *golden;
    let level = |rating: &Value| u8::try_from(rating["level"].as_u64().unwrap()).unwrap();
    let objects = event["objects"].as_array().unwrap();
    let levels: Vec<u8> = objects.iter().map(|object| level(&object["rating"])).collect();
    comparison.equal(&format!("{name}: levels"), &levels, &scores.levels);
    let whole = level(&event["global"]);
    comparison.equal(&format!("{name}: whole"), &whole, &scores.global_level);
    for (index, (object, golden)) in objects.iter().zip(regions).enumerate() {
        let name = format!("{name}, region {index}");
        let kind = object["kind"].as_str().unwrap().replace("object", "mask");
        comparison.equal(&format!("{name}: kind"), &Some(kind), &golden.kind);
        let bbox: [u32; 4] = serde_json::from_value(object["bbox"].clone()).unwrap();
        comparison.equal(&format!("{name}: box"), &Some(bbox), &golden.bbox);
        let weight = object["weight_px"].as_u64().or(object["area"].as_u64()).unwrap();
        // A remainder differs by the pixels of all masks.
        let pixels_max = PIXELS_MAX * objects.len() as u64;
        assert!(weight.abs_diff(golden.area) <= pixels_max, "{name}: weight {weight}");
        assert!(object["rating"]["off_level"].is_number(), "{name}");
    }
    comparison.equal(&format!("{name}: formula"), &event["engine"]["formula"], &formula.into());
    let error = (event["score"].as_f64().unwrap() - scores.scores[formula]).abs();
    comparison.close_by(&format!("{name}: score"), error, END_TO_END_TOLERANCE);
}

/// Runs of the command line: both presets, two forms, both kinds of crops. The test of the broker
/// has the run without the compiled part.
const COMMAND_LINE_RUNS: [&str; 3] = ["word-7/t1000", "word-7-masked/t1000", "number/t200"];

#[test]
fn the_command_line_prints_the_programs_scores() {
    for folder in
        release_folders("events of the command line", &[&["regions.json"], &RUN_FILES[..]].concat())
    {
        let mut comparison = Comparison::new(&folder, "events of the command line");
        let networks = Networks::of(&folder);
        let regions = golden_regions(&folder);
        let mut runs = golden_runs(&folder);
        runs.retain(|run, _| COMMAND_LINE_RUNS.contains(&run.as_str()));
        for run in COMMAND_LINE_RUNS {
            let Some(golden) = runs.remove(run) else {
                comparison.absent(run);
                continue;
            };
            let (preset, formula) = if run.ends_with("/t200") {
                ("release-tables", "tables")
            } else {
                ("release", "release")
            };
            let mut command = command(&["score", "--format", "jsonl"]);
            for setting in networks.settings(run, &golden, preset) {
                command.args(["--set", &setting]);
            }
            for image in golden.images.keys() {
                command.arg(folder.join("images").join(image));
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{run}: {}", text(&output.stderr));
            let events: Vec<Value> = text(&output.stdout)
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(events.len(), golden.images.len());
            for (event, (image, scores)) in events.iter().zip(&golden.images) {
                let name = format!("{run} {image}");
                let regions = &regions[image][&golden.regions].regions;
                let golden = GoldenPicture { regions, scores, formula };
                check_event(&mut comparison, &name, event, &golden);
            }
        }
        comparison.finish(150);
    }
}

/// Opens the engine of a run.
fn engine(settings: &config::Settings) -> Engine {
    let standard = Standard::from_settings(&settings.method.standard).unwrap();
    Engine::open(&settings.engine, &standard).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_pictures_through_the_broker_have_the_programs_scores() {
    for folder in
        release_folders("events of the broker", &[&["regions.json"], &RUN_FILES[..]].concat())
    {
        let mut comparison = Comparison::new(&folder, "events of the broker");
        let networks = Networks::of(&folder);
        let all_regions = golden_regions(&folder);
        let runs = golden_runs(&folder);
        // A folder that is not in the repository may have other runs.
        let usual = runs.get_key_value("word-7/t200/no-extension");
        let (run, golden) = usual.or(runs.first_key_value()).unwrap();
        let settings = load(None, &networks.settings(run, golden, "release")).unwrap().settings;
        let for_engine = settings.clone();
        let mut scene = Scene::with_engine(1, move || engine(&for_engine)).await;
        (scene.method, scene.imaging) = (settings.method, settings.imaging);
        scene.storage.bytes_max = bytesize::ByteSize::mib(64);
        for image in golden.images.keys() {
            let bytes = fs::read(folder.join("images").join(image)).unwrap();
            scene.objects.push((image.clone(), bytes));
        }
        let worker = scene.start().await;
        let references = golden.images.keys().map(|image| reference(image, image));
        scene.write(references.collect()).await;
        let events = scene.events(golden.images.len()).await;
        for event in &events {
            let image = event["reference"]["id"].as_str().unwrap();
            let regions = &all_regions[image][&golden.regions].regions;
            let scores = &golden.images[image];
            let golden = GoldenPicture { regions, scores, formula: "release" };
            check_event(&mut comparison, image, event, &golden);
            let changed = event["engine"]["changed_settings"].as_object().unwrap();
            comparison.equal(
                "remainder",
                &changed["method.regions.remainder"],
                &"arithmetic".into(),
            );
        }
        worker.stop().await;
        comparison.finish(30);
    }
}
