//! Documents that must agree with the code: the commands of the README and of `docs`, and the
//! shipped configuration.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use dog_iqa::cli::Cli;
use dog_iqa::config::Settings;
use serde_json::Value;

use crate::cli::{command, photo};

/// The minimum number of commands in each document that has any.
const COMMANDS_MIN: [(&str, usize); 5] = [
    ("README.md", 5),
    ("docs/engines.md", 9),
    ("docs/messages.md", 5),
    ("docs/operations.md", 10),
    ("docs/reproduction.md", 5),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the README and every page of `docs`.
fn documents() -> Vec<String> {
    let paths = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let names = pages.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    std::iter::once("README.md".to_owned())
        .chain(names.map(|name| format!("docs/{name}")))
        .collect()
}

#[test]
fn every_command_in_the_documents_parses() {
    let documents = documents();
    for (path, _) in COMMANDS_MIN {
        assert!(documents.iter().any(|document| document == path), "{path} does not exist");
    }
    for path in documents {
        let text = read(&path);
        let commands: Vec<_> =
            shell_blocks(&text).flat_map(str::lines).filter_map(dogiqa_command).collect();
        for command in &commands {
            let parsed = Cli::try_parse_from(std::iter::once("dogiqa").chain(words(command)));
            assert!(parsed.is_ok(), "{path}: `{command}`: {}", parsed.unwrap_err());
        }
        let minimum = COMMANDS_MIN.iter().find(|(document, _)| *document == path);
        let minimum = minimum.map_or(0, |(_, minimum)| *minimum);
        assert!(commands.len() >= minimum, "{path}: {} commands, not {minimum}", commands.len());
    }
}

/// The service tests run most of them.
#[test]
fn the_recipes_of_the_runbook_have_at_most_ten_lines() {
    let runbook = read("docs/operations.md");
    let blocks: Vec<&str> = shell_blocks(&runbook).collect();
    assert!(blocks.len() > 8, "{blocks:?}");
    for block in blocks {
        assert!(block.lines().count() <= 10, "{block}");
    }
}

/// Returns the shell blocks of a document, and the text blocks that start with a command.
fn shell_blocks(text: &str) -> impl Iterator<Item = &str> {
    // Every second fence opens a block.
    text.split("```").skip(1).step_by(2).filter_map(|block| {
        let (language, code) = block.split_once('\n')?;
        (language == "sh" || language == "text" && code.starts_with("dogiqa ")).then_some(code)
    })
}

/// Returns the arguments of the first `dogiqa` command in a line, without redirections.
fn dogiqa_command(line: &str) -> Option<&str> {
    let line = line.split(" #").next().unwrap_or_default().trim().trim_end_matches(['&', '\\']);
    let command = line.split(" | ").flat_map(|part| part.split(" && ")).find_map(|part| {
        let part = part.trim();
        part.strip_prefix("cargo run --release -- ").or_else(|| part.strip_prefix("dogiqa "))
    })?;
    command.split(" < ").next()?.split(" > ").next()
}

/// Splits a command into words. Text between single quotes is one word.
fn words(command: &str) -> impl Iterator<Item = &str> {
    command.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    })
}

/// Fields of the sample events that do not follow from the photo.
const NOT_COMPARED: [&str; 8] = [
    "/event_id",
    "/event_time",
    "/reference",
    "/image/etag",
    "/measures",
    "/timings_ms",
    "/source",
    "/engine/settings",
];

#[test]
fn the_sample_events_are_those_of_a_photo() {
    let photo = photo("raccoon-blurred.jpg");
    let output = command(&["score", &photo, "--format", "jsonl"])
        .args(["--set", "pipeline.phash=true", "--set", "method.policies.default=gallery"])
        .args(["--set", "method.policies.named.gallery={score_min=4.5, review_band=0.25}"])
        .output()
        .unwrap();
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    for path in ["README.md", "docs/messages.md"] {
        let text = read(path);
        let blocks = text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
        let sample = blocks.filter(|block| block.contains("\"verdict\"")).map(|block| {
            serde_json::from_str::<Value>(block).unwrap_or_else(|error| panic!("{path}: {error}"))
        });
        let samples: Vec<_> = sample.collect();
        assert_eq!(samples.len(), 1, "{path}");
        assert_shortened(&samples[0], &event, path, "");
    }
}

/// Asserts that a sample is an event with shorter numbers and lists, and fewer fields.
fn assert_shortened(sample: &Value, event: &Value, document: &str, place: &str) {
    if NOT_COMPARED.contains(&place) {
        return;
    }
    let same = match (sample, event) {
        (Value::Object(sample), Value::Object(_)) => {
            for (name, value) in sample {
                assert_shortened(value, &event[name], document, &format!("{place}/{name}"));
            }
            true
        }
        (Value::Array(sample), Value::Array(event)) if sample.len() <= event.len() => {
            for (index, (sample, event)) in sample.iter().zip(event).enumerate() {
                assert_shortened(sample, event, document, &format!("{place}/{index}"));
            }
            true
        }
        // Of numbers, the sample has two or three decimals.
        (Value::Number(sample), Value::Number(event)) => {
            (sample.as_f64().unwrap() - event.as_f64().unwrap()).abs() < 0.006
        }
        (Value::String(sample), _) if sample == "…" => true,
        (Value::String(sample), Value::String(event)) => match sample.strip_suffix('…') {
            Some(start) => event.starts_with(start),
            None => sample == event,
        },
        _ => sample == event,
    };
    assert!(same, "{document}: {place} is {sample}, of the photo {event}");
}

#[test]
fn the_shipped_configuration_is_the_defaults() {
    let shipped = read("deploy/config/dogiqa.toml");
    assert_eq!(toml::from_str::<Settings>(&shipped).unwrap(), Settings::default());
    let shown: toml::Value = toml::from_str(&shipped).unwrap();
    let defaults = toml::Value::try_from(Settings::default()).unwrap();
    let shown = keys("", &shown);
    let missing: Vec<_> =
        keys("", &defaults).into_iter().filter(|key| !shown.contains(key)).collect();
    assert!(missing.is_empty(), "deploy/config/dogiqa.toml does not show {missing:?}");
}

fn keys(prefix: &str, value: &toml::Value) -> Vec<String> {
    let Some(table) = value.as_table() else { return vec![prefix.to_owned()] };
    table.iter().flat_map(|(name, value)| keys(&format!("{prefix}.{name}"), value)).collect()
}

/// Settings that the shipped file does not show as a separate entry.
const NOT_SHOWN: [&str; 1] = ["engine.dog_iqa.masks.point_grids"];
const SHIPPED: &str = "deploy/config/dogiqa.toml";
/// Columns of a comment in the shipped file.
const COLUMNS_MAX: usize = 100;

/// The comments of the shipped configuration are the doc comments of the settings. After a change
/// in `src`, `DOGIQA_BLESS=1 cargo test --test it documents` writes the comments again.
#[test]
fn the_comments_of_the_shipped_configuration_are_those_of_the_settings() {
    let documented = documented_settings();
    assert!(documented.len() > 120, "only {} settings found in the sources", documented.len());
    let shipped = read(SHIPPED);
    let entries = entries(&shipped, &documented);
    for (path, _) in &documented {
        let is_shown = entries.iter().any(|entry| entry.path == *path);
        assert!(is_shown || NOT_SHOWN.contains(&path.as_str()), "{SHIPPED} does not show {path}");
    }
    if std::env::var_os("DOGIQA_BLESS").is_some() {
        fs::write(root().join(SHIPPED), with_comments(&shipped, &entries)).unwrap();
        return;
    }
    let outdated: Vec<_> = entries
        .iter()
        .filter(|entry| entry.comment() != entry.documentation)
        .map(|entry| format!("{}:\n{}", entry.path, rendered(&entry.documentation)))
        .collect();
    assert!(
        outdated.is_empty(),
        "{} comments of {SHIPPED} differ from the sources. With DOGIQA_BLESS=1 this test writes:\n\n{}",
        outdated.len(),
        outdated.join("\n")
    );
}

/// A setting or a section in the shipped file.
struct Entry<'a> {
    path: String,
    /// The lines of the comment above it.
    lines: Vec<&'a str>,
    /// Index of the first of these lines in the file.
    start: usize,
    /// The doc comment in the sources.
    documentation: String,
}

impl Entry<'_> {
    fn comment(&self) -> String {
        let texts = self.lines.iter().map(|line| line.trim_start_matches('#'));
        texts.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }
}

/// Finds the documented settings and sections of the shipped file. A setting without a default is
/// commented out.
fn entries<'a>(shipped: &'a str, documented: &[(String, String)]) -> Vec<Entry<'a>> {
    let lines: Vec<_> = shipped.lines().collect();
    let mut section = "";
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut start = 0;
    for (index, line) in lines.iter().enumerate() {
        let text = line.trim_start_matches("# ");
        let header = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let path = match (header, text.split_once(" = ")) {
            (Some(header), _) => {
                section = header;
                header.to_owned()
            }
            (None, Some((key, _))) => format!("{section}.{key}"),
            (None, None) => String::new(),
        };
        if let Some((_, documentation)) = documented.iter().find(|(known, _)| *known == path) {
            entries.push(Entry {
                path,
                lines: lines[start..index].to_vec(),
                start,
                documentation: documentation.clone(),
            });
            start = index + 1;
        } else if !line.starts_with('#') || header.is_some() {
            start = index + 1;
        }
    }
    entries
}

/// Returns the shipped file with the comments of the sources. Everything else is unchanged.
fn with_comments(shipped: &str, entries: &[Entry<'_>]) -> String {
    let mut lines: Vec<_> = shipped.lines().map(|line| format!("{line}\n")).collect();
    for entry in entries.iter().rev() {
        let end = entry.start + entry.lines.len();
        lines.splice(entry.start..end, [rendered(&entry.documentation)]);
    }
    lines.concat()
}

/// Renders a doc comment as a comment of the shipped file.
fn rendered(documentation: &str) -> String {
    let mut lines = Vec::new();
    let mut line = "#".to_owned();
    for word in documentation.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push(std::mem::replace(&mut line, "#".to_owned()));
        }
        line += " ";
        line += word;
    }
    lines.push(line);
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Returns the path and the doc comment of every setting and every section, from the sources.
fn documented_settings() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    document_fields(&sources, &root().join("src/config"), "Settings", "", &mut found);
    found
}

/// Adds the fields of a settings struct, and of the structs of its sections.
fn document_fields(
    sources: &[(PathBuf, String)],
    folder: &Path,
    name: &str,
    section: &str,
    found: &mut Vec<(String, String)>,
) {
    let Some((path, body)) = settings_struct(sources, folder, name) else { return };
    let mut documentation = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            documentation.extend(text.split_whitespace());
        }
        let Some((field, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": "))
        else {
            continue;
        };
        let path_of_field = match section {
            "" => field.to_owned(),
            _ => format!("{section}.{field}"),
        };
        // In TOML there is nothing to link to.
        let text = documentation.join(" ").replace("[`", "`").replace("`]", "`");
        assert!(!text.is_empty(), "{path_of_field} has no doc comment");
        found.push((path_of_field.clone(), text));
        documentation.clear();
        let (folder, kind) = match kind.trim_end_matches(',').split_once("::") {
            Some((module, kind)) => (root().join("src").join(module), kind),
            None => (path.parent().unwrap().to_owned(), kind.trim_end_matches(',')),
        };
        document_fields(sources, &folder, kind, &path_of_field, found);
    }
}

/// Finds a settings struct in a folder, or elsewhere in `src` if the name is unique. Returns its
/// file and its fields, or `None` if the type is not such a struct.
fn settings_struct<'a>(
    sources: &'a [(PathBuf, String)],
    folder: &Path,
    name: &str,
) -> Option<(&'a Path, &'a str)> {
    let head = format!("\npub struct {name} {{\n");
    let all: Vec<_> = sources
        .iter()
        .filter_map(|(path, text)| {
            let (before, after) = text.split_once(&head)?;
            let attributes = before.rsplit("\n\n").next()?;
            let is_settings = attributes.contains("deny_unknown_fields");
            is_settings.then(|| (path.as_path(), after.split("\n}").next().unwrap_or_default()))
        })
        .collect();
    let near = all.iter().find(|(path, _)| path.starts_with(folder));
    near.or_else(|| all.first().filter(|_| all.len() == 1)).copied()
}
