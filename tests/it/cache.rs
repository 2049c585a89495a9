//! The cache of answers in the pipeline: what is a hit, what is a miss, and that a hit runs no
//! network. The file itself is covered in `src/cache`.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dog_iqa::cache::{self, AnswerCache};
use dog_iqa::checkpoints::metrics::load_all_parameters;
use dog_iqa::engine::{
    ClassicScorer, ClassicSegmenter, Engine, EngineLimits, ModelInfo, RunError, Scorer, Segmenter,
};
use dog_iqa::event::{ImageReference, QualityEvent};
use dog_iqa::imaging::{self, Crop, Picture};
use dog_iqa::method::{self, LevelDistribution, PolicySettings, RawMask};
use dog_iqa::metrics::Metric;
use dog_iqa::pipeline::{self, Journey, JourneyParts};
use dog_iqa::storage::{self, Stores};
use dog_iqa::stream::DeliveryMode;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::measures::golden_parameters;
use crate::small_networks::SmallNetworks;
use crate::stream::Scene;

/// Counts the inputs of a model.
struct Counted<M> {
    model: M,
    inputs: Arc<AtomicUsize>,
}

impl Segmenter for Counted<ClassicSegmenter> {
    type Input = <ClassicSegmenter as Segmenter>::Input;

    fn info(&self) -> ModelInfo {
        self.model.info()
    }

    fn prepare(&self, picture: &Picture) -> Result<Self::Input, RunError> {
        self.model.prepare(picture)
    }

    fn cost(input: &Self::Input) -> usize {
        ClassicSegmenter::cost(input)
    }

    fn segment(&self, batch: &[Self::Input]) -> Result<Vec<Vec<RawMask>>, RunError> {
        self.inputs.fetch_add(batch.len(), Ordering::Relaxed);
        self.model.segment(batch)
    }
}

impl Scorer for Counted<ClassicScorer> {
    type Input = <ClassicScorer as Scorer>::Input;

    fn info(&self) -> ModelInfo {
        self.model.info()
    }

    fn prepare(&self, crop: &Crop) -> Result<Self::Input, RunError> {
        self.model.prepare(crop)
    }

    fn cost(input: &Self::Input) -> usize {
        ClassicScorer::cost(input)
    }

    fn rate(&self, batch: &[Self::Input]) -> Result<Vec<LevelDistribution>, RunError> {
        self.inputs.fetch_add(batch.len(), Ordering::Relaxed);
        self.model.rate(batch)
    }
}

/// A folder with a cache, for several journeys one after the other.
struct Setup {
    folder: TempDir,
    /// Inputs of both models.
    inputs: Arc<AtomicUsize>,
    settings: pipeline::Settings,
    imaging: imaging::Settings,
    method: method::Settings,
    engine_version: &'static str,
}

impl Setup {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            inputs: Arc::default(),
            settings: pipeline::Settings { masks_in_events: true, ..pipeline::Settings::default() },
            imaging: imaging::Settings::default(),
            method: method::Settings::default(),
            engine_version: "1",
        }
    }

    fn cache(&self) -> Arc<AnswerCache> {
        let path = Some(self.folder.path().join("answers"));
        let settings = cache::Settings { path, ..cache::Settings::default() };
        Arc::new(AnswerCache::open(&settings).unwrap().unwrap())
    }

    /// Opens a journey without a cache.
    async fn journey(&self) -> Journey {
        let inputs = Arc::clone(&self.inputs);
        let version = self.engine_version;
        let open = move || {
            let segmenter = Counted { model: ClassicSegmenter::new(), inputs: Arc::clone(&inputs) };
            let scorer = Counted { model: ClassicScorer::new(7), inputs };
            Engine::new("counted", version, segmenter, scorer, EngineLimits::default()).unwrap()
        };
        let engine = tokio::task::spawn_blocking(open).await.unwrap();
        let measures =
            load_all_parameters(&self.settings.measures, Some(&golden_parameters())).unwrap();
        let storage = storage::Settings {
            file_roots: vec![photo("").into()],
            ..storage::Settings::default()
        };
        Journey::new(JourneyParts {
            settings: self.settings.clone(),
            imaging: self.imaging.clone(),
            method: self.method.clone(),
            stores: Stores::new(&storage).unwrap(),
            engine,
            measures: measures.into_iter().map(Arc::new).collect(),
        })
        .unwrap()
    }

    /// Assesses a photo with the cache. Returns the event and the number of inputs of models.
    async fn assess(&self, id: &str, name: &str) -> (QualityEvent, usize) {
        let journey = self.journey().await.with_cache(self.cache());
        let before = self.inputs.load(Ordering::Relaxed);
        let event = assess(&journey, id, name).await;
        (event, self.inputs.load(Ordering::Relaxed) - before)
    }
}

async fn assess(journey: &Journey, id: &str, name: &str) -> QualityEvent {
    let reference = ImageReference {
        id: id.to_owned(),
        ..ImageReference::new(format!("file://{}", photo(name)))
    };
    journey.assess(reference, None).await.unwrap()
}

/// Returns the event of a hit as it would be without the cache.
fn without_cache(hit: QualityEvent, like: &QualityEvent) -> QualityEvent {
    assert!(hit.cached && !like.cached);
    QualityEvent { cached: false, event_time: like.event_time, timings_ms: like.timings_ms, ..hit }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_runs_no_network_and_its_event_differs_only_in_times_and_ids() {
    let mut setup = Setup::new();
    setup.settings.measures = vec![Metric::Piqe];
    setup.settings.phash = true;
    let plain = assess(&setup.journey().await, "a", "coffee.jpg").await;
    let (miss, inputs) = setup.assess("a", "coffee.jpg").await;
    assert!(inputs > 1 && !miss.cached && miss.objects.len() > 1);
    // The cache changes nothing in the event of a miss.
    let same_times =
        QualityEvent { event_time: plain.event_time, timings_ms: plain.timings_ms, ..miss.clone() };
    assert_eq!(same_times, plain);
    // Also after a restart.
    let (hit, inputs) = setup.assess("a", "coffee.jpg").await;
    assert_eq!(inputs, 0);
    assert!(hit.timings_ms.fetch > 0.0 && hit.timings_ms.total >= hit.timings_ms.fetch);
    assert_eq!((hit.timings_ms.segment, hit.timings_ms.measure), (0.0, None));
    assert_eq!(without_cache(hit, &miss), miss);
    // Another reference to the same bytes has an event of its own.
    let (other, inputs) = setup.assess("b", "coffee.jpg").await;
    assert!(inputs == 0 && other.cached);
    assert!(other.event_id != miss.event_id && other.reference.id == "b");
    let (another, inputs) = setup.assess("b", "cat.jpg").await;
    assert!(inputs > 1 && !another.cached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_masks_are_those_of_the_new_settings() {
    let mut setup = Setup::new();
    let (miss, _) = setup.assess("a", "coffee.jpg").await;
    assert!(miss.verdict.is_none() && miss.objects[0].mask.is_some());
    setup.method.policies.default = Some("strict".to_owned());
    let strict = PolicySettings { score_min: Some(miss.score + 2.0), ..PolicySettings::default() };
    setup.method.policies.named.insert("strict".to_owned(), strict);
    setup.settings.masks_in_events = false;
    let (hit, inputs) = setup.assess("a", "coffee.jpg").await;
    assert!(inputs == 0 && hit.cached && hit.objects[0].mask.is_none());
    assert_eq!(hit.verdict.unwrap().outcome, method::PolicyOutcome::Reject);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_engine_or_setting_is_a_miss() {
    type Change = fn(&mut Setup);
    let changes: [Change; 8] = [
        |_| {},
        |setup| setup.engine_version = "2",
        |setup| setup.imaging.alpha = imaging::AlphaRule::Dropped,
        |setup| setup.settings.crop = imaging::CropMode::Mask,
        |setup| setup.method.regions.regions_max = 3,
        |setup| setup.method.aggregation.global_weight = 0.25,
        |setup| setup.settings.measures = vec![Metric::Piqe],
        |setup| setup.settings.phash = true,
    ];
    let mut setup = Setup::new();
    for change in changes {
        change(&mut setup);
        let (event, inputs) = setup.assess("a", "cat.jpg").await;
        assert!(inputs > 0 && !event.cached);
        let (event, inputs) = setup.assess("a", "cat.jpg").await;
        assert!(inputs == 0 && event.cached);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_image_above_a_lower_limit_is_refused() {
    let mut setup = Setup::new();
    setup.assess("a", "cat.jpg").await;
    setup.imaging.pixels_max = 1000;
    let journey = setup.journey().await.with_cache(setup.cache());
    let reference = ImageReference::new(format!("file://{}", photo("cat.jpg")));
    let failure = journey.assess(reference, None).await.unwrap_err();
    assert_eq!(failure.code, "decode.too_large");
}

/// A second delivery of the same records is answered from the cache, in the same transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_exactly_once_delivery_each_record_has_one_event_from_either_source() {
    let setup = Setup::new();
    let mut scene = Scene::new(2).await;
    scene.settings.delivery = DeliveryMode::ExactlyOnce;
    scene.settings.commit_interval = std::time::Duration::from_millis(50);
    scene.cache = Some(setup.cache());
    let worker = scene.start().await;
    scene.refer("first", 1, "a.png").await;
    scene.events(1).await;
    scene.refer("again", 50, "a.png").await;
    let events = scene.events(51).await;
    assert_eq!(crate::stream::ids(&events).len(), 51);
    let cached = |event: &&Value| event.get("cached") == Some(&Value::Bool(true));
    assert_eq!(events.iter().filter(cached).count(), 50);
    let scores: Vec<_> = events.iter().map(|event| event["score"].as_f64().unwrap()).collect();
    assert!(scores.iter().all(|score| (score - scores[0]).abs() < f64::EPSILON));
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.unanswered), (51, 0));
    assert!(summary.is_committed);
}

fn score(cache: &str, more: &[&str]) -> Output {
    score_command(cache, more).output().unwrap()
}

fn score_command(cache: &str, more: &[&str]) -> Command {
    let mut command = command(&["score", "--format", "jsonl", "--set"]);
    command.arg(format!("cache.path={cache}")).args(more);
    command
}

/// Checks without waiting long for brokers.
fn check(set: &str) -> Command {
    command(&["check", "--set", "kafka.probe_timeout=100ms", "--set", set])
}

fn events(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn cached(events: &[Value]) -> Vec<bool> {
    events.iter().map(|event| event.get("cached").is_some()).collect()
}

#[test]
fn networks_rate_a_photo_once_for_several_runs_of_the_command() {
    let networks = SmallNetworks::new();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("answers").display().to_string();
    let run = |more: &[&str]| {
        let mut command = score_command(&path, &[&photo("cat.jpg"), &photo("hopper.jpg")]);
        for setting in networks.settings() {
            command.args(["--set", &setting]);
        }
        events(&command.args(more).output().unwrap())
    };
    let first = run(&[]);
    assert_eq!(cached(&first), [false, false]);
    let second = run(&[]);
    assert_eq!(cached(&second), [true, true]);
    for (mut hit, miss) in second.into_iter().zip(&first) {
        for field in ["event_time", "timings_ms"] {
            hit[field] = miss[field].clone();
        }
        hit.as_object_mut().unwrap().remove("cached");
        assert_eq!(hit.to_string(), miss.to_string(), "also in the digits of every number");
    }
    let changed = run(&["--set", "engine.dog_iqa.rating.image='last'"]);
    assert_eq!(cached(&changed), [false, false]);
}

#[test]
fn a_second_process_scores_without_the_cache_and_a_second_worker_does_not_start() {
    let setup = Setup::new();
    let held = setup.cache();
    let path = setup.folder.path().join("answers").display().to_string();
    let output = score(&path, &[&photo("cat.jpg")]);
    assert_eq!(cached(&events(&output)), [false]);
    assert!(text(&output.stderr).contains("is in use; scoring without it"));
    let set = format!("cache.path={path}");
    let output =
        command(&["run", "--set", &set, "--set", "telemetry.server.enabled=false"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("is in use by another process") && message.contains("cache.path"));
    // `check` does not open the file.
    let report = check(&set).output().unwrap();
    let report = text(&report.stdout);
    assert!(report.contains(&format!("ok       cache: {path} can be written")), "{report}");
    assert!(report.contains(", cache 48.0 MiB, "), "{report}");
    drop(held);
    assert_eq!(cached(&events(&score(&path, &[&photo("cat.jpg")]))), [false]);
    assert_eq!(cached(&events(&score(&path, &[&photo("cat.jpg")]))), [true]);
}

/// A limit on the size of files acts like a full disk. Its signal is ignored, so that the write
/// fails instead.
fn limited(blocks: u32, score: &Command) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut limited = Command::new("bash");
    limited.args(["-c", &script]).arg(score.get_program()).args(score.get_args());
    limited.output().unwrap()
}

#[test]
fn a_full_disk_switches_the_cache_off_and_scoring_continues() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("answers").display().to_string();
    let is_off = "the cache of answers is off until a restart";
    let (known, new) = (photo("cat.jpg"), photo("coffee.jpg"));
    // No room for an empty file, then for the second answer.
    let output = limited(16, &score_command(&path, &[&known]));
    assert!(text(&output.stderr).contains(is_off), "{}", text(&output.stderr));
    assert_eq!(cached(&events(&output)), [false]);
    assert_eq!(cached(&events(&score(&path, &[&known]))), [false]);
    let output = limited(80, &score_command(&path, &[&known, &new]));
    assert!(text(&output.stderr).contains(is_off), "{}", text(&output.stderr));
    assert_eq!(cached(&events(&output)), [true, false]);
    // With room again, nothing is lost but the answers that were not written.
    let output = score(&path, &[&known, &new]);
    assert_eq!(cached(&events(&output)), [true, false]);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn check_reports_a_folder_that_cannot_be_used_and_a_disk_that_is_too_small() {
    let folder = TempDir::new().unwrap();
    let report = |path: &str, more: &[&str]| {
        let output = check(&format!("cache.path={path}")).args(more).output().unwrap();
        text(&output.stdout).to_owned()
    };
    let absent = folder.path().join("absent/answers").display().to_string();
    let text = report(&absent, &[]);
    assert!(text.contains("broken   cache: ") && text.contains("create its folder"), "{text}");
    let is_folder = report(&folder.path().display().to_string(), &[]);
    assert!(is_folder.contains("it is a folder"), "{is_folder}");
    let path = folder.path().join("answers").display().to_string();
    let large = report(&path, &["--set", "cache.bytes_max=1000 PB"]);
    assert!(large.contains("warning  cache: ") && large.contains("cache.bytes_max"), "{large}");
    assert!(!folder.path().join("answers").exists(), "check writes nothing");
}
