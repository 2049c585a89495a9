//! The paper's engine from configuration to events, with small random networks for both models: what they
//! say means nothing, but it goes the whole road.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::mplug_owl3_ratings::checkpoint_with_real_vocabulary;

/// Settings that make the small networks an engine.
struct Networks {
    scorer: TempDir,
}

impl Networks {
    fn new() -> Self {
        Self { scorer: checkpoint_with_real_vocabulary("mplug_owl3_241101") }
    }

    fn run(&self, subcommand: &[&str], more: &[&str]) -> Output {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2");
        let settings = [
            format!("engine.dog_iqa.segmenter={}", golden.join("model.hf.safetensors").display()),
            format!("engine.dog_iqa.scorer={}", self.scorer.path().display()),
            // The small network seldom believes in its masks.
            "engine.dog_iqa.masks.points_per_side=4".to_owned(),
            "engine.dog_iqa.masks.pred_iou_thresh=0.15".to_owned(),
            "engine.dog_iqa.masks.stability_score_thresh=0.02".to_owned(),
        ];
        let mut command = command(subcommand);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        command.args(more).output().unwrap()
    }

    fn events(&self, more: &[&str]) -> Vec<Value> {
        let output = self.run(&["score", "--format", "jsonl"], more);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The paper's formula, from what the event itself says of its objects.
fn recomputed(event: &Value) -> f64 {
    let objects = event["objects"].as_array().unwrap();
    let area = |object: &Value| number(&object["area"]);
    let level = |object: &Value| number(&object["rating"]["level"]);
    let all: f64 = objects.iter().map(area).sum();
    let local = objects.iter().map(|object| level(object) * area(object)).sum::<f64>() / all;
    let seg = (objects.len() as f64 * 7.0 / number(&event["segmentation"]["c_max"])).min(7.0);
    f64::midpoint(number(&event["global"]["level"]), local) + seg
}

#[test]
fn events_have_the_papers_score_of_their_own_objects_and_say_who_judged() {
    let networks = Networks::new();
    let photos = [photo("cat.jpg"), photo("coffee.jpg"), photo("rocket.jpg")];
    let photos: Vec<&str> = photos.iter().map(String::as_str).collect();
    let together = networks.events(&photos);
    assert_eq!(together.len(), 3);
    for event in &together {
        assert!(!event["objects"].as_array().unwrap().is_empty());
        let (score, own) = (number(&event["score"]), recomputed(event));
        assert!((score - own).abs() < 1e-9, "{score} is not {own}");
        let engine = &event["engine"];
        assert_eq!(engine["name"], "dog-iqa");
        assert!(engine["segmenter"].as_str().unwrap().starts_with("sam2.1-custom/1-f32-"));
        assert_eq!(engine["scorer"], "mplug-owl3-241101-custom/1-f32");
        let weights = engine["weights"].as_array().unwrap();
        assert_eq!(weights.len(), 2, "one digest for each model: {weights:?}");
    }
    // Alone and in another order.
    for (index, photo) in photos.iter().enumerate().rev() {
        let alone = networks.events(&[photo]).remove(0);
        let levels = |event: &Value| {
            let objects = event["objects"].as_array().unwrap().iter();
            objects.map(|object| number(&object["rating"]["level"])).collect::<Vec<_>>()
        };
        assert_eq!(levels(&alone), levels(&together[index]));
        let apart = number(&alone["score_expected"]) - number(&together[index]["score_expected"]);
        assert!(apart.abs() < 1e-3, "{apart}");
        assert_eq!(alone["event_id"], together[index]["event_id"]);
    }
}

#[test]
fn an_event_of_other_parameters_has_another_id() {
    let networks = Networks::new();
    let cat = photo("cat.jpg");
    let usual = networks.events(&[&cat]).remove(0);
    let other =
        networks.events(&["--set", "engine.dog_iqa.masks.points_per_side=3", &cat]).remove(0);
    assert_ne!(usual["event_id"], other["event_id"]);
    let second =
        networks.events(&["--set", "engine.dog_iqa.rating.direction=true", &cat]).remove(0);
    assert!(second["global"]["direction"].is_number() && usual["global"]["direction"].is_null());
    let classic = networks.events(&["--set", "engine.name=classic", &cat]).remove(0);
    assert_eq!(classic["engine"]["name"], "classic");
}

/// The same worker as in production, over the embedded broker.
#[test]
fn the_demo_can_be_run_with_the_papers_engine() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let networks = Networks::new();
    let more = ["--set", "engine.name=dog-iqa", "--report", report.to_str().unwrap()];
    let output = networks.run(&["demo"], &more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let events = std::fs::read_to_string(report.join("events.jsonl")).unwrap();
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 9);
    for event in &events {
        assert_eq!(event["engine"]["name"], "dog-iqa");
        assert!(event["source"]["offset"].is_number(), "it came through Kafka");
        assert!((number(&event["score"]) - recomputed(event)).abs() < 1e-9);
    }
}

#[test]
fn what_is_wrong_with_the_weights_is_said_with_the_setting_that_names_them() {
    let networks = Networks::new();
    let cat = photo("cat.jpg");
    for (settings, parts) in [
        (
            &["engine.name=dog-iqa", "engine.dog_iqa.scorer="][..],
            &["engine.dog_iqa.scorer", "names no"],
        ),
        (&["engine.dog_iqa.scorer=no/such/folder"], &["engine.dog_iqa.scorer", "no/such/folder"]),
        (
            &["engine.dog_iqa.masks.points_per_side=0"],
            &["engine.dog_iqa.segmenter", "points_per_side"],
        ),
    ] {
        let mut more: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        more.push(&cat);
        let output = networks.run(&["score"], &more);
        assert_eq!(output.status.code(), Some(1));
        let errors = text(&output.stderr);
        assert!(parts.iter().all(|part| errors.contains(part)), "{errors}");
    }
}
