//! Hand-crafted metrics in quality events: from `dogiqa score` and from the worker, compared with
//! the values of an independent implementation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use dog_iqa::checkpoints::metrics::{
    LoadedParameters, PublishedParameters, load_all_parameters, load_parameters,
};
use dog_iqa::event::schema;
use dog_iqa::metrics::{Metric, measure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cli::{command, text};
use crate::golden_folders::announce;
use crate::goldens::picture;
use crate::stream::{Scene, counter, header, png};

const ALL: &str = "niqe,brisque,biqi,bliinds2,piqe";
/// Largest relative difference to the reference: that of `src/metrics/goldens.rs`.
const TOLERANCE: f64 = 1e-7;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/metrics")
}

/// Returns the folder of synthetic parameters.
pub(crate) fn golden_parameters() -> PathBuf {
    goldens().join("parameters")
}

/// Returns the path of a photo for which every metric is defined.
fn small_photo() -> String {
    goldens().join("images/astronaut_noise.png").display().to_string()
}

/// Returns the setting that names a folder of parameters.
fn parameters_in(folder: &Path) -> String {
    format!("pipeline.measure_parameters={}", folder.display())
}

fn score(arguments: &[&str], parameters: &Path) -> Output {
    let mut command = command(&["score"]);
    command.args(arguments).args(["--set", &parameters_in(parameters)]);
    command.output().unwrap()
}

fn events(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn start_of_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes)).chars().take(8).collect()
}

/// Returns the version of a metric with these parameters, computed as `sha256sum` does.
fn version(metric: Metric, folder: &Path) -> String {
    let files = metric.parameter_files().iter().map(|file| {
        let bytes = fs::read(folder.join(metric.name()).join(file)).unwrap();
        (*file, bytes)
    });
    let files: Vec<_> = files.collect();
    match &files[..] {
        [] => "1".to_owned(),
        [(_, bytes)] => format!("1/{}", start_of_digest(bytes)),
        several => {
            let line = |(name, bytes): &(&str, Vec<u8>)| {
                format!("{}  {name}\n", hex::encode(Sha256::digest(bytes)))
            };
            let lines: String = several.iter().map(line).collect();
            format!("1/{}", start_of_digest(lines.as_bytes()))
        }
    }
}

/// Every value equals that of the independent implementation, or has a reason where the
/// latter has none.
#[test]
fn score_prints_the_measures_of_an_image_as_the_reference_computes_them() {
    let expected: Value =
        serde_json::from_slice(&fs::read(goldens().join("expected.json")).unwrap()).unwrap();
    let cases = expected["images"].as_array().unwrap();
    let paths = cases.iter().map(|case| goldens().join(case["file"].as_str().unwrap()));
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    let mut arguments = vec!["--format", "json", "--measure", ALL];
    arguments.extend(paths.iter().map(String::as_str));
    let events = events(&score(&arguments, &golden_parameters()));
    assert_eq!(events.len(), cases.len());

    let documents = schema::documents();
    let schema = documents.iter().find(|(name, _)| name == "quality-event.schema.json").unwrap();
    let schema = jsonschema::validator_for(&schema.1).unwrap();
    let (mut values, mut reasons) = (0, 0);
    for (event, case) in events.iter().zip(cases) {
        assert!(schema.is_valid(event), "{event:#}");
        assert!(event["timings_ms"]["measure"].as_f64().unwrap() > 0.0);
        let measures = event["measures"].as_array().unwrap();
        assert_eq!(measures.len(), Metric::ALL.len());
        for (entry, metric) in measures.iter().zip(Metric::ALL) {
            assert_eq!(entry["name"], metric.name());
            assert_eq!(entry["better"], "lower");
            assert_eq!(entry["version"], version(metric, &golden_parameters()));
            let name = format!("{metric} of {}", case["file"]);
            let Some(expected) = case[metric.name()]["score"].as_f64() else {
                assert!(entry.get("value").is_none(), "{name}: {entry}");
                assert!(!entry["reason"].as_str().unwrap().is_empty(), "{name}");
                reasons += 1;
                continue;
            };
            let value = entry["value"].as_f64().unwrap_or_else(|| panic!("{name}: {entry}"));
            let error = (value - expected).abs() / expected.abs().max(1.0);
            assert!(error <= TOLERANCE, "{name}: {value}, expected {expected}");
            assert!(entry.get("reason").is_none());
            values += 1;
        }
    }
    assert!(values > 35 && reasons > 5, "{values} values, {reasons} reasons");
}

#[test]
fn an_image_without_a_value_has_its_reason_and_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("tiny.png"), png(8, 8)).unwrap();
    fs::write(at("flat.png"), png(300, 300)).unwrap();
    let images = [at("tiny.png"), at("flat.png")];
    let arguments = ["--format", "json", "--measure", "piqe,niqe", &images[0], &images[1]];
    let events = events(&score(&arguments, &golden_parameters()));
    let reason = |image: usize, measure: usize| {
        events[image]["measures"][measure]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason(0, 0), "the image has 8×8 px, the metric needs 16×16");
    assert_eq!(reason(0, 1), "the image has 8×8 px, the metric needs 96×96");
    assert_eq!(events[1]["measures"][0]["value"], 100.0, "PIQE's value of a flat image");
    assert!(reason(1, 1).contains("structure in every direction"), "{}", reason(1, 1));
    assert!(events.iter().all(|event| event["score"].as_f64().unwrap() >= 1.0));
}

#[test]
fn measures_come_from_the_flag_else_from_the_setting_and_are_columns_of_csv() {
    let photo = small_photo();
    let run = |arguments: &[&str], setting: Option<&str>| {
        let mut command = command(&["score", &photo]);
        command.args(arguments).args(["--set", &parameters_in(&golden_parameters())]);
        if let Some(setting) = setting {
            command.env("DOGIQA_PIPELINE__MEASURES", setting);
        }
        command.output().unwrap()
    };
    let names = |output: &Output| -> Vec<String> {
        let measures = events(output)[0]["measures"].as_array().cloned().unwrap_or_default();
        measures.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let json = ["--format", "json"];
    assert!(names(&run(&json, None)).is_empty());
    assert_eq!(names(&run(&json, Some("[\"piqe\"]"))), ["piqe"]);
    let flag = [&json[..], &["--measure", "brisque"]].concat();
    assert_eq!(names(&run(&flag, Some("[\"piqe\"]"))), ["brisque"]);

    let csv = run(&["--format", "csv", "--measure", "piqe"], None);
    let (head, line) = text(&csv.stdout).trim_end().split_once('\n').unwrap();
    assert!(head.ends_with(",outcome,reasons,piqe"), "{head}");
    let value: f64 = line.rsplit(',').next().unwrap().parse().unwrap();
    let expected = measure(
        picture(Path::new(&photo)).pixels(),
        &load_parameters(Metric::Piqe, None).unwrap().parameters,
    );
    assert!((value - expected.unwrap()).abs() < 1e-12, "{value}");
}

#[test]
fn an_unknown_or_repeated_metric_is_refused() {
    let photo = small_photo();
    let unknown = score(&["--measure", "vmaf", &photo], &golden_parameters());
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("`vmaf` is no metric"), "{}", text(&unknown.stderr));
    let repeated = score(&["--measure", "piqe,piqe", &photo], &golden_parameters());
    assert_eq!(repeated.status.code(), Some(1));
    let errors = text(&repeated.stderr);
    assert!(errors.contains("pipeline.measures: piqe is named twice"), "{errors}");
}

#[test]
fn missing_parameters_stop_score_and_the_worker_and_name_the_command_that_fetches_them() {
    let home = tempfile::tempdir().unwrap();
    let photo = small_photo();
    let run = ["run", "--set", "telemetry.server.address=127.0.0.1:0"];
    for words in [&["score", &photo][..], &run[..]] {
        let mut command = command(words);
        command.args(["--set", "pipeline.measures=['piqe', 'biqi']"]);
        command.env("HF_HOME", home.path()).env_remove("HF_HUB_CACHE");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let errors = format!("{}{}", text(&output.stdout), text(&output.stderr));
        for part in ["pipeline.measures", "model_89", "`dogiqa models pull biqi`"] {
            assert!(errors.contains(part), "{words:?} does not mention {part}: {errors}");
        }
    }
}

#[test]
fn check_names_each_measure_with_its_version_and_each_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    let niqe = folder.path().join("niqe");
    fs::create_dir(&niqe).unwrap();
    let file = "niqe/modelparameters.mat";
    fs::copy(golden_parameters().join(file), folder.path().join(file)).unwrap();
    let mut command = command(&["check", "--set", &parameters_in(folder.path())]);
    command.args(["--set", "pipeline.measures=['piqe', 'niqe', 'brisque', 'biqi']"]);
    command.args(["--set", "kafka.bootstrap_servers=127.0.0.1:9"]);
    let output = command.args(["--set", "kafka.probe_timeout=10ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(" measure: ")).collect();
    let version = version(Metric::Niqe, &golden_parameters());
    assert_eq!(lines[0], "ok       measure: piqe 1 loads");
    assert_eq!(lines[1], format!("ok       measure: niqe {version} loads"));
    for (line, metric) in lines[2..].iter().zip(["brisque", "biqi"]) {
        assert!(line.starts_with("broken"), "{line}");
        assert!(line.contains(&format!("`dogiqa models pull {metric}`")), "{line}");
    }
    assert_eq!(lines.len(), 4);
    let engine = shown.lines().find(|line| line.contains(" engine: ")).unwrap();
    assert!(engine.starts_with("ok "), "missing parameters do not hide the engine: {engine}");
    assert!(shown.contains(", measures "), "{shown}");
}

fn loaded(metrics: &[Metric]) -> Vec<Arc<LoadedParameters>> {
    let loaded = load_all_parameters(metrics, Some(&golden_parameters())).unwrap();
    loaded.into_iter().map(Arc::new).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_publishes_measures_and_an_undefined_one_is_no_dead_letter() {
    let mut scene = Scene::new(1).await;
    scene.measures = loaded(&[Metric::Piqe, Metric::Niqe]);
    let photo = fs::read(goldens().join("images/coffee_blur.png")).unwrap();
    scene.objects = vec![("photo.png".to_owned(), photo), ("dot.png".to_owned(), png(1, 1))];
    let worker = scene.start().await;
    for object in ["photo.png", "dot.png", "broken.png"] {
        scene.refer(object, 1, object).await;
    }
    let events = scene.events(2).await;
    let letters = scene.dead_letters(1).await;
    assert_eq!(letters.len(), 1, "only the image that cannot be decoded");
    assert_eq!(header(&letters[0], "dogiqa.error.stage").unwrap(), "decode");
    let measures = |id: &str| {
        let event = events.iter().find(|event| event["reference"]["id"] == id).unwrap();
        event["measures"].as_array().unwrap().clone()
    };
    let pixels = picture(&goldens().join("images/coffee_blur.png"));
    for (entry, loaded) in measures("photo.png-0").iter().zip(&scene.measures) {
        let expected = measure(pixels.pixels(), &loaded.parameters).unwrap();
        assert!((entry["value"].as_f64().unwrap() - expected).abs() < 1e-12, "{entry}");
    }
    let undefined = measures("dot.png-0");
    assert_eq!(undefined.len(), 2);
    assert!(undefined.iter().all(|entry| entry.get("value").is_none()), "{undefined:?}");
    assert!(counter("dogiqa_stage_duration_seconds_count{stage=\"measure\"}") >= 2);
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (2, 1));
}

/// Needs the authors' files, in the folder that `DOGIQA_PARAMETERS` names.
#[test]
fn with_the_authors_parameters_the_version_names_the_published_digest() {
    let Some(folder) = std::env::var_os("DOGIQA_PARAMETERS").map(PathBuf::from) else {
        announce("measures with the authors' parameters: DOGIQA_PARAMETERS is not set, skipped\n");
        return;
    };
    let photo = small_photo();
    let events = events(&score(&["--format", "json", "--measure", ALL, &photo], &folder));
    let pixels = picture(Path::new(&photo));
    let measures = events[0]["measures"].as_array().unwrap();
    assert_eq!(measures.len(), Metric::ALL.len());
    for (entry, metric) in measures.iter().zip(Metric::ALL) {
        let loaded = load_parameters(metric, Some(&folder)).unwrap();
        let expected = measure(pixels.pixels(), &loaded.parameters).unwrap();
        let value = entry["value"].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-12, "{metric}: {value}, expected {expected}");
        if let Some([file]) = PublishedParameters::of(metric).map(|published| published.files) {
            assert_eq!(
                entry["version"],
                format!("1/{}", file.sha256.get(..8).unwrap()),
                "{metric}"
            );
        }
    }
}
