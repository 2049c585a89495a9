//! Weights whose output is not a number, and files that are not the weights they are called: each
//! ends in an error with its cause, in every command and in the stream, and never in a score.

use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::{DType, Device, Tensor};
use dog_iqa::engine::{ClassicScorer, Engine, EngineLimits, Sam2Segmenter};
use dog_iqa::models::sam2::amg::AmgSettings;
use rdkafka::Message;
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::small_networks::checkpoint_with_real_vocabulary;
use crate::stream::{Scene, header};

/// A mask decoder's tensor that every mask depends on.
const MASKS: &str = "mask_decoder.output_hypernetworks_mlps.2.proj_out.bias";
/// A tensor of SAM 2's image encoder, which runs in the configured format.
const POSITIONS: &str = "vision_encoder.backbone.pos_embed";
/// A norm that every logit depends on.
const NORM: &str = "language_model.model.norm.weight";
/// Finite in f32, and beyond the largest number of f16.
const TOO_LARGE_FOR_F16: f32 = 1e6;

/// Sets every value of a tensor of `model.safetensors` in a folder.
fn fill(folder: &Path, tensor: &str, value: f32) {
    let path = folder.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let changed = tensors.get_mut(tensor).unwrap();
    *changed = Tensor::full(value, changed.shape(), &Device::Cpu).unwrap();
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

/// The SAM 2 of the goldens with one tensor set to a value everywhere.
pub(crate) fn segmenter_with(tensor: &str, value: f32) -> TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let weights = folder.path().join("model.safetensors");
    std::fs::copy(source.join("model.hf.safetensors"), weights).unwrap();
    fill(folder.path(), tensor, value);
    folder
}

fn scorer_with(tensor: &str, value: f32) -> TempDir {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    fill(folder.path(), tensor, value);
    folder
}

fn segment(model: &Path, more: &[&str]) -> Output {
    let lenient = ["--amg", "points_per_side=3", "--amg", "pred_iou_thresh=0.1"];
    command(&["segment", "--model"])
        .arg(model)
        .args(lenient)
        .args(more)
        .arg(photo("cat.jpg"))
        .output()
        .unwrap()
}

fn ask(model: &Path, more: &[&str]) -> Output {
    let question = ["--prompt", "Why?", "--max-tokens", "2"];
    command(&["ask", "--model"])
        .arg(model)
        .args(question)
        .args(more)
        .arg(photo("cat.jpg"))
        .output()
        .unwrap()
}

fn score(segmenter: &Path, scorer: &Path, more: &[&str]) -> Output {
    let (segmenter, scorer) = (segmenter.display(), scorer.display());
    let settings = [
        format!("engine.dog_iqa.segmenter={segmenter}"),
        format!("engine.dog_iqa.scorer={scorer}"),
        "engine.dog_iqa.masks.points_per_side=3".to_owned(),
        "engine.dog_iqa.masks.pred_iou_thresh=0.1".to_owned(),
    ];
    let settings = settings.iter().map(String::as_str).chain(more.iter().copied());
    command(&["score"])
        .args(settings.flat_map(|setting| ["--set", setting]))
        .args([photo("cat.jpg"), photo("coffee.jpg")])
        .output()
        .unwrap()
}

/// Returns the errors of a command that fails without a result.
fn failure(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text(&output.stderr)
}

#[test]
fn nan_and_infinity_are_errors_of_each_command() {
    let owl = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    for value in [f32::NAN, f32::INFINITY] {
        let segmenter = segmenter_with(MASKS, value);
        let scorer = scorer_with(NORM, value);
        let intact = segmenter_with(MASKS, 0.0);
        let not_numbers = "are not numbers";
        let output = segment(segmenter.path(), &[]);
        assert!(failure(&output).contains(not_numbers) && output.stdout.is_empty(), "{output:?}");
        let output = ask(scorer.path(), &[]);
        assert!(failure(&output).contains(not_numbers), "{output:?}");
        let output = score(segmenter.path(), owl.path(), &[]);
        let errors = failure(&output);
        assert_eq!(errors.matches("[segment.failed]").count(), 2, "{errors}");
        assert!(errors.contains(not_numbers) && output.stdout.is_empty(), "{output:?}");
        let output = score(intact.path(), scorer.path(), &[]);
        let errors = failure(&output);
        assert_eq!(errors.matches("[score.failed]").count(), 2, "{errors}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn an_overflow_of_f16_is_explained_once_and_other_formats_do_not_have_it() {
    let owl = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let segmenter = segmenter_with(POSITIONS, TOO_LARGE_FOR_F16);
    let scorer = scorer_with(NORM, TOO_LARGE_FOR_F16);
    assert!(segment(segmenter.path(), &["--dtype", "f32"]).status.success());
    assert!(failure(&segment(segmenter.path(), &["--dtype", "f16"])).contains("not numbers"));
    assert!(ask(scorer.path(), &["--dtype", "f32"]).status.success());
    assert!(failure(&ask(scorer.path(), &["--dtype", "f16"])).contains("try bf16 or f32"));

    // The warm-up finds it before the first image.
    let intact = segmenter_with(MASKS, 0.0);
    for (segmenter, scorer) in [(&segmenter, &owl), (&intact, &scorer)] {
        let formats = ["engine.dog_iqa.dtype=f16", "engine.dog_iqa.warm_up=always"];
        let output = score(segmenter.path(), scorer.path(), &formats);
        let errors = failure(&output);
        assert!(errors.contains("at the warm-up") && errors.contains("\"bf16\""), "{errors}");
        assert!(!errors.contains("smaller models"), "no advice for too little memory: {errors}");
    }
    // Without a warm-up each image has its error, and the log explains it once.
    let formats = ["engine.dog_iqa.dtype=f16", "engine.dog_iqa.warm_up=never"];
    let output = score(segmenter.path(), owl.path(), &formats);
    let errors = failure(&output);
    assert_eq!(errors.matches("[segment.failed]").count(), 2, "{errors}");
    assert_eq!(errors.matches("set bf16 or f32").count(), 1, "{errors}");
    let formats = ["engine.dog_iqa.dtype=bf16", "engine.dog_iqa.warm_up=always"];
    let output = score(segmenter.path(), owl.path(), &formats);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_stream_they_are_dead_letters_with_their_cause() {
    let folder = segmenter_with(MASKS, f32::NAN);
    let settings = AmgSettings {
        points_per_side: 3,
        pred_iou_thresh: 0.1,
        stability_score_thresh: 0.0,
        ..AmgSettings::default()
    };
    let engine = move || {
        let segmenter =
            Sam2Segmenter::open(folder.path(), settings, DType::F32, &Device::Cpu).unwrap();
        Engine::new("test", "1", segmenter, ClassicScorer::new(7), EngineLimits::default()).unwrap()
    };
    let scene = Scene::with_engine(1, engine).await;
    let worker = scene.start().await;
    scene.refer("photo", 2, "a.png").await;
    let dead_letters = scene.dead_letters(2).await;
    for letter in &dead_letters {
        assert_eq!(header(letter, "dogiqa.error.code").unwrap(), "segment.failed");
        let message = header(letter, "dogiqa.error.message").unwrap();
        assert!(message.contains("masks are not numbers"), "{message}");
        assert!(letter.payload().unwrap().starts_with(b"{"), "the original record");
    }
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (0, 2));
}

#[test]
fn a_tokenizer_of_another_checkpoint_is_refused_by_each_command() {
    let segmenter = segmenter_with(MASKS, 0.0);
    let scorer = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let path = scorer.path().join("tokenizer.json");
    let tokenizer = std::fs::read_to_string(&path).unwrap();
    let is_refused = |part: &str| {
        for output in [
            ask(scorer.path(), &[]),
            score(segmenter.path(), scorer.path(), &[]),
            score(segmenter.path(), scorer.path(), &["engine.name=dog-iqa"]),
        ] {
            assert!(failure(&output).contains(part) && output.stdout.is_empty(), "{output:?}");
        }
    };
    std::fs::write(&path, tokenizer.replace("<|im_start|>", "<|turn|>")).unwrap();
    is_refused("`<|im_start|>` is not one token");
    // More tokens than the network has rows.
    let mut larger: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let added = larger["added_tokens"].as_array_mut().unwrap();
    for number in 0..400 {
        let mut token = added[0].clone();
        token["id"] = serde_json::json!(151_646 + number);
        token["content"] = serde_json::json!(format!("<|more {number}|>"));
        added.push(token);
    }
    std::fs::write(&path, larger.to_string()).unwrap();
    is_refused("not of one checkpoint");
}

#[test]
fn pointers_and_pages_in_place_of_a_file_are_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
    let page = "<!DOCTYPE html>\n<html><body>Please log in</body></html>";
    let scorer = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    for (name, content, part) in [
        ("model.safetensors", pointer, "git lfs pull"),
        ("model.safetensors", page, "web page"),
        ("config.json", page, "web page"),
        ("config.json", pointer, "git lfs pull"),
        ("tokenizer.json", pointer, "git lfs pull"),
        ("tokenizer.json", page, "web page"),
    ] {
        let path = scorer.path().join(name);
        let original = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let output = ask(scorer.path(), &[]);
        let errors = failure(&output);
        assert!(errors.contains(part) && errors.contains(path.to_str().unwrap()), "{errors}");
        assert_eq!(errors.matches(path.to_str().unwrap()).count(), 1, "{errors}");
        std::fs::write(&path, original).unwrap();
    }
    let segmenter: PathBuf = scorer.path().join("sam2.1_hiera_tiny.pt");
    std::fs::write(&segmenter, page).unwrap();
    let output = segment(&segmenter, &[]);
    assert!(failure(&output).contains("web page"), "{output:?}");
}
