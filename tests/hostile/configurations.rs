//! Configuration files and flags: the documented settings with other values, in other sections, and
//! corrupted.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use fastrand::Rng;

use super::campaign::{Bytes, Target, run};
use super::config::{ConfigFolder, memory_max};
use super::mutate::mutate;
use super::text::{disturbed, text};

struct ConfigInput {
    file: Vec<u8>,
    flags: Vec<String>,
}

impl Bytes for ConfigInput {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned([&self.file, format!("\n# {:?}", self.flags).as_bytes()].concat())
    }
}

#[test]
fn hostile_configurations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/config/dogiqa.toml");
    let documented = fs::read_to_string(path).unwrap();
    let settings = settings(&documented);
    assert!(settings.len() > 100, "only {} settings in the documented file", settings.len());
    let folder = ConfigFolder::new();
    run(&Target {
        name: "hostile_configurations",
        cost: 1,
        generate: &|rng| given(rng, &settings),
        check: &|given: &ConfigInput| folder.check(&given.file, &given.flags),
        memory_max: &|given| memory_max(&given.file, &given.flags),
    });
}

/// Returns the key and the default of every setting in the file, also of commented ones.
fn settings(documented: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut settings = Vec::new();
    for line in documented.lines() {
        let line = line.trim_start_matches("# ");
        let name = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(name) = name {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            let is_key = key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"_.0123456789".contains(&byte));
            if is_key {
                settings.push((format!("{section}.{key}"), value.to_owned()));
            }
        }
    }
    settings
}

fn given(rng: &mut Rng, settings: &[(String, String)]) -> ConfigInput {
    let lines = (0..rng.u8(..6)).map(|_| {
        let (key, value) = setting(rng, settings);
        format!("{key} = {value}\n")
    });
    let mut file: String = lines.collect();
    match rng.u8(..40) {
        0 => file.extend(["a = ", &"[".repeat(1 << rng.usize(..14))]),
        1 => file.extend([&"a.".repeat(1 << rng.usize(..12)), "a = 1"]),
        2 => file = text(rng),
        _ => {}
    }
    let mut file = file.into_bytes();
    if rng.u8(..4) == 0 {
        mutate(rng, &mut file, b"[kafka]\n[[engine]]\n\"\"\"");
    }
    let flags = (0..rng.usize(..8).saturating_sub(5)).map(|_| {
        let (key, value) = setting(rng, settings);
        let flag = format!("{key}={value}");
        if rng.u8(..4) == 0 { disturbed(rng, &flag) } else { flag }
    });
    ConfigInput { flags: flags.collect(), file }
}

fn setting(rng: &mut Rng, settings: &[(String, String)]) -> (String, String) {
    const VALUES: [&str; 40] = [
        "0",
        "1",
        "-1",
        "5",
        "4294967296",
        "9223372036854775807",
        "-9223372036854775808",
        "0x10",
        "1e308",
        "-0.0",
        "inf",
        "nan",
        "0.5",
        "true",
        "''",
        "'0'",
        "'auto'",
        "'1s'",
        "'0s'",
        "'584942417355y'",
        "'18446744073709551615s'",
        "'1ns 1ns'",
        "'-1s'",
        "'5 GiB'",
        "'18 EiB'",
        "'1e30 B'",
        "'1.5 MiB'",
        "'-5 MB'",
        "'all'",
        "[]",
        "['']",
        "['s3://a', 's3://a']",
        "['s3://']",
        "[[]]",
        "{}",
        "{ a = 1 }",
        "{ '' = { '' = 1 } }",
        "1979-05-27T07:32:00Z",
        "'paper-mean'",
        "'word'",
    ];
    let (key, default) = &settings[rng.usize(..settings.len())];
    let value = match rng.u8(..6) {
        0 => default.clone(),
        1 => {
            let (_, other) = &settings[rng.usize(..settings.len())];
            other.clone()
        }
        2 => toml::Value::String(text(rng)).to_string(),
        _ => VALUES[rng.usize(..VALUES.len())].to_owned(),
    };
    let key = if rng.u8(..32) == 0 { disturbed(rng, key) } else { key.clone() };
    (key, value)
}
