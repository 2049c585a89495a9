//! Qwen3.5-VL as a scorer, from its checkpoint to events, with small random networks: their ratings
//! have the form of real ones, and no meaning.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{Qwen3_5VlCheckpoint, TuningOf, WeightsError};
use dog_iqa::engine::{ClassicSegmenter, Engine, EngineLimits, Qwen3_5VlScorer, RunError, Scorer};
use dog_iqa::imaging::{Crop, CropSource, Picture, crop_whole};
use dog_iqa::method::{LevelDistribution, Standard, StandardSettings};
use dog_iqa::models::qwen3_5_vl::{
    Part, QRealignSettings, Question, Questions, Qwen3_5Vl, Thinking, Wording, cut,
};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::conformance;
use crate::goldens::tensors;
use crate::qwen3_5::q_realign;
use crate::random_checkpoint::write_sharded;
use crate::small_networks::{SmallNetworks, number};
use crate::stream::{Scene, header};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/qwen3_5_vl")
}

/// A copy of the golden network that a test may change.
pub(crate) struct Copy {
    pub(crate) folder: TempDir,
    pub(crate) tensors: HashMap<String, Tensor>,
}

impl Copy {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden().join("config.json"), folder.path().join("config.json")).unwrap();
        Self { folder, tensors: tensors(&golden().join("model.safetensors")) }
    }

    /// Writes the tensors as one file, and opens it.
    pub(crate) fn open(&self) -> Result<Qwen3_5Vl, WeightsError> {
        let path = self.folder.path().join("model.safetensors");
        candle_core::safetensors::save(&self.tensors, path).unwrap();
        load(self.folder.path())
    }
}

pub(crate) fn load(path: &Path) -> Result<Qwen3_5Vl, WeightsError> {
    Qwen3_5VlCheckpoint::open(path)?.load(DType::F32, &Device::Cpu)
}

pub(crate) fn shade(x: u32, y: u32) -> Rgb<u8> {
    Rgb([3 * x, 5 * y, x + y].map(|value| value.to_le_bytes()[0]))
}

/// Returns the last token of a prompt with an image, after the last norm.
fn hidden(model: &Qwen3_5Vl) -> Vec<f32> {
    let image = RgbImage::from_fn(96, 64, shade);
    let images = model.encode(&[cut(&image)]).unwrap();
    let text = model.decoder().embed(&[310, 5, 312]).unwrap();
    let parts = vec![Part::Text(&text), Part::Image(&images[0]), Part::Text(&text)];
    let mut states = [model.decoder().empty_state()];
    model.read(&[parts], &mut states).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn shards_give_the_same_network_as_one_file() {
    let copy = Copy::new();
    let mut names: Vec<&String> = copy.tensors.keys().collect();
    names.sort();
    write_sharded(copy.folder.path(), names.into_iter(), 3, |name| copy.tensors[name].clone());
    let sharded = load(copy.folder.path()).unwrap();
    assert!(hidden(&sharded) == hidden(&load(&golden()).unwrap()), "other bits");
}

#[test]
fn the_head_is_the_embedding_only_if_the_file_has_none() {
    let mut copy = Copy::new();
    let own = copy.open().unwrap();
    let rows = |model: &Qwen3_5Vl| {
        let rows = model.decoder().head().rows(&[7, 3], DType::F32, &Device::Cpu).unwrap();
        rows.to_vec2::<f32>().unwrap()
    };
    let table = |copy: &Copy, name: &str| {
        let tokens = Tensor::new(&[7_u32, 3], &Device::Cpu).unwrap();
        copy.tensors[name].index_select(&tokens, 0).unwrap().to_vec2::<f32>().unwrap()
    };
    assert_eq!(rows(&own), table(&copy, "lm_head.weight"));
    // The configuration says that they are not tied.
    copy.tensors.remove("lm_head.weight").unwrap();
    let tied = copy.open().unwrap();
    assert_eq!(rows(&tied), table(&copy, "model.language_model.embed_tokens.weight"));
}

#[test]
fn the_block_for_prediction_is_skipped_and_tells_a_base_model() {
    let mut copy = Copy::new();
    let before = hidden(&copy.open().unwrap());
    let tuning = |copy: &Copy| Qwen3_5VlCheckpoint::open(copy.folder.path()).unwrap().tuning();
    assert_eq!(tuning(&copy), TuningOf::QReAlign);
    let extra = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    copy.tensors.insert("mtp.norm.weight".to_owned(), extra.clone());
    assert!(hidden(&copy.open().unwrap()) == before);
    assert_eq!(tuning(&copy), TuningOf::Base);
    // Any other tensor that the network does not use is an error.
    copy.tensors.insert("model.visual.deepstack_merger_list.0.norm.weight".to_owned(), extra);
    let message = copy.open().unwrap_err().to_string();
    assert!(message.contains("deepstack_merger_list"), "{message}");
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    for name in [
        "model.language_model.layers.0.linear_attn.A_log",
        "model.language_model.layers.3.self_attn.q_norm.weight",
        "model.visual.merger.linear_fc2.bias",
        "lm_head.weight",
    ] {
        let mut copy = Copy::new();
        let wrong = Tensor::zeros(7, DType::F32, &Device::Cpu).unwrap();
        copy.tensors.insert(name.to_owned(), wrong);
        let message = copy.open().unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("[7]"), "{message}");
    }
    let mut copy = Copy::new();
    copy.tensors.remove("model.visual.pos_embed.weight").unwrap();
    let message = copy.open().unwrap_err().to_string();
    assert!(message.contains("model.visual.pos_embed.weight"), "{message}");
}

#[test]
fn half_formats_load_from_the_same_file() {
    let single = hidden(&load(&golden()).unwrap());
    for dtype in [DType::BF16, DType::F16] {
        let checkpoint = Qwen3_5VlCheckpoint::open(&golden()).unwrap();
        let model = checkpoint.load(dtype, &Device::Cpu).unwrap();
        assert_eq!(model.dtype(), dtype);
        let image = RgbImage::new(64, 64);
        assert_eq!(model.encode(&[cut(&image)]).unwrap()[0].tokens.dtype(), dtype);
    }
    assert!(single.iter().all(|value| value.is_finite()));
}

pub(crate) fn standard() -> Standard {
    Standard::from_settings(&StandardSettings::default()).unwrap()
}

pub(crate) fn open(folder: &Path, settings: QRealignSettings) -> Qwen3_5VlScorer {
    Qwen3_5VlScorer::open(folder, &standard(), settings, DType::F32, &Device::Cpu).unwrap()
}

pub(crate) fn crop(width: u32, height: u32) -> Crop {
    let pixels = std::sync::Arc::new(RgbImage::from_fn(width, height, shade));
    Crop { source: CropSource::Whole, pixels, picture: None }
}

pub(crate) fn rate(scorer: &Qwen3_5VlScorer, crop: &Crop) -> LevelDistribution {
    scorer.rate(&[scorer.prepare(crop).unwrap()]).unwrap().remove(0)
}

#[test]
fn the_scorer_conforms_and_a_batch_changes_no_bit() {
    let folder = q_realign();
    let scorer = open(folder.path(), QRealignSettings::default());
    assert_eq!(scorer.info().name, "q-realign-custom");
    assert_eq!(scorer.info().weights.len(), 1);
    conformance::scorer(&scorer, 7, |a, b| a == b);
    let rating = rate(&scorer, &crop(100, 80));
    let raw = rating.raw().unwrap();
    assert_eq!(raw.mapping, "five-words-linear");
    assert!((0.0..=1.0).contains(&raw.value));
    assert!((rating.expected() - (1.0 + 6.0 * raw.value)).abs() < 1e-9);
}

#[test]
fn every_setting_changes_the_rating_and_the_version() {
    let folder = q_realign();
    let default = QRealignSettings::default();
    let all = [
        default,
        QRealignSettings { question: Question::Aesthetics.into(), ..default },
        QRealignSettings { wording: Wording::Pyiqa, ..default },
        QRealignSettings { wording: Wording::Toolkit, ..default },
        QRealignSettings { thinking: Thinking::Open, ..default },
        QRealignSettings { sizes: dog_iqa::models::qwen3_5_vl::SizeRule::Train, ..default },
        QRealignSettings { pixels_max: 70_000, ..default },
    ];
    let rated = all.map(|settings| {
        let scorer = open(folder.path(), settings);
        // Small enough to be enlarged by one rule, large enough to be reduced.
        let raw = [crop(100, 80), crop(400, 300)].map(|crop| rate(&scorer, &crop).raw().unwrap());
        (scorer.info().version, raw.map(|raw| raw.value.to_bits()))
    });
    for (index, one) in rated.iter().enumerate() {
        for other in &rated[..index] {
            assert!(one.0 != other.0 && one.1 != other.1, "{index}: {one:?}, {other:?}");
        }
    }
    QRealignSettings { pixels_max: 65_535, ..default }.check().unwrap_err();
    QRealignSettings { pixels_max: 16_777_217, ..default }.check().unwrap_err();
}

#[test]
fn two_questions_have_the_ratings_of_separate_runs() {
    let folder = q_realign();
    let scorer = |question: Questions| {
        open(folder.path(), QRealignSettings { question, ..QRealignSettings::default() })
    };
    let near = |a: &LevelDistribution, b: &LevelDistribution| {
        let shares = a.probabilities().iter().zip(b.probabilities());
        shares.into_iter().all(|(a, b)| (a - b).abs() < 2e-5)
    };
    let crops = [crop(100, 80), crop(64, 200), crop(300, 260)];
    let [quality, aesthetics] = [Question::Quality, Question::Aesthetics]
        .map(|question| crops.each_ref().map(|crop| rate(&scorer(question.into()), crop)));
    for (first, [of_first, of_other]) in [
        (Question::Quality, [&quality, &aesthetics]),
        (Question::Aesthetics, [&aesthetics, &quality]),
    ] {
        let both = scorer(Questions::both(first));
        let inputs = crops.each_ref().map(|crop| both.prepare(crop).unwrap());
        let ratings = both.rate(&inputs).unwrap();
        for (index, rating) in ratings.iter().enumerate() {
            let [further] = rating.further() else { panic!("{rating:?}") };
            assert!(near(rating, &of_first[index]), "{rating:?}");
            assert!(near(&further.rating, &of_other[index]), "{further:?}");
            assert!(!near(rating, &further.rating), "the questions have different answers");
            assert_ne!(further.question, first.name());
        }
        conformance::scorer(&both, 7, |a, b| a == b);
    }
    let versions = [Question::Quality.into(), Questions::both(Question::Quality)]
        .map(|question| scorer(question).info().version);
    assert_ne!(versions[0], versions[1]);
}

#[test]
fn a_stripe_is_refused_as_an_image_and_rated_as_an_object() {
    let folder = q_realign();
    let scorer = open(folder.path(), QRealignSettings::default());
    let stripe = crop_whole(&Picture::from_rgb(RgbImage::new(603, 3)));
    let error = scorer.prepare(&stripe).unwrap_err();
    assert!(matches!(&error, RunError::Batch(message) if message.contains("603×3")), "{error}");
    scorer.prepare(&crop_whole(&Picture::from_rgb(RgbImage::new(600, 3)))).unwrap();
    let object = scorer.prepare(&Crop { source: CropSource::Region(0), ..stripe }).unwrap();
    assert_eq!(scorer.rate(&[object]).unwrap().len(), 1);
}

#[test]
fn weights_that_are_not_numbers_are_an_error_and_never_a_score() {
    let folder = q_realign();
    let path = folder.path().join("model.safetensors");
    let mut all = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let norm = all.get_mut("model.language_model.norm.weight").unwrap();
    *norm = Tensor::full(f32::NAN, norm.shape(), &Device::Cpu).unwrap();
    candle_core::safetensors::save(&all, &path).unwrap();
    let scorer = open(folder.path(), QRealignSettings::default());
    let error = scorer.rate(&[scorer.prepare(&crop(64, 64)).unwrap()]).unwrap_err();
    assert!(matches!(error, RunError::NotNumbers(_)), "{error}");
}

#[test]
fn an_event_names_the_scorer_its_own_score_and_the_mapping() {
    let networks = SmallNetworks::new();
    let folder = q_realign();
    let mut command = command(&["score", "--format", "jsonl"]);
    for setting in networks.settings() {
        command.args(["--set", &setting]);
    }
    let scorer = format!("engine.dog_iqa.scorer={}", folder.path().display());
    let output = command
        .args(["--set", &scorer, "--set", "engine.dog_iqa.q_realign.question=aesthetics"])
        .arg(photo("cat.jpg"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let event: Value = serde_json::from_str(text(&output.stdout).trim()).unwrap();
    let engine = &event["engine"];
    assert!(engine["scorer"].as_str().unwrap().starts_with("q-realign-custom/1-cpu-f32-"));
    assert_eq!(
        engine["changed_settings"]["engine.dog_iqa.q_realign.question"], "aesthetics",
        "{engine}"
    );
    let ran_with = json!({
        "q_realign": {
            "questions": ["aesthetics"],
            "wording": "card",
            "thinking": "closed",
            "sizes": "hub",
            "pixels_max": 1 << 20,
        },
    });
    assert_eq!(engine["scorer_settings"], ran_with, "defaults are named, too");
    let objects = event["objects"].as_array().unwrap();
    let ratings = objects.iter().map(|object| &object["rating"]).chain([&event["global"]]);
    for rating in ratings {
        assert_eq!(rating["mapping"], "five-words-linear");
        let (raw, expected) = (number(&rating["raw"]), number(&rating["expected"]));
        assert!((expected - (1.0 + 6.0 * raw)).abs() < 1e-9, "{rating}");
    }
}

#[test]
fn check_names_the_scorer_and_wrong_settings() {
    let networks = SmallNetworks::new();
    let folder = q_realign();
    let output = |more: &[&str]| {
        let mut command = command(&["check"]);
        let scorer = format!("engine.dog_iqa.scorer={}", folder.path().display());
        let kafka = ["kafka.bootstrap_servers=127.0.0.1:9", "kafka.probe_timeout=10ms"];
        for setting in networks.settings() {
            command.args(["--set", &setting]);
        }
        for setting in [&[scorer.as_str()], &kafka[..], more].concat() {
            command.args(["--set", setting]);
        }
        let output = command.env("HF_HOME", folder.path()).env_remove("HF_HUB_CACHE").output();
        text(&output.unwrap().stdout).to_owned()
    };
    let line = |output: &str, part: &str| {
        let line = output.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no {part} in {output}")).to_owned()
    };
    let valid = output(&["engine.dog_iqa.q_realign.question=[\"quality\", \"aesthetics\"]"]);
    assert!(line(&valid, " engine: ").starts_with("ok "), "{valid}");
    let scorer = line(&valid, " scorer: ");
    assert!(
        scorer.starts_with("ok ") && scorer.contains("q-realign-custom/1-cpu-f32-"),
        "{scorer}"
    );
    let wrong = line(&output(&["engine.dog_iqa.q_realign.pixels_max=7"]), " engine: ");
    assert!(wrong.starts_with("broken") && wrong.contains("q_realign: pixels_max is 7"), "{wrong}");
    let absent = line(&output(&["engine.dog_iqa.scorer=q-realign-0.8b"]), " engine: ");
    assert!(absent.contains("`dogiqa models pull q-realign-0.8b`"), "{absent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_stream_it_answers_two_questions_and_refuses_a_stripe() {
    let folder = q_realign();
    let engine = move || {
        let question = Questions::both(Question::Quality);
        let settings = QRealignSettings { question, pixels_max: 65_536, ..Default::default() };
        let scorer = open(folder.path(), settings);
        Engine::new("test", "1", ClassicSegmenter::new(), scorer, EngineLimits::default()).unwrap()
    };
    let mut scene = Scene::with_engine(1, engine).await;
    let mut stripe = std::io::Cursor::new(Vec::new());
    crop(900, 2).pixels.write_to(&mut stripe, image::ImageFormat::Png).unwrap();
    scene.objects.push(("stripe.png".to_owned(), stripe.into_inner()));
    let worker = scene.start().await;
    scene.refer("photo", 2, "a.png").await;
    scene.refer("stripe", 1, "stripe.png").await;
    for event in &scene.events(2).await {
        let objects = event["objects"].as_array().unwrap();
        for rating in objects.iter().map(|object| &object["rating"]).chain([&event["global"]]) {
            assert_eq!(rating["mapping"], "five-words-linear", "{event}");
            let (raw, expected) = (number(&rating["raw"]), number(&rating["expected"]));
            assert!((expected - (1.0 + 6.0 * raw)).abs() < 1e-9, "{rating}");
            let [further] = &rating["further"].as_array().unwrap()[..] else { panic!("{rating}") };
            assert_eq!(further["question"], "aesthetics");
            assert!((0.0..=1.0).contains(&number(&further["raw"])), "{further}");
            assert_ne!(further["raw"], rating["raw"], "the questions have different answers");
        }
    }
    let dead_letters = scene.dead_letters(1).await;
    assert_eq!(header(&dead_letters[0], "dogiqa.error.code").unwrap(), "score.failed");
    let message = header(&dead_letters[0], "dogiqa.error.message").unwrap();
    assert!(message.contains("900×2"), "{message}");
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (2, 1));
}

#[test]
fn verify_names_the_network() {
    let verified = command(&["models", "verify"]).arg(golden()).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let lines = text(&verified.stdout);
    assert!(lines.contains(": Qwen3.5-VL of an unpublished size ("), "{lines}");
}
