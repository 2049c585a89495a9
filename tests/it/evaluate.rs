//! `dogiqa evaluate` and `dogiqa calibrate`: data sets in the layout of their authors, a run that
//! is killed and continued, the report, and thresholds that hold on other images.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use dog_iqa::config::preset_settings;
use dog_iqa::evaluation::{Ablation, CsvColumns, DataSet, Label, LabelFile, Labels};
use dog_iqa::event::QualityEvent;
use dog_iqa::imaging::{Filter, Picture, Settings, decode, resize};
use image::{GenericImageView, RgbImage};
use rayon::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::distort;
use crate::process::Process;
use crate::wait;

/// Longest side of a photo in the small data set.
const SIDE_PX: u32 = 64;
const STRENGTHS: u8 = 5;
/// Maximum time until the first events are saved.
const FIRST_EVENTS_MAX: Duration = Duration::from_mins(5);
/// Numbers of KADID-10k's distortions: blur, JPEG, noise, contrast.
const DISTORTIONS: [u8; 4] = [1, 10, 11, 25];

/// Returns twelve pictures: both halves of six photos.
fn pictures() -> Vec<RgbImage> {
    let names = ["astronaut", "cat", "coffee", "hopper", "raccoon", "rocket"];
    let halves = |name: &&str| {
        let bytes = fs::read(photo(&format!("{name}.jpg"))).unwrap();
        let picture: Picture = decode(&bytes, &Settings::default()).unwrap();
        let (width, height) = (picture.width() / 2, picture.height());
        [0, width].map(|left| {
            let half = picture.pixels().view(left, 0, width, height).to_image();
            let longest = width.max(height);
            let side = |length: u32| (length * SIDE_PX).div_ceil(longest);
            resize(&half, side(width), side(height), Filter::Lanczos)
        })
    };
    names.iter().flat_map(halves).collect()
}

fn distorted(picture: &RgbImage, distortion: u8, strength: u8) -> RgbImage {
    let amount = f32::from(strength);
    match distortion {
        1 => distort::gaussian_blur(picture, 0.4 * amount),
        10 => distort::jpeg(picture, 70 - 13 * strength),
        11 => distort::noise(picture, 6.0 * amount),
        _ => distort::low_contrast(picture, 1.0 - 0.17 * amount),
    }
}

/// Writes a data set in KADID-10k's layout. People's score falls with the strength and differs a
/// little between pictures.
fn write_data_set(folder: &Path) {
    fs::create_dir(folder.join("images")).unwrap();
    let mut images = Vec::new();
    for (index, picture) in (1_u8..).zip(pictures()) {
        for distortion in DISTORTIONS {
            for strength in 1..=STRENGTHS {
                let name = format!("I{index:02}_{distortion:02}_{strength:02}.png");
                images.push((name, picture.clone(), distortion, strength));
            }
        }
    }
    images.par_iter().for_each(|(name, picture, distortion, strength)| {
        let path = folder.join("images").join(name);
        distorted(picture, *distortion, *strength).save(path).unwrap();
    });
    let mut rows = vec!["dist_img,ref_img,dmos,var".to_owned()];
    for (index, (name, _, _, strength)) in images.iter().enumerate() {
        let opinion = 5.0 - 0.8 * f64::from(strength - 1) + 0.01 * (index / 20) as f64;
        let picture = name.split('_').next().unwrap();
        rows.push(format!("{name},{picture}.png,{opinion},0.1"));
    }
    fs::write(folder.join("dmos.csv"), rows.join("\n")).unwrap();
}

fn evaluate(folder: &Path, arguments: &[&str]) -> Command {
    let folder = folder.to_str().unwrap();
    let mut command = command(&["evaluate", "kadid10k", folder, "--set", "engine.name=classic"]);
    // Fewer than the default, whose intervals the goldens check.
    command.args(["--resamples", "200"]);
    command.args(arguments);
    command
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn events(path: &Path) -> Vec<QualityEvent> {
    let lines = fs::read_to_string(path).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One data set serves all steps, because making and scoring it takes most of the time.
#[test]
fn a_killed_evaluation_is_continued_and_its_events_calibrate_a_policy() {
    let folder = TempDir::new().unwrap();
    let set = folder.path().join("kadid10k");
    fs::create_dir(&set).unwrap();
    write_data_set(&set);
    fs::write(set.join("images/broken.png"), b"no label, no image").unwrap();
    fs::write(set.join("images/I01_01_01.png"), b"labelled, but no image").unwrap();
    let saved = folder.path().join("events.jsonl");
    let save = ["--save", saved.to_str().unwrap()];

    // Killed while it runs.
    let killed = Process::spawn("evaluate", &mut evaluate(&set, &save));
    let has_events = || fs::read_to_string(&saved).is_ok_and(|lines| lines.lines().count() >= 5);
    assert!(wait::until(has_events, FIRST_EVENTS_MAX), "{}", killed.tail());
    killed.kill();
    let before = fs::read(&saved).unwrap();

    // Continued: the rest is scored, the broken image is counted.
    let refused = evaluate(&set, &save).output().unwrap();
    assert!(text(&refused.stderr).contains("--resume"), "{}", text(&refused.stderr));
    let report = folder.path().join("report");
    let rest = ["--resume", "--kinds", "--format", "json", "--ablate", "aggregation"];
    let mut continued = evaluate(&set, &[&save[..], &rest[..]].concat());
    let output = continued.args(["--report", report.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "an image failed: {}", text(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcome = &figures["data_sets"][0];
    assert_eq!((&outcome["labels"], &outcome["failed_images"]), (&240.into(), &1.into()));
    let ours = &outcome["scores"][0];
    assert_eq!(ours["images"], 239);
    let srcc = &ours["figures"]["srcc"];
    assert!(srcc["value"].as_f64().unwrap() > 0.5, "{srcc}");
    assert!(srcc["interval"]["low"].as_f64() < srcc["value"].as_f64());
    assert_eq!(ours["kinds"].as_array().unwrap().len(), DISTORTIONS.len());
    assert!(text(&output.stderr).contains("I01_01_01.png"), "{}", text(&output.stderr));

    let scored = events(&saved);
    assert_eq!(scored.len(), 239);
    assert!(fs::read(&saved).unwrap().starts_with(&before), "saved events were not scored again");
    check_ablations(outcome, &scored);
    check_page(&report);
    check_events_again(&set, &saved, &figures);
    check_metrics(&set);
    check_calibration(folder.path(), &scored);
}

fn ablations(events: &[QualityEvent]) -> Vec<Ablation> {
    let c_max = events[0].segmentation.c_max.try_into().unwrap();
    dog_iqa::evaluation::ablations(c_max, |preset| preset_settings(preset).method)
}

/// The formula of the settings gives the score of the events.
fn check_ablations(outcome: &Value, events: &[QualityEvent]) {
    let ablations = ablations(events);
    assert_eq!(outcome["ablations"].as_array().unwrap().len(), ablations.len());
    let of = |name: &str| ablations.iter().find(|it| it.name() == name).unwrap();
    for event in events {
        let level = of("paper, level").score(event).unwrap();
        assert!((level - event.score).abs() < 1e-12, "{level} {}", event.score);
        let expected = of("paper, expected").score(event).unwrap();
        assert!((expected - event.score_expected).abs() < 1e-12);
        let whole = of("paper-whole, level").score(event).unwrap();
        assert!((whole - f64::from(event.global.level)).abs() < 1e-12);
    }
}

fn check_page(report: &Path) {
    let page = fs::read_to_string(report.join("index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert_eq!(page.matches("<figcaption>").count(), 20);
    assert!(page.contains("01 Gaussian blur"));
    for link in page.split("<img src=\"./").skip(1) {
        let name = link.split('"').next().unwrap();
        assert!(report.join(name).is_file(), "{name}");
    }
}

#[test]
fn a_report_shows_each_of_two_images_with_equal_file_names_by_its_own_label() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (mut labels, mut scores) = (vec!["name,mos".to_owned()], vec!["name,score".to_owned()]);
    for number in 0..3_u8 {
        for (part, grey) in [("a", 20 + 10 * number), ("b", 200 + 10 * number)] {
            fs::create_dir_all(path("images").join(part)).unwrap();
            let name = format!("{part}/{number}.png");
            let picture = RgbImage::from_pixel(16, 16, [grey; 3].into());
            picture.save(path("images").join(&name)).unwrap();
            labels.push(format!("{name},{grey}"));
            scores.push(format!("{name},{}", 255 - grey + 7 * number));
        }
    }
    fs::write(path("labels.csv"), labels.join("\n")).unwrap();
    fs::write(path("scores.csv"), scores.join("\n")).unwrap();
    let arguments = ["labels.csv", "scores.csv", "images", "report"].map(path);
    let [labels, scores, images, report] = arguments.each_ref().map(|path| path.to_str().unwrap());
    let mut command = command(&["evaluate", "csv", labels, "--scores", scores]);
    let output = command.args(["--images", images, "--report", report]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(path("report/index.html")).unwrap();
    let mut shown = 0;
    for figure in page.split("<img src=\"./").skip(1) {
        let file = figure.split('"').next().unwrap();
        let label = figure.split("<figcaption>").nth(1).unwrap().split('<').next().unwrap();
        let (part, number) = label.trim_end_matches(".png").split_once('/').unwrap();
        let grey = if part == "a" { 20 } else { 200 } + 10 * number.parse::<i32>().unwrap();
        let bytes = fs::read(path("report").join(file)).unwrap();
        let picture = decode(&bytes, &Settings::default()).unwrap();
        let found = i32::from(picture.pixels().get_pixel(8, 8).0[0]);
        assert!((found - grey).abs() <= 2, "{label}: {found}");
        shown += 1;
    }
    assert_eq!(shown, 6, "{page}");
}

/// The same events from the file give the same figures.
fn check_events_again(set: &Path, saved: &Path, figures: &Value) {
    let from_file = ["--events", saved.to_str().unwrap(), "--format", "json"];
    let again = json(&evaluate(set, &from_file).output().unwrap());
    let figures = &figures["data_sets"][0]["scores"][0]["figures"];
    assert_eq!(&again["data_sets"][0]["scores"][0]["figures"], figures);
    for format in ["table", "csv", "markdown"] {
        let arguments = ["--events", saved.to_str().unwrap(), "--format", format, "--paper"];
        let output = evaluate(set, &arguments).output().unwrap();
        assert!(text(&output.stdout).contains("Dog-IQA"), "{}", text(&output.stdout));
    }
}

/// Metrics are evaluated with parameters of a folder, and next to each other.
fn check_metrics(set: &Path) {
    let parameters = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/metrics/parameters");
    let parameters = ["--parameters", parameters.to_str().unwrap()];
    let metrics = ["--metric", "piqe,brisque,niqe", "--format", "json"];
    let mut command = evaluate(set, &[&metrics[..], &parameters[..]].concat());
    let output = command.output().unwrap();
    // NIQE needs two blocks of 96 px, which these small images lack.
    assert!(!output.status.success() && text(&output.stderr).contains("niqe, negated"));
    let metrics = ["--metric", "piqe,brisque", "--format", "json"];
    let output = evaluate(set, &[&metrics[..], &parameters[..]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "one image is broken: {}", text(&output.stderr));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scores = outcome["data_sets"][0]["scores"].as_array().unwrap();
    assert_eq!(scores.len(), 2);
    assert_eq!(
        (&scores[0]["origin"], &scores[0]["images"]),
        (&"piqe, negated".into(), &239.into())
    );
    let missing = evaluate(set, &["--metric", "biqi", "--parameters", "no/such"]).output().unwrap();
    assert!(text(&missing.stderr).contains("dogiqa models pull biqi"), "{}", text(&missing.stderr));
}

/// A file with one row for each event: the name of its image and what `cell` makes of the strength
/// of its distortion.
fn write_rows(path: &Path, header: &str, events: &[QualityEvent], cell: impl Fn(u8) -> String) {
    let mut rows = vec![header.to_owned()];
    for event in events {
        let name = event.reference.uri.rsplit('/').next().unwrap();
        let strength = name.as_bytes()[name.len() - 5] - b'0';
        rows.push(format!("{name},{}", cell(strength)));
    }
    fs::write(path, rows.join("\n")).unwrap();
}

fn calibrate(events: &Path, arguments: &[&str]) -> String {
    let mut command = command(&["calibrate", "--events", events.to_str().unwrap()]);
    command.args(["--resamples", "200"]);
    let output = command.args(arguments).output().unwrap();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.matches("labels have no event").count() <= 1, "reported twice: {errors}");
    text(&output.stdout).to_owned()
}

fn policy(toml: &str, name: &str) -> toml::Value {
    let settings: toml::Value = toml::from_str(toml).unwrap();
    settings["method"]["policies"]["named"][name].clone()
}

/// A policy that was calibrated on every other image keeps its share on the rest.
fn check_calibration(folder: &Path, events: &[QualityEvent]) {
    // Images end in any order; that of their digests is random and always the same.
    let mut events = events.to_vec();
    events.sort_by(|a, b| a.image.sha256.cmp(&b.image.sha256));
    let events = &events[..];
    let half: Vec<String> =
        events.iter().step_by(2).map(|event| serde_json::to_string(event).unwrap()).collect();
    let file = folder.join("half.jsonl");
    fs::write(&file, half.join("\n") + "\n").unwrap();
    let curve = folder.join("curve.svg");
    let share = ["--reject-share", "0.3", "--curve", curve.to_str().unwrap()];
    let share = calibrate(&file, &share);
    assert!(fs::read_to_string(&curve).unwrap().ends_with("</svg>\n"));
    let score_min = policy(&share, "calibrated")["score_min"].as_float().unwrap();
    let rest: Vec<&QualityEvent> = events.iter().skip(1).step_by(2).collect();
    let rejected = rest.iter().filter(|event| event.score_expected < score_min).count();
    let rejected = rejected as f64 / rest.len() as f64;
    let interval = share.lines().find(|line| line.contains("share on these images")).unwrap();
    let ends = interval.split(['[', ']']).nth(1).unwrap().split(", ");
    let ends: Vec<f64> =
        ends.map(|end| end.trim_end_matches(" %").parse::<f64>().unwrap() / 100.0).collect();
    // Both halves are samples, so their difference varies by the square root of 2 more.
    let (middle, radius) = (f64::midpoint(ends[0], ends[1]), (ends[1] - ends[0]) / 2f64.sqrt());
    assert!((rejected - middle).abs() <= radius, "{rejected} of the rest, {interval}");

    let moderators = folder.join("moderators.csv");
    write_rows(&moderators, "name,decision", events, |strength| {
        if strength <= 3 { "accept" } else { "reject" }.to_owned()
    });
    let decisions = ["--decisions", moderators.to_str().unwrap(), "--false-reject", "0.1"];
    let rest = ["--decided", "0.8", "--policy", "gallery", "--review-price", "0.1"];
    let decided = calibrate(&file, &[&decisions[..], &rest[..]].concat());
    assert!(decided.contains("#  score_min    kept  precision"), "{decided}");
    assert!(policy(&decided, "gallery")["review_band"].as_float().unwrap() > 0.0);
    let config = folder.join("dogiqa.toml");
    fs::write(&config, format!("{decided}\n[kafka]\nprobe_timeout = \"1s\"\n")).unwrap();
    let check = command(&["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(text(&check.stdout).contains("ok       configuration is well formed"));
    check_curves(folder, &file, events);
}

/// A fitted curve is valid configuration, and events have its opinion.
fn check_curves(folder: &Path, file: &Path, events: &[QualityEvent]) {
    let opinions = folder.join("opinions.csv");
    write_rows(&opinions, "name,mos", events, |strength| {
        (100 - u32::from(strength) * 15).to_string()
    });
    let config = folder.join("curve.toml");
    for form in ["isotonic", "logistic"] {
        let arguments = ["--labels", opinions.to_str().unwrap(), "--map", form, "--mask-bonus"];
        let toml = calibrate(file, &arguments);
        // The bonus would change the formula; this checks the curve alone.
        let curve = toml.split("# From scores").nth(1).unwrap();
        fs::write(&config, format!("# {curve}")).unwrap();
        let cat = photo("cat.jpg");
        let score = ["score", "--format", "jsonl", "--config", config.to_str().unwrap(), &cat];
        let output = command(&score).output().unwrap();
        assert!(output.status.success(), "{toml}\n{}", text(&output.stderr));
        let event: Value = serde_json::from_slice(&output.stdout).unwrap();
        let opinion = event["score_mos"].as_f64().unwrap();
        // The ends of a logistic may lie beyond the opinions, which are 25 to 85.
        assert!((10.0..=100.0).contains(&opinion), "{form}: {opinion}");
    }
}

#[test]
fn labels_are_read_in_the_layout_of_each_data_set() {
    let one = |set, file: &str, bytes: &[u8]| {
        Labels::read(set, &[LabelFile { name: file, bytes }], &CsvColumns::default())
            .unwrap()
            .labels
    };
    let label = |name: &str, opinion, kind: Option<&str>| Label {
        name: name.to_owned(),
        opinion,
        kind: kind.map(str::to_owned),
    };
    let koniq = "\"image_name\",\"c1\",\"c2\",\"c3\",\"c4\",\"c5\",\"c_total\",\"MOS\",\"SD\",\
                 \"MOS_zscore\"\n\"826373.jpg\",0,0,25,73,7,105,3.83,0.5,73.05\n";
    let labels = one(DataSet::Koniq10k, "koniq10k_scores_and_distributions.csv", koniq.as_bytes());
    assert_eq!(labels, [label("826373.jpg", 3.83, None)]);
    let kadid = "dist_img,ref_img,dmos,var\nI01_03_02.png,I01.png,4.33,0.5\n";
    let labels = one(DataSet::Kadid10k, "dmos.csv", kadid.as_bytes());
    assert_eq!(labels, [label("I01_03_02.png", 4.33, Some("03 motion blur"))]);
    let agiqa = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n\
                 a.jpg,a cat, with a hat,,,,1.5,0.1,2.5,0.2\n";
    let labels = one(DataSet::Agiqa3k, "data.csv", agiqa.as_bytes());
    assert_eq!(labels, [label("a.jpg", 1.5, None)]);
    let labels = one(DataSet::Spaq, "MOS and Image attribute scores.xlsx", &spaq_xlsx());
    assert_eq!(labels, [label("00001.jpg", 48.86, None), label("00002.jpg", 62.5, None)]);
    let pyiqa = "img_name,mos,std,official_split\nx/1.png,55.5,1,0\n";
    let labels = one(DataSet::Csv, "meta_info.csv", pyiqa.as_bytes());
    assert_eq!(labels, [label("x/1.png", 55.5, None)]);
}

/// Returns a spreadsheet with the first columns of SPAQ's.
fn spaq_xlsx() -> Vec<u8> {
    let cell = |text: &str| format!("<c t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let row = |name: &str, mos: &str| format!("<row>{}<c><v>{mos}</v></c></row>", cell(name));
    let header = format!("<row>{}{}</row>", cell("Image name"), cell("MOS"));
    let sheet = format!(
        "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">\
         <sheetData>{header}{}{}</sheetData></worksheet>",
        row("00001.jpg", "48.86"),
        row("00002.jpg", "62.5")
    );
    let files = [
        (
            "[Content_Types].xml",
            "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>",
        ),
        (
            "_rels/.rels",
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
             <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/\
             relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>",
        ),
        (
            "xl/_rels/workbook.xml.rels",
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
             <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/\
             relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>",
        ),
        (
            "xl/workbook.xml",
            "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" \
             xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets>\
             <sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
        ),
        ("xl/worksheets/sheet1.xml", &sheet),
    ];
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn bounds_need_neither_images_nor_an_engine() {
    let folder = TempDir::new().unwrap();
    let csv = folder.path().join("labels.csv");
    let rows: Vec<String> = (0..50).map(|index| format!("{index}.jpg,{}", index * 2)).collect();
    fs::write(&csv, format!("name,mos\n{}\n", rows.join("\n"))).unwrap();
    let path = csv.to_str().unwrap();
    let output = command(&["evaluate", "csv", path, "--bound", "3,7", "--format", "json"]).output();
    let outcome = json(&output.unwrap());
    let bounds = outcome["data_sets"][0]["bounds"].as_array().unwrap();
    assert_eq!(bounds.len(), 2);
    assert_eq!(bounds[0]["program"]["levels_that_occur"], 4);
    assert_eq!(bounds[0]["equation_1"]["levels_that_occur"], 3);
}

#[test]
fn two_sets_of_scores_are_compared_on_their_common_images() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, value: &dyn Fn(u32) -> f64, count: u32| {
        let rows: Vec<String> =
            (0..count).map(|index| format!("{index}.jpg,{}", value(index))).collect();
        let path = folder.path().join(name);
        fs::write(&path, format!("name,score\n{}\n", rows.join("\n"))).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let labels = write("labels.csv", &f64::from, 60);
    let good = write("good.csv", &|index| f64::from(index + index % 3), 60);
    let poor = write("poor.csv", &|index| f64::from(index + 40 * (index % 2)), 50);
    let output = command(&[
        "evaluate",
        "csv",
        &labels,
        "--scores",
        &good,
        "--scores",
        &poor,
        "--format",
        "json",
        "--resamples",
        "200",
    ])
    .output();
    let outcome = json(&output.unwrap());
    let comparison = &outcome["data_sets"][0]["comparisons"][0];
    assert_eq!(comparison["images"], 50);
    assert!(comparison["figures"][0]["first_wins"].as_f64().unwrap() > 0.99, "{comparison}");
}

#[test]
fn wrong_arguments_are_explained() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let error = |arguments: &[&str]| {
        let output = command(arguments).output().unwrap();
        assert!(!output.status.success());
        text(&output.stderr).to_owned()
    };
    assert!(error(&["evaluate", "tid2013", path]).contains("koniq10k, livec"));
    assert!(error(&["evaluate", "spaq", path]).contains("MOS and Image attribute scores.xlsx"));
    assert!(error(&["evaluate", "csv", path]).contains("0 tables"));
    assert!(
        error(&["calibrate", "--events", "no/such.jsonl", "--reject-share", "0.1"])
            .contains("no/such.jsonl")
    );
    assert!(error(&["calibrate", "--events", "no/such.jsonl"]).contains("nothing to calibrate"));
    assert!(error(&["calibrate", "--events", "x", "--reject-share", "5"]).contains("0 to 1"));
}
