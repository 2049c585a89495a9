//! The paper's engine from configuration to events, with small random networks for both models.
//! Their answers have no meaning, but pass through the whole pipeline.

use std::process::Output;

use serde_json::Value;

use crate::cli::{command, photo, text};
use crate::small_networks::{SmallNetworks, number, recomputed};

/// Checkpoints of both models, and commands that use them.
struct Networks(SmallNetworks);

impl Networks {
    fn new() -> Self {
        Self(SmallNetworks::new())
    }

    fn run(&self, subcommand: &[&str], more: &[&str]) -> Output {
        let mut command = command(subcommand);
        for setting in self.0.settings() {
            command.args(["--set", &setting]);
        }
        command.args(more).output().unwrap()
    }

    fn events(&self, more: &[&str]) -> Vec<Value> {
        let output = self.run(&["score", "--format", "jsonl"], more);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn events_have_the_papers_score_of_their_objects_and_name_the_models() {
    let networks = Networks::new();
    let photos = [photo("cat.jpg"), photo("coffee.jpg"), photo("rocket.jpg")];
    let photos: Vec<&str> = photos.iter().map(String::as_str).collect();
    let together = networks.events(&photos);
    assert_eq!(together.len(), 3);
    for event in &together {
        assert!(!event["objects"].as_array().unwrap().is_empty());
        let (score, expected) = (number(&event["score"]), recomputed(event));
        assert!((score - expected).abs() < 1e-9, "{score} is not {expected}");
        let engine = &event["engine"];
        assert_eq!(engine["name"], "dog-iqa");
        assert!(engine["segmenter"].as_str().unwrap().starts_with("sam2.1-custom/1-cpu-f32-"));
        assert!(
            engine["scorer"].as_str().unwrap().starts_with("mplug-owl3-241101-custom/1-cpu-f32-")
        );
        let weights = engine["weights"].as_array().unwrap();
        assert_eq!(weights.len(), 2, "one digest for each model: {weights:?}");
    }
    let is_object = |object: &Value| object["kind"] == "object";
    let found = |event: &Value| event["objects"].as_array().unwrap().iter().any(is_object);
    assert!(together.iter().any(found), "SAM 2 finds an object");
    // Each photo alone, in reverse order.
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
fn two_lanes_and_a_warm_up_change_no_answer() {
    let networks = Networks::new();
    let photos = [photo("cat.jpg"), photo("coffee.jpg"), photo("rocket.jpg"), photo("hopper.jpg")];
    let events = |settings: &[&str]| {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        networks.events(&settings.chain(photos.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    let levels = |event: &Value| {
        let objects = event["objects"].as_array().unwrap().iter();
        let of_objects = objects.map(|object| number(&object["rating"]["level"]));
        of_objects.chain([number(&event["global"]["level"])]).collect::<Vec<_>>()
    };
    let usual = events(&[]);
    for settings in [
        &["engine.dog_iqa.device=cpu,cpu"][..],
        // A warm-up runs before the first image and changes nothing.
        &["engine.dog_iqa.warm_up=always", "engine.segment.batch_pixels=300000"],
    ] {
        for (usual, other) in usual.iter().zip(events(settings)) {
            assert_eq!(
                usual["event_id"], other["event_id"],
                "the same engine gives the same event"
            );
            assert_eq!(levels(usual), levels(&other));
            let apart = number(&usual["score_expected"]) - number(&other["score_expected"]);
            assert!(apart.abs() < 1e-3, "{apart}");
        }
    }
}

#[test]
fn settings_that_reduce_the_cost_appear_in_the_event() {
    let networks = Networks::new();
    let cat = photo("cat.jpg");
    let usual = networks.events(&[&cat]).remove(0);
    let other = |settings: &[&str]| {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        networks.events(&settings.chain([&*cat]).collect::<Vec<_>>()).remove(0)
    };
    let shrunk = other(&["method.regions.side_max=100"]);
    assert_eq!(shrunk["image"], usual["image"], "the ratings see the original picture");
    assert_eq!(shrunk["global"]["level"], usual["global"]["level"]);
    let settings = |event: &Value| event["engine"]["settings"].as_str().unwrap().to_owned();
    assert!(settings(&shrunk).starts_with("side100-"), "{}", settings(&shrunk));
    let objects = shrunk["objects"].as_array().unwrap().iter();
    let right = |object: &Value| number(&object["bbox"][0]) + number(&object["bbox"][2]);
    assert!(objects.map(right).any(|right| right > 100.0), "boxes are in the picture's frame");
    let few = other(&["method.regions.regions_max=1"]);
    assert_eq!(few["objects"].as_array().unwrap().len(), 1);
    assert!(settings(&few).starts_with("regions1-"), "{}", settings(&few));
    assert!(usual["engine"]["segmenter"].as_str().unwrap().contains("-points4-"));
    let whole = other(&["method.preset=paper-whole"]);
    assert_eq!(whole["engine"]["preset"], "paper-whole");
    let difference = number(&whole["score"]) - number(&whole["global"]["level"]);
    assert!(difference.abs() < 1e-9);
    assert!(whole["objects"].as_array().unwrap().is_empty());
    assert!(usual["engine"]["preset"].is_null());
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
    assert_ne!(usual["event_id"], second["event_id"]);
    assert!(second["global"]["direction"].is_number() && usual["global"]["direction"].is_null());
    for setting in [
        "pipeline.crop=mask",
        "pipeline.crop_margin=0.5",
        "method.objects.when=never",
        "method.standard.levels=5",
    ] {
        let changed = networks.events(&["--set", setting, &cat]).remove(0);
        assert_ne!(usual["event_id"], changed["event_id"], "{setting}");
    }
    let classic = networks.events(&["--set", "engine.name=classic", &cat]).remove(0);
    assert_eq!(classic["engine"]["name"], "classic");
}

/// The demo runs the production worker on the embedded broker.
#[test]
fn the_demo_runs_with_the_papers_engine() {
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
        assert!(event["source"]["offset"].is_number(), "the event has the offset of its record");
        assert!((number(&event["score"]) - recomputed(event)).abs() < 1e-9);
    }
}

#[test]
fn a_policy_for_another_formula_is_refused_before_the_first_image() {
    let cat = photo("cat.jpg");
    let score = |formula: &str| {
        let formula = format!("method.policies.named.shop.formula={formula}");
        let settings = [
            "engine.name=classic",
            "method.aggregation.local_weight=1",
            "method.aggregation.mask_bonus=0.1",
            "method.policies.named.shop.score_min=4",
            "method.policies.default=shop",
            &formula,
        ];
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        command(&["score"]).args(settings).arg(&cat).output().unwrap()
    };
    let refused = score("paper");
    assert_eq!(refused.status.code(), Some(1));
    let errors = text(&refused.stderr);
    assert!(errors.contains("`paper`") && errors.contains("`release`"), "{errors}");
    assert!(score("release").status.success());
}

#[test]
fn a_problem_of_the_weights_is_reported_with_its_setting() {
    let networks = Networks::new();
    let cat = photo("cat.jpg");
    for (settings, parts) in [
        (
            &["engine.name=dog-iqa", "engine.dog_iqa.scorer="][..],
            &["engine.dog_iqa.scorer", "names no"],
        ),
        (&["engine.dog_iqa.scorer=no/such/folder"], &["engine.dog_iqa.scorer", "no/such/folder"]),
        (&["engine.dog_iqa.masks.points_per_side=0"], &["engine.dog_iqa.masks", "points_per_side"]),
        (
            &["engine.dog_iqa.rating.turns=user-only", "engine.dog_iqa.rating.image=last"],
            &["engine.dog_iqa.rating", "user-only"],
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
