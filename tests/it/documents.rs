//! Documents that must agree with the code: the commands of the README and of `docs`, and the
//! shipped configuration.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use dog_iqa::cli::Cli;
use dog_iqa::config::Settings;

/// The minimum number of commands in each document that has any.
const COMMANDS_MIN: [(&str, usize); 4] =
    [("README.md", 5), ("docs/engines.md", 9), ("docs/messages.md", 5), ("docs/operations.md", 10)];

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
    let line = line.split(" #").next().unwrap_or_default();
    let command = line.split(" | ").flat_map(|part| part.split(" && ")).find_map(|part| {
        let part = part.trim();
        part.strip_prefix("cargo run --release -- ").or_else(|| part.strip_prefix("dogiqa "))
    })?;
    command.split(" < ").next()
}

/// Splits a command into words. Text between single quotes is one word.
fn words(command: &str) -> impl Iterator<Item = &str> {
    command.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    })
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
