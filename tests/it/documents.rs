//! Documents that would rot without a test: the README's commands, the shipped configuration.

use std::fs;
use std::path::Path;

use clap::Parser;
use dog_iqa::cli::Cli;
use dog_iqa::config::Settings;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_command_of_the_readme_is_one() {
    let readme = read("README.md");
    let shell = readme.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let mut checked = 0;
    for line in shell.flat_map(str::lines) {
        let command = line.split(" #").next().unwrap().split(" | ").find_map(|part| {
            let part = part.trim();
            part.strip_prefix("cargo run --release -- ").or_else(|| part.strip_prefix("dogiqa "))
        });
        let Some(command) = command else { continue };
        let command = command.split(" && ").next().unwrap();
        // Between quotes is one word.
        let parts = command.split('\'').enumerate();
        let words = parts.flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        let parsed = Cli::try_parse_from(std::iter::once("dogiqa").chain(words));
        assert!(parsed.is_ok(), "`{command}`: {}", parsed.unwrap_err());
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} commands found in the README");
}

#[test]
fn the_shipped_configuration_is_the_defaults() {
    let shipped = read("deploy/config/dogiqa.toml");
    assert_eq!(toml::from_str::<Settings>(&shipped).unwrap(), Settings::default());
    let shown: toml::Value = toml::from_str(&shipped).unwrap();
    let defaults = toml::Value::try_from(Settings::default()).unwrap();
    let missing: Vec<_> =
        keys("", &defaults).into_iter().filter(|key| !keys("", &shown).contains(key)).collect();
    assert!(missing.is_empty(), "deploy/config/dogiqa.toml does not show {missing:?}");
}

fn keys(prefix: &str, value: &toml::Value) -> Vec<String> {
    let Some(table) = value.as_table() else { return vec![prefix.to_owned()] };
    table.iter().flat_map(|(name, value)| keys(&format!("{prefix}.{name}"), value)).collect()
}
