//! Several scorers in one engine: one for the whole image and another for its objects, and
//! ensembles.

use std::time::Duration;

use dog_iqa::engine::{Engine, Scorers};
use dog_iqa::imaging::{Crop, CropSource, Picture, crop_whole};
use dog_iqa::method::LevelDistribution;
use image::{Rgb, RgbImage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{command, photo, text};
use crate::clip::clip;
use crate::conformance;
use crate::scoring_server::{ScoringServer, engine_of};
use crate::small_networks::SmallNetworks;

async fn open(scorers: Value, server: &ScoringServer) -> Engine {
    let (scorers, http) = (Scorers::deserialize(scorers).unwrap(), server.settings());
    tokio::task::spawn_blocking(move || engine_of(scorers, http)).await.unwrap()
}

async fn rate(engine: &Engine, source: CropSource) -> LevelDistribution {
    let shade = |x: u32, y: u32| Rgb([x, 2 * y, x + y].map(|value| value.to_le_bytes()[0]));
    let crop = Crop { source, ..crop_whole(&Picture::from_rgb(RgbImage::from_fn(90, 70, shade))) };
    engine.rate(crop, Duration::from_mins(5)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensemble_is_the_weighted_mean_and_each_part_is_rated_by_its_own_scorers() {
    let server = ScoringServer::start();
    let folders = ["resnet", "vit"].map(clip);
    let [resnet, vit] = [0, 1].map(|index| folders[index].path().to_str().unwrap());
    let (whole, object) = (CropSource::Whole, CropSource::Region(3));
    let mut alone = Vec::new();
    for scorer in [json!(resnet), json!(vit), json!("http")] {
        alone.push(rate(&open(scorer, &server).await, whole).await);
    }
    let ensemble = json!([
        {"model": resnet, "weight": 0.5},
        {"model": vit, "weight": 0.125},
        {"model": "http", "weight": 0.375},
    ]);
    let engine = open(json!({"global": ensemble, "objects": vit}), &server).await;
    let mean = rate(&engine, whole).await;
    for (level, probability) in mean.probabilities().iter().enumerate() {
        let of = |scorer: usize| alone[scorer].probabilities()[level];
        let expected = 0.5 * of(0) + 0.125 * of(1) + 0.375 * of(2);
        assert!((probability - expected).abs() < 1e-12, "{level}: {probability}, {expected}");
    }
    assert_eq!((mean.raw(), mean.off_level()), (None, None), "scales differ, and two know none");
    let unreported = mean.served().unwrap().unreported.unwrap();
    assert!((unreported - 0.0375).abs() < 1e-6, "{unreported}");
    assert_eq!(rate(&engine, object).await, alone[1], "one scorer keeps all it knows");
    let info = engine.info();
    assert_eq!(
        info.scorer.name,
        "global=0.5*clip-iqa-custom+0.125*clip-iqa-custom+0.375*brightness,\
         objects=clip-iqa-custom"
    );
    let shares: Vec<_> = info.scorers.iter().map(|share| (share.global, share.objects)).collect();
    assert_eq!(shares, [(0.5, 0.0), (0.125, 1.0), (0.375, 0.0)]);
    assert!(engine.server().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_scorers_conform() {
    let server = ScoringServer::start();
    let folders = ["resnet", "vit"].map(clip);
    let [resnet, vit] = [0, 1].map(|index| folders[index].path().to_str().unwrap());
    let ensemble = json!([
        {"model": resnet, "weight": 0.75},
        {"model": "http", "weight": 0.25},
    ]);
    for scorers in [json!("http"), ensemble.clone(), json!({"global": vit, "objects": ensemble})] {
        let engine = open(scorers, &server).await;
        conformance::scorers(&engine, 7, |a, b| a == b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_changes_with_every_weight_and_every_scorer() {
    let server = ScoringServer::start();
    let folders = ["resnet", "vit"].map(clip);
    let [resnet, vit] = [0, 1].map(|index| folders[index].path().to_str().unwrap());
    let pair = |first: f64| {
        json!([
            {"model": resnet, "weight": first},
            {"model": vit, "weight": 1.0 - first},
        ])
    };
    let mut versions = Vec::new();
    for scorers in [
        json!(resnet),
        pair(0.5),
        pair(0.25),
        json!({"global": resnet, "objects": vit}),
        json!({"global": vit, "objects": resnet}),
    ] {
        versions.push(open(scorers, &server).await.info().version.clone());
    }
    let distinct: std::collections::BTreeSet<&String> = versions.iter().collect();
    assert_eq!(distinct.len(), versions.len(), "{versions:?}");
}

/// Returns the event of a photo with these settings.
fn event(networks: &SmallNetworks, more: &[String]) -> Value {
    let mut command = command(&["score", "--format", "jsonl"]);
    for setting in networks.settings().iter().chain(more) {
        command.args(["--set", setting]);
    }
    let output = command.arg(photo("cat.jpg")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(text(&output.stdout).trim()).unwrap()
}

#[test]
fn an_event_names_every_scorer_with_its_digest_and_has_the_ratings_of_each() {
    let networks = SmallNetworks::new();
    let folder = clip("resnet");
    let clip = folder.path().display();
    let settings = networks.settings();
    let owl = settings[1].strip_prefix("engine.dog_iqa.scorer=").unwrap();
    let by_owl = event(&networks, &[]);
    let by_clip = event(&networks, &[format!("engine.dog_iqa.scorer={clip}")]);
    let pair = format!("engine.dog_iqa.scorer={{global=\"{owl}\",objects=\"{clip}\"}}");
    let both = event(&networks, &[pair]);
    assert_eq!(both["global"], by_owl["global"]);
    assert_eq!(both["objects"], by_clip["objects"]);
    let engine = &both["engine"];
    let name = engine["scorer"].as_str().unwrap();
    assert!(name.starts_with("global=mplug-owl3-241101-custom,objects=clip-iqa-custom/"), "{name}");
    let scorers = engine["scorers"].as_array().unwrap();
    for (scorer, (alone, weights)) in
        scorers.iter().zip([(&by_owl, json!([1.0, 0.0])), (&by_clip, json!([0.0, 1.0]))])
    {
        assert_eq!(scorer["scorer"], alone["engine"]["scorer"]);
        assert_eq!(json!([scorer["global"], scorer["objects"]]), weights);
        // The first file is the segmenter's.
        assert_eq!(scorer["weights"], json!([alone["engine"]["weights"][1]]));
        assert!(alone["engine"].get("scorers").is_none());
    }
    assert_eq!(engine["weights"].as_array().unwrap().len(), 3);
}

#[test]
fn check_names_every_scorer_and_refuses_contradictions() {
    let networks = SmallNetworks::new();
    let folder = clip("resnet");
    let clip = folder.path().display();
    let check = |more: &[String]| {
        let mut command = command(&["check"]);
        let kafka = ["kafka.bootstrap_servers=127.0.0.1:9", "kafka.probe_timeout=10ms"];
        for setting in networks.settings().iter().chain(more) {
            command.args(["--set", setting]);
        }
        let output =
            command.args(kafka.map(|setting| format!("--set={setting}"))).output().unwrap();
        text(&output.stdout).to_owned() + text(&output.stderr)
    };
    let owl = networks.settings()[1].strip_prefix("engine.dog_iqa.scorer=").unwrap().to_owned();
    let ensemble = |weights: [f64; 2]| {
        let [first, second] = weights;
        format!(
            "engine.dog_iqa.scorer=[{{model=\"{owl}\",weight={first}}},\
             {{model=\"{clip}\",weight={second}}}]"
        )
    };
    let lines = check(&[ensemble([0.75, 0.25])]);
    for part in ["mplug-owl3-241101-custom", "clip-iqa-custom"] {
        let line = lines.lines().find(|line| line.contains(&format!(" scorer: {part}/"))).unwrap();
        assert!(line.starts_with("ok "), "{line}");
    }
    let in_whole = "engine.dog_iqa.rating.crop_context=whole".to_owned();
    // Only the objects need it.
    let swapped = format!("engine.dog_iqa.scorer={{global=\"{clip}\",objects=\"{owl}\"}}");
    let lines = check(&[swapped, in_whole.clone()]);
    assert!(
        lines.lines().any(|line| line.starts_with("ok ") && line.contains(" engine: ")),
        "{lines}"
    );
    let generated = "engine.dog_iqa.rating.level=generated".to_owned();
    for (settings, part) in [
        (
            vec![ensemble([0.75, 0.75])],
            "engine.dog_iqa.scorer: the weights of an ensemble sum to 1.5",
        ),
        (vec![ensemble([0.5, 0.5]), generated], "needs one scorer"),
        (
            vec![
                format!("engine.dog_iqa.scorer={{global=\"{owl}\",objects=\"{clip}\"}}"),
                in_whole.clone(),
            ],
            "reads one image; rate the objects by an mPLUG-Owl3",
        ),
        (vec!["engine.dog_iqa.scorer={global=\"a\"}".to_owned()], "missing field `objects`"),
    ] {
        let lines = check(&settings);
        assert!(lines.contains(part), "{part}: {lines}");
    }
}
