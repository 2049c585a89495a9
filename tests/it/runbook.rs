//! The runbook explains every error code and every metric of the code, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dog_iqa::config::Settings;

const RUNBOOK: &str = "docs/operations.md";
/// Other files that name metrics.
const DASHBOARDS: [&str; 2] = ["deploy/grafana/dashboard.json", "deploy/prometheus/alerts.yml"];
/// The parts of error codes before the dot. A code of another family fails the test below.
const FAMILIES: [&str; 12] = [
    "decode",
    "engine",
    "fetch",
    "measure",
    "pipeline",
    "policy",
    "publish",
    "reference",
    "request",
    "score",
    "segment",
    "uri",
];

#[test]
fn the_runbook_explains_every_error_code_and_no_other() {
    let mut codes = BTreeSet::new();
    for text in sources() {
        let is_named = |literal: &&str| is_code(literal) && !is_setting(literal);
        codes.extend(literals(&text).filter(is_named).map(str::to_owned));
        for line in text.split("fn code(").skip(1).flat_map(body) {
            let stray = literals(line).find(|literal| !is_code(literal));
            assert_eq!(stray, None, "a code of a family that FAMILIES does not list");
        }
    }
    assert!(codes.len() > 40, "only {} codes found in the sources", codes.len());
    assert_eq!(explained("## Error codes"), codes);
}

#[test]
fn the_runbook_explains_every_reason_for_not_being_ready_and_no_other() {
    let text = read("src/stream/status/trouble.rs");
    let names = text.split("fn name(").nth(1).unwrap();
    let mut names: BTreeSet<_> = body(names).flat_map(literals).map(str::to_owned).collect();
    assert!(names.len() > 5, "only {} reasons found in the sources", names.len());
    names.insert("starting".to_owned());
    let mut explained = explained("## Health");
    explained.retain(|name| !name.starts_with('/'));
    assert_eq!(explained, names);
}

#[test]
fn the_runbook_explains_every_metric_and_no_other() {
    let metrics = metrics();
    assert_eq!(explained("## Metrics"), metrics);
    for file in DASHBOARDS.into_iter().chain([RUNBOOK]) {
        let text = read(file);
        let mut named = text
            .split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .filter(|word| word.starts_with("dogiqa_"))
            .peekable();
        assert!(named.peek().is_some(), "{file} names no metric");
        let unknown: Vec<_> = named.filter(|word| !is_series(word, &metrics)).collect();
        assert!(unknown.is_empty(), "{file} names metrics that do not exist: {unknown:?}");
    }
}

/// Returns all metrics. Asserts that every recorded metric is described, and the reverse.
fn metrics() -> BTreeSet<String> {
    let text = read("src/telemetry/metrics.rs");
    let is_metric = |literal: &&str| literal.starts_with("dogiqa_");
    let (described, recorded) =
        text.split_once("fn describe_counters()").unwrap().1.split_once("\n/// ").unwrap();
    let described: BTreeSet<_> = literals(described).filter(is_metric).map(str::to_owned).collect();
    let recorded: BTreeSet<_> = literals(recorded).filter(is_metric).map(str::to_owned).collect();
    assert!(recorded.len() > 20, "only {} metrics found in the sources", recorded.len());
    assert_eq!(described, recorded, "metrics described and metrics recorded");
    recorded
}

/// Returns true if a word is a metric, or a series of a histogram.
fn is_series(word: &str, metrics: &BTreeSet<String>) -> bool {
    let series = ["", "_bucket", "_sum", "_count"];
    series.iter().filter_map(|end| word.strip_suffix(end)).any(|name| metrics.contains(name))
}

/// Returns the names in the first column of the tables below a heading.
fn explained(heading: &str) -> BTreeSet<String> {
    let text = read(RUNBOOK);
    let section = text.split_once(&format!("\n{heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let names: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let unique: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(names.len(), unique.len(), "something below {heading} is explained twice");
    unique
}

fn is_code(literal: &str) -> bool {
    let is_name = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
    };
    literal.split_once('.').is_some_and(|(family, name)| {
        FAMILIES.contains(&family) && !name.is_empty() && is_name(name)
    })
}

/// Returns true for a setting. Settings have names of the same form, and some sections have the
/// names of families.
fn is_setting(literal: &str) -> bool {
    let settings = toml::Value::try_from(Settings::default()).unwrap();
    literal.split('.').try_fold(&settings, |value, part| value.get(part)).is_some()
}

/// Returns the lines up to the end of a function's body.
fn body(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "    }")
}

/// Returns the text between quotes, line by line. No code and no metric contains a quote.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('"').skip(1).step_by(2))
}

/// Returns the sources without comments and without their unit tests.
fn sources() -> Vec<String> {
    let mut folders = vec![root().join("src")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(without_tests(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    texts
}

fn without_tests(text: &str) -> String {
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
