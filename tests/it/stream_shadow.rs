//! A second engine scores a share of the images into a topic of its own. Whatever it does, the
//! answers stay the same.

use std::collections::HashSet;
use std::fs;
use std::mem;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use dog_iqa::engine::{self, Engine, EngineName};
use dog_iqa::method;
use dog_iqa::stream::{DeliveryMode, Settings, Shadow};
use rdkafka::Message;
use serde_json::{Value, json};

use crate::cli::{command, text};
use crate::noop::{self, Trouble};
use crate::stream::{Scene, counter, header, ids};

const TOPIC: &str = "image-quality-shadow";
/// Width of the image `a.png`.
const WIDTH: u32 = 24;
/// The ids of `one-0` to `one-19` in half of all ids: the hash must not change between versions.
const HALF: [&str; 9] =
    ["one-0", "one-4", "one-6", "one-8", "one-11", "one-12", "one-14", "one-17", "one-18"];

/// Adds a shadow with this engine to the scene.
async fn add_shadow(
    scene: &mut Scene,
    share: f64,
    images_max: usize,
    engine: impl FnOnce() -> Engine + Send + 'static,
) {
    scene.broker.cluster().create_topic(TOPIC, 1, 1).unwrap();
    scene.settings.shadow_topic = Some(TOPIC.to_owned());
    let engine = tokio::task::spawn_blocking(engine).await.unwrap();
    let of_answers = mem::replace(&mut scene.engine, engine);
    let journey = scene.journey().await;
    scene.engine = of_answers;
    let images_max = NonZeroUsize::new(images_max).unwrap();
    scene.shadow = Some(Shadow { journey, share, images_max });
}

fn classic() -> Engine {
    let settings = engine::Settings { name: EngineName::Classic, ..engine::Settings::default() };
    let standard = method::Settings::default().check().unwrap();
    Engine::open(&settings, &standard).unwrap()
}

/// Removes what differs between two runs: the clock and durations.
fn without_times(mut events: Vec<Value>) -> Vec<Value> {
    for event in &mut events {
        let event_fields = event.as_object_mut().unwrap();
        event_fields.remove("event_time").unwrap();
        event_fields.remove("timings_ms").unwrap();
        event_fields["source"].as_object_mut().unwrap().remove("timestamp").unwrap();
    }
    events.sort_by_key(|event| event["source"]["offset"].as_i64());
    events
}

fn dropped(reason: &str) -> u64 {
    counter(&format!("dogiqa_shadow_dropped_total{{reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_scored_again_in_a_topic_of_its_own_and_the_answers_stay_the_same() {
    let alone = Scene::new(1).await;
    let worker = alone.start().await;
    alone.refer("one", 20, "a.png").await;
    let expected = without_times(alone.events(20).await);
    worker.stop().await;

    let mut scene = Scene::new(1).await;
    add_shadow(&mut scene, 0.5, 100, classic).await;
    let worker = scene.start().await;
    scene.refer("one", 20, "a.png").await;
    let answers = scene.events(20).await;
    let records = scene.read(&[TOPIC], HALF.len()).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters, summary.unanswered), (20, 0, 0));
    assert_eq!(without_times(answers.clone()), expected);

    let of_shadow = scene.events_of(&[TOPIC], HALF.len()).await;
    assert_eq!(ids(&of_shadow), HALF.map(str::to_owned).into());
    for (record, event) in records.iter().zip(&of_shadow) {
        let id = event["reference"]["id"].as_str().unwrap();
        let answer = answers.iter().find(|answer| answer["reference"]["id"] == id).unwrap();
        assert_eq!(
            (&event["reference"], &event["source"]),
            (&answer["reference"], &answer["source"])
        );
        assert_eq!(
            (&event["engine"]["name"], &answer["engine"]["name"]),
            (&"classic".into(), &"no-op".into())
        );
        assert_ne!(event["event_id"], answer["event_id"]);
        assert_eq!(record.key().unwrap(), id.as_bytes());
        assert_eq!(header(record, "ce_id").unwrap(), event["event_id"]);
        assert_eq!(header(record, "dogiqa.shadow").unwrap(), "true");
    }

    // Another group receives all records again, as after a crash, and writes transactions.
    let again = Settings {
        group_id: "again".to_owned(),
        delivery: DeliveryMode::ExactlyOnce,
        ..scene.settings.clone()
    };
    let worker = scene.start_with(again).await;
    let twice = scene.events_of(&[TOPIC], 2 * HALF.len()).await;
    worker.stop().await;
    let distinct: HashSet<_> = twice.iter().map(|event| event["event_id"].as_str()).collect();
    assert_eq!((twice.len(), distinct.len()), (2 * HALF.len(), HALF.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_delays_no_answer_and_no_stop() {
    let mut scene = Scene::new(1).await;
    let hangs = || noop::engine(&[(WIDTH, Trouble::Blocks(Duration::from_secs(30)))]);
    add_shadow(&mut scene, 1.0, 2, hangs).await;
    let (full, stopped) = (dropped("full"), dropped("stopped"));
    let started = Instant::now();
    let worker = scene.start().await;
    scene.refer("one", 50, "a.png").await;
    assert_eq!(ids(&scene.events(50).await).len(), 50);
    assert!(worker.health.is_ready());
    let summary = worker.stop().await;
    assert!(started.elapsed() < Duration::from_secs(30), "the shadow's image was awaited");
    assert_eq!((summary.events, summary.unanswered, summary.is_committed), (50, 0, true));
    assert_eq!(scene.written(TOPIC).await, 0);
    assert!(dropped("full") >= full + 48, "two images of 50 had room");
    assert!(dropped("stopped") >= stopped + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_fails_or_loses_its_engine_changes_no_answer() {
    let failed = || counter("dogiqa_shadow_failed_total{code=\"segment.failed\"}");
    let mut scene = Scene::new(1).await;
    add_shadow(&mut scene, 1.0, 100, || noop::engine(&[(WIDTH, Trouble::Fails)])).await;
    let before = failed();
    let worker = scene.start().await;
    scene.refer("one", 20, "a.png").await;
    assert_eq!(ids(&scene.events(20).await).len(), 20);
    crate::stream::until("the failures are counted", || failed() >= before + 20).await;
    assert!(worker.health.is_ready());
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters, summary.unanswered), (20, 0, 0));

    let mut scene = Scene::new(1).await;
    add_shadow(&mut scene, 1.0, 100, || noop::engine(&[(WIDTH, Trouble::LosesDevice)])).await;
    let (lost, before) =
        (|| counter("dogiqa_shadow_failed_total{code=\"engine.lost\"}"), dropped("engine_lost"));
    let lost_before = lost();
    let worker = scene.start().await;
    scene.refer("one", 1, "a.png").await;
    crate::stream::until("the engine is lost", || lost() > lost_before).await;
    scene.refer("two", 10, "a.png").await;
    assert_eq!(ids(&scene.events(11).await).len(), 11);
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (11, 0));
    assert!(dropped("engine_lost") >= before + 10);
    assert_eq!(scene.written(TOPIC).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_start_without_the_topic_of_its_shadow() {
    let mut scene = Scene::new(1).await;
    add_shadow(&mut scene, 1.0, 1, || noop::engine(&[])).await;
    let absent = Settings { shadow_topic: Some("absent".to_owned()), ..scene.settings.clone() };
    let error = scene.start_with(absent).await.end().await.unwrap_err().to_string();
    assert!(error.contains("topic absent does not exist"), "{error}");
    let unset = Settings { shadow_topic: None, ..scene.settings.clone() };
    let error = scene.start_with(unset).await.end().await.unwrap_err().to_string();
    assert!(error.contains("kafka.shadow_topic"), "{error}");
}

#[test]
fn check_opens_the_shadow_and_counts_its_memory() {
    let check = |settings: &[&str]| {
        let mut command = command(&["check", "--set", "engine.name=classic"]);
        let kafka = ["kafka.bootstrap_servers=127.0.0.1:9", "kafka.probe_timeout=10ms"];
        for setting in kafka.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        text(&command.output().unwrap().stdout).to_owned()
    };
    let memory = |output: &str| {
        let line = output.lines().find(|line| line.contains("memory: ")).unwrap().to_owned();
        assert!(line.contains("shadow pictures") == line.contains("shadow events"), "{line}");
        line.contains("shadow pictures")
    };
    let shadow = ["engine.shadow.name=classic", "kafka.shadow_topic=shadow"];
    let with_shadow = check(&shadow);
    assert!(memory(&with_shadow), "{with_shadow}");
    assert!(with_shadow.contains("shadow engine: classic"), "{with_shadow}");
    assert!(!memory(&check(&[])));
    let without_topic = check(&shadow[..1]);
    assert!(without_topic.contains("set kafka.shadow_topic"), "{without_topic}");
    let without_weights =
        check(&["engine.shadow.dog_iqa.scorer=absent.gguf", "kafka.shadow_topic=shadow"]);
    let line = without_weights.lines().find(|line| line.contains("engine.shadow")).unwrap();
    assert!(line.starts_with("broken"), "{line}");
}

#[test]
fn evaluate_compares_the_events_of_two_engines() {
    let example: Value =
        serde_json::from_str(include_str!("../../schemas/examples/quality-event.json")).unwrap();
    let lines = |scores: &[(&str, f64, &str)]| {
        let event = |(id, score, outcome): &(&str, f64, &str)| {
            let mut event = example.clone();
            event["reference"]["id"] = json!(id);
            event["score"] = json!(score);
            event["verdict"] = json!({"policy": "shop", "outcome": outcome, "reasons": []});
            event.to_string()
        };
        scores.iter().map(event).collect::<Vec<_>>().join("\n")
    };
    let scores = [("a", 1.0, "pass"), ("b", 2.0, "pass"), ("c", 3.0, "pass"), ("d", 4.0, "pass")];
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.jsonl"), folder.path().join("second.jsonl"));
    fs::write(&first, lines(&[&scores[..], &[("e", 5.0, "pass"), ("f", 6.0, "pass")]].concat()))
        .unwrap();
    let more = [("e", 6.0, "reject"), ("f", 7.0, "pass"), ("g", 1.0, "pass")];
    let higher = scores.map(|(id, score, outcome)| (id, score + 1.0, outcome));
    fs::write(&second, lines(&[&higher[..], &more].concat())).unwrap();

    let files = ["--engines", first.to_str().unwrap(), second.to_str().unwrap()];
    let run = |options: &[&str]| command(&["evaluate"]).args(options).output().unwrap();
    let output = run(&[&files[..], &["--format", "json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&figures["images"], &figures["only_second"]), (&json!(6), &json!(1)));
    for name in ["srcc", "plcc", "mean_difference"] {
        assert!((figures[name].as_f64().unwrap() - 1.0).abs() < 1e-12, "{figures}");
    }
    assert_eq!(figures["changed_verdicts_share"], json!(1.0 / 6.0));
    let table = run(&files);
    assert!(text(&table.stdout).contains("changed verdicts"), "{}", text(&table.stdout));
    let one_file = run(&files[..2]);
    assert_eq!(one_file.status.code(), Some(2), "{}", text(&one_file.stderr));
    let with_labels = run(&[&["csv", "labels.csv"], &files[..]].concat());
    assert_eq!(with_labels.status.code(), Some(2), "{}", text(&with_labels.stderr));
}
