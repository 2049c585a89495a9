//! `dogiqa check` on broken configurations of the paper's engine: it names the problem and the fix.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::cli::{command, text};
use crate::hub::Repository;
use crate::small_networks::SmallNetworks;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Returns the line about the engine, with the settings of the small networks and then these.
fn engine_line(networks: &SmallNetworks, settings: &[String], home: &Path) -> String {
    let mut command = command(&["check"]);
    let kafka = ["kafka.bootstrap_servers=127.0.0.1:9", "kafka.probe_timeout=10ms"];
    let kafka = kafka.map(str::to_owned);
    for setting in networks.settings().iter().chain(settings).chain(&kafka) {
        command.args(["--set", setting]);
    }
    let output = command.env("HF_HOME", home).env_remove("HF_HUB_CACHE").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "there is no broker");
    let lines = text(&output.stdout).lines().map(str::to_owned);
    lines.into_iter().find(|line| line.contains(" engine: ")).unwrap()
}

#[test]
fn every_problem_of_the_engine_is_reported() {
    let networks = SmallNetworks::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let set = |key: &str, value: &Path| vec![format!("engine.dog_iqa.{key}={}", value.display())];
    let line = |settings: &[String]| engine_line(&networks, settings, folder.path());

    let valid = line(&[]);
    assert!(valid.starts_with("ok ") && valid.contains("dog-iqa"), "{valid}");
    let assert_broken = |settings: &[String], parts: &[&str]| {
        let line = line(settings);
        assert!(line.starts_with("broken"), "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line} lacks one of {parts:?}");
    };

    assert_broken(
        &set("segmenter", &at("nothing.pt")),
        &["engine.dog_iqa.segmenter", "nothing.pt", "No such"],
    );
    assert_broken(
        &["engine.dog_iqa.scorer=mplug-owl3-7b-241101".to_owned()],
        &[
            "engine.dog_iqa.scorer",
            "`dogiqa models pull mplug-owl3-7b-241101`",
            "16.1 GB",
            "Apache-2.0",
        ],
    );

    let whole = std::fs::read(golden("sam2/model.hf.safetensors")).unwrap();
    std::fs::write(at("half.safetensors"), &whole[..whole.len() / 2]).unwrap();
    assert_broken(
        &set("segmenter", &at("half.safetensors")),
        &["half.safetensors", "download complete"],
    );

    let pinned = format!("engine.dog_iqa.sha256=[\"{}\"]", "0".repeat(64));
    assert_broken(&[pinned], &["engine.dog_iqa.sha256", "pinned", "model.hf.safetensors"]);

    assert_broken(
        &set("scorer", &golden("sam2/model.hf.safetensors")),
        &["engine.dog_iqa.scorer", "not the weights of an mPLUG-Owl3"],
    );

    std::fs::create_dir(at("huge")).unwrap();
    std::fs::copy(golden("sam2/config.json"), at("huge/config.json")).unwrap();
    write_sparse(&at("huge/model.safetensors"));
    assert_broken(&set("segmenter", &at("huge")), &["take about 4.0 TiB", "dtype", "quantize"]);

    if cfg!(not(feature = "cuda")) {
        let device = "engine.dog_iqa.device=cuda:0".to_owned();
        assert_broken(&[device], &["engine.dog_iqa.device", "--features cuda", "`cpu`"]);
    }
}

#[test]
fn weights_of_another_network_under_a_presets_name_are_reported() {
    let networks = SmallNetworks::new();
    let home = tempfile::tempdir().unwrap();
    let hub = Repository::default()
        .with_file("model.safetensors", &golden("sam2/model.hf.safetensors"))
        .with_file("config.json", &golden("sam2/config.json"))
        .serve();
    let mut pull = command(&["models", "pull", "sam2.1-large"]);
    pull.env("HF_HOME", home.path()).env("HF_ENDPOINT", hub.url("")).env_remove("HF_HUB_CACHE");
    assert!(pull.output().unwrap().status.success());
    let line =
        engine_line(&networks, &["engine.dog_iqa.segmenter=sam2.1-large".to_owned()], home.path());
    let expected = "sam2.1-large was asked for, and the weights are of sam2.1-custom";
    assert!(line.starts_with("broken") && line.contains(expected), "{line}");
}

/// Writes the golden network with an additional tensor of 4 TiB, as a sparse file.
fn write_sparse(path: &Path) {
    let bytes = std::fs::read(golden("sam2/model.hf.safetensors")).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
    let (table, data) = rest.split_at(length);
    let mut table: serde_json::Value = serde_json::from_slice(table).unwrap();
    let (begin, size) = (data.len() as u64, 4_u64 << 40);
    table["huge"] = serde_json::json!({
        "dtype": "F32", "shape": [size / 4], "data_offsets": [begin, begin + size],
    });
    let mut table = table.to_string().into_bytes();
    table.resize(table.len().next_multiple_of(8), b' ');
    let head = [&(table.len() as u64).to_le_bytes()[..], &table, data].concat();
    std::fs::write(path, &head).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(head.len() as u64 + size).unwrap();
}
