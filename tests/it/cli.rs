//! The command line of the built binary: its output, its errors and its exit codes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use dog_iqa::cli::Cli;
use serde_json::Value;

fn dogiqa(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogiqa"));
    command.args(arguments).env_remove("DOGIQA_CONFIG");
    command
}

pub(crate) fn photo(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos").join(name);
    path.to_str().unwrap().to_owned()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The help page of a command.
pub(crate) struct HelpPage {
    /// The words of the command, beginning with `dogiqa`.
    pub(crate) words: Vec<String>,
    pub(crate) text: String,
}

/// Returns the help pages of `dogiqa` and all its subcommands, 100 columns wide.
pub(crate) fn help_pages() -> Vec<HelpPage> {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut pages = Vec::new();
    let mut pending = vec![(vec!["dogiqa".to_owned()], root)];
    while let Some((words, mut command)) = pending.pop() {
        let subcommands = command.get_subcommands().filter(|command| command.get_name() != "help");
        for subcommand in subcommands {
            let name = subcommand.get_name().to_owned();
            pending.push(([&words[..], &[name]].concat(), subcommand.clone()));
        }
        let help = command.render_long_help().to_string();
        // clap indents blank lines.
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        pages.push(HelpPage { words, text: lines.join("\n") });
    }
    pages
}

#[test]
fn every_help_page_has_an_example() {
    let pages = help_pages();
    assert!(pages.iter().any(|page| page.words == ["dogiqa", "models", "quantize"]));
    for HelpPage { words, text } in pages {
        assert!(text.contains("Example"), "{} --help has no example", words.join(" "));
    }
}

#[test]
fn help_is_printed_to_standard_output() {
    let output = dogiqa(&["dead-letters", "list", "--help"]);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(text(&output.stdout).contains("Usage: dogiqa dead-letters list"));
}

#[test]
fn a_missing_path_is_reported_and_the_others_are_scored() {
    let cat = photo("cat.jpg");
    let output = dogiqa(&["score", "--format", "jsonl", "no/such.jpg", &cat, "nor/*.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), 1);
    let errors = text(&output.stderr);
    for part in ["`no/such.jpg`", "`nor/*.png`", "1 scored, 2 failed"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[test]
fn a_usage_error_exits_with_2() {
    assert_eq!(dogiqa(&["score"]).status.code(), Some(2));
    assert_eq!(dogiqa(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn a_worker_whose_memory_may_exceed_the_machine_does_not_start() {
    let large = "pipeline.pixels_budget=1_000_000_000_000_000";
    let server = "telemetry.server.address=127.0.0.1:0";
    for subcommand in ["run", "check"] {
        let output = dogiqa(&[subcommand, "--set", large, "--set", server]);
        assert_eq!(output.status.code(), Some(1), "{subcommand}");
        let output_text = format!("{}{}", text(&output.stdout), text(&output.stderr));
        for part in ["this machine has", "lower pipeline.pixels_budget", "fetched images"] {
            assert!(
                output_text.contains(part),
                "{subcommand} does not mention `{part}`: {output_text}"
            );
        }
    }
}

#[test]
fn an_unavailable_broker_is_reported_with_its_address() {
    for subcommand in ["watch", "dead-letters list", "dead-letters replay"] {
        let words: Vec<_> = subcommand.split(' ').collect();
        let brokers = ["--set", "kafka.bootstrap_servers=127.0.0.1:9"];
        let mut command = command(&words);
        command.args(brokers).args(["--set", "kafka.probe_timeout=1s"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{subcommand}");
        let errors = text(&output.stderr);
        let expected = "no broker of kafka.bootstrap_servers = 127.0.0.1:9 answered within 1s";
        assert!(errors.contains(expected) && errors.contains("check the address"), "{errors}");
    }
}

#[test]
fn score_prints_the_event_that_the_worker_publishes() {
    let output = dogiqa(&["score", "--format", "jsonl", &photo("cat.jpg")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(event["image"]["width"], 451);
    assert_eq!(event["engine"]["name"], "classic");
    assert!(event.get("source").is_none_or(Value::is_null));
}

#[test]
fn score_continues_after_a_bad_image_and_reports_it_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.jpg");
    std::fs::write(&bad, "<html>").unwrap();
    let bad = bad.to_str().unwrap();
    let output =
        dogiqa(&["score", "--format", "csv", &photo("cat.jpg"), bad, &photo("coffee.jpg")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), 3, "a header and two images");
    let errors = text(&output.stderr);
    assert!(errors.contains("decode.unsupported_format"), "{errors}");
    assert!(errors.contains("2 scored, 1 failed"), "{errors}");
}

#[test]
fn score_accepts_paths_relative_to_the_working_directory() {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos");
    let run = |path: &str| command(&["score", path]).current_dir(&photos).output().unwrap();
    for path in ["cat.jpg", "./cat.jpg", "../photos/cat.jpg"] {
        let output = run(path);
        assert!(output.status.success(), "{path}: {}", text(&output.stderr));
    }
}

#[test]
fn score_reads_an_image_or_a_list_from_standard_input() {
    for (input, images) in [
        (std::fs::read(photo("cat.jpg")).unwrap(), 1),
        (format!("{}\n{}\n", photo("cat.jpg"), photo("coffee.jpg")).into_bytes(), 2),
    ] {
        let mut child = command(&["score", "--format", "json", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let events: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(events.as_array().unwrap().len(), images);
    }
}

#[test]
fn score_fails_only_below_the_limit() {
    let cat = photo("cat.jpg");
    assert_eq!(dogiqa(&["score", "--fail-below", "0.5", &cat]).status.code(), Some(0));
    assert_eq!(dogiqa(&["score", "--fail-below", "99", &cat]).status.code(), Some(1));
}

#[test]
fn score_writes_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let output = dogiqa(&["score", "--report", report.to_str().unwrap(), &photo("cat.jpg")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("000-cat.jpg"));
    assert!(report.join("000-cat.jpg").is_file());
    assert_eq!(std::fs::read_to_string(report.join("events.jsonl")).unwrap().lines().count(), 1);
}

/// Uses the small random network of the goldens, which predicts low scores for its masks.
#[test]
fn segment_writes_masks_as_json_and_outlined_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let annotated = folder.path().join("outlined");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2/model.original.pt");
    let (cat, coffee) = (photo("cat.jpg"), photo("coffee.jpg"));
    let segment = |images: &[&str]| {
        let mut command = command(&["segment", "--preset", "sam2-default", "--model"]);
        command.arg(&model).args(["--amg", "points_per_side=4", "--amg", "pred_iou_thresh=0.2"]);
        command.args(["--amg", "stability_score_thresh=0.1", "--annotate"]).arg(&annotated);
        command.args(images).output().unwrap()
    };
    let output = segment(&[&cat, &coffee]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["width"], 451);
    assert_eq!(lines[0]["model"]["weights"], "model.original.pt");
    for line in &lines {
        let masks = line["masks"].as_array().unwrap();
        assert!(!masks.is_empty());
        for mask in masks {
            let rle: dog_iqa::method::Rle =
                serde_json::from_value(mask["segmentation"].clone()).unwrap();
            assert_eq!(rle.area(), mask["area"].as_u64().unwrap());
            let bbox = rle.bbox().map(<[u32; 4]>::from);
            assert_eq!(serde_json::to_value(bbox).unwrap(), mask["bbox"]);
        }
    }
    assert!(annotated.join("000-cat.jpg").is_file() && annotated.join("001-coffee.jpg").is_file());

    let absent = folder.path().join("absent.jpg");
    std::fs::write(&absent, "<html>").unwrap();
    let output = segment(&[&cat, absent.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "the other image is still segmented");
    assert_eq!(text(&output.stdout).lines().count(), 1);

    let output = dogiqa(&["segment", "--model", "no/such/weights.pt", &cat]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("no/such/weights.pt").count(), 1, "{errors}");
}

#[test]
fn an_unknown_setting_is_reported_at_the_start() {
    let output = dogiqa(&["config", "--set", "imaging.pixel_max=3"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("pixel_max"));
}

#[test]
fn a_contradiction_of_settings_is_named_once_by_config_and_before_scoring() {
    let policy = "method.policies.named.s={reject_reasons=[\"blurred\"]}";
    for command in [&["config"][..], &["score", &photo("raccoon.jpg")]] {
        let contradiction = ["--set", policy, "--set", "pipeline.reasons=false"];
        let output = dogiqa(&[command, &contradiction].concat());
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.starts_with("error: method.policies: policy \"s\" names reasons"),
            "{errors}"
        );
        assert_eq!(errors.matches("names reasons").count(), 1, "{errors}");
    }
}

#[test]
fn config_shows_each_changed_setting_with_its_source() {
    let output = command(&["config", "--sources", "--set", "imaging.pixels_max=7"])
        .env("DOGIQA_PIPELINE__DECODE__IMAGES", "3")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("imaging.pixels_max  # flag --set"), "{shown}");
    assert!(shown.contains("pipeline.decode.images  # environment"), "{shown}");
}

#[test]
fn secrets_from_the_environment_stay_text_and_are_never_shown() {
    let output = command(&["config", "--sources"])
        .env("DOGIQA_STORAGE__S3__SECRET_ACCESS_KEY", "0815")
        .env("DOGIQA_KAFKA__PROPERTIES__SASL_PASSWORD", "00004711")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("storage.s3.secret_access_key  # environment"), "{shown}");
    assert!(shown.contains("kafka.properties.sasl_password  # environment"), "{shown}");
    // Parsed as numbers, the first would be refused and the second would lose its zeros.
    let output = command(&["config"])
        .env("DOGIQA_STORAGE__S3__SECRET_ACCESS_KEY", "0815")
        .env("DOGIQA_KAFKA__PROPERTIES__SASL_PASSWORD", "00004711")
        .env("DOGIQA_KAFKA__PROPERTIES__SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("sasl_password = \"***\""), "{shown}");
    assert!(shown.contains("ssl_endpoint_identification_algorithm = \"none\""), "{shown}");
    assert!(!shown.contains("815") && !shown.contains("4711"), "{shown}");
}

#[test]
fn an_invalid_address_from_the_environment_is_refused_without_its_password() {
    for address in ["me:s3cret@no host", "https://me:s3cret@127.0.0.1/"] {
        let output = command(&["score", "s3://photos/a.jpg"])
            .env("AWS_ENDPOINT_URL", address)
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "s3cret")
            .output()
            .unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(errors.contains("AWS_ENDPOINT_URL: `"), "{errors}");
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}

#[test]
fn errors_of_score_show_no_secrets_of_a_uri() {
    for uri in ["https://me:s3cret@127.0.0.1:1/a?s3cret", "s3://a:s3cret@b/c"] {
        let output = dogiqa(&["score", uri, "--set", "storage.attempts_max=1"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(errors.contains("the URI is not usable"), "{errors}");
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}

/// True if a line of the README is one that the demo prints for a photo.
fn is_row_of_a_photo(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next().is_some_and(|word| word.parse::<f64>().is_ok())
        && words.next_back().is_some_and(|word| Path::new(word).extension() == Some("jpg".as_ref()))
}

/// The first example of the README: one line per photo, and lower scores for degraded ones.
#[test]
fn the_demo_scores_every_photo_and_degraded_ones_lower() {
    let folder = tempfile::tempdir().unwrap();
    // With the default folder, which is relative.
    let output = command(&["demo"]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = folder.path().join("demo-report");
    let events = std::fs::read_to_string(report.join("events.jsonl")).unwrap();
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let score = |id: &str| {
        let event = events.iter().find(|event| event["reference"]["id"] == id);
        event.unwrap_or_else(|| panic!("no event for {id}"))["score"].as_f64().unwrap()
    };
    assert_eq!(events.len(), 9);
    assert_eq!(text(&output.stdout).lines().count(), 1 + events.len());
    assert!(score("coffee-jpeg.jpg") < score("coffee.jpg"));
    assert!(score("raccoon-blurred.jpg") < score("raccoon.jpg"));
    assert!(report.join("index.html").is_file());
    let readme = std::fs::read_to_string("README.md").unwrap();
    let rows: Vec<_> = readme.lines().filter(|line| is_row_of_a_photo(line)).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in rows {
        let is_printed = text(&output.stdout).lines().any(|line| line == row);
        assert!(is_printed, "README.md has `{row}`, the demo prints:\n{}", text(&output.stdout));
    }
    let shown = "docs/demo.jpg";
    if std::env::var_os("DOGIQA_BLESS").is_some() {
        std::fs::copy(report.join("006-raccoon.jpg"), shown).unwrap();
    }
    let pictures = [report.join("006-raccoon.jpg"), shown.into()];
    let [drawn, shown] = pictures.map(|path| std::fs::read(path).unwrap());
    assert!(drawn == shown, "docs/demo.jpg is of another version; DOGIQA_BLESS=1 replaces it");
    let pictures = |name: PathBuf| name.is_file();
    assert!((0..events.len()).all(|index| {
        let prefix = format!("{index:03}-");
        let mut files = std::fs::read_dir(&report).unwrap().map(|entry| entry.unwrap());
        files.any(|file| {
            file.file_name().to_str().unwrap().starts_with(&prefix) && pictures(file.path())
        })
    }));
}
