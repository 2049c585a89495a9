//! Snapshots of the text that users read: every help page, and the log of one run of the worker.
//!
//! A changed text is one visible diff in `tests/it/snapshots`. To accept it, run
//! `INSTA_UPDATE=always cargo test --test it snapshots` and commit the files.

use std::collections::BTreeSet;
use std::path::Path;

use dog_iqa::storage::file_uri;
use insta::Settings;
use serde_json::{Map, Value, json};

use crate::cli::{command, help_pages, photo};
use crate::process::Process;
use crate::stream::{PATIENCE, Record, Scene, reference};

#[test]
fn every_help_page_matches_its_snapshot() {
    let names: BTreeSet<String> = help_pages()
        .into_iter()
        .map(|page| {
            let name = format!("help_{}", page.words.join("_"));
            snapshot_settings().bind(|| insta::assert_snapshot!(name.as_str(), page.text));
            format!("{name}.snap")
        })
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let saved: BTreeSet<String> = files
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.starts_with("help_"))
        .collect();
    assert_eq!(saved, names, "every help snapshot belongs to a command");
}

/// The worker answers two photos, an invalid record and a forbidden URI. The lines are sorted,
/// because the order of some of them is not fixed.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_run_matches_its_snapshot() {
    let scene = Scene::new(1).await;
    let broker = format!("kafka.bootstrap_servers={}", scene.settings.bootstrap_servers);
    let roots = format!("storage.file_roots=[\"{}\"]", photo(""));
    let settings = [
        &broker,
        "kafka.group_protocol=consumer",
        "engine.name=classic",
        "telemetry.server.address=127.0.0.1:0",
        "telemetry.log.format=json",
        &roots,
    ];
    let mut run = command(&["run"]);
    run.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let worker = Process::spawn("the worker", &mut run);
    let record = |payload: String| Record { payload: Some(payload.into()), ..Record::default() };
    let photo_reference =
        |name: &str| record(json!({"id": name, "uri": file_uri(photo(name).as_ref())}).to_string());
    let invalid = record("{".to_owned());
    let forbidden = reference("forbidden", "a.png");
    let photos = [photo_reference("cat.jpg"), photo_reference("coffee.jpg")];
    scene.write(photos.into_iter().chain([invalid, forbidden]).collect()).await;
    scene.events(2).await;
    scene.dead_letters(2).await;
    scene.until_offsets(|offsets| offsets == [(4, 4)]).await;
    worker.terminate();
    let (status, log) = tokio::task::spawn_blocking(|| worker.finish(PATIENCE)).await.unwrap();
    assert!(status.success(), "{log}");
    let mut lines: Vec<String> = log.lines().map(redacted).collect();
    lines.sort();
    snapshot_settings().bind(|| insta::assert_snapshot!("log_of_a_run", lines.join("\n")));
}

/// Returns level, message and fields of a JSON log line. Time, port and amounts of memory are
/// replaced, because they differ between runs and machines; the target is left out, because it is
/// the module's path.
fn redacted(line: &str) -> String {
    let mut event: Map<String, Value> = serde_json::from_str(line).unwrap();
    for name in ["timestamp", "target"] {
        assert!(event.remove(name).is_some(), "{line}");
    }
    let [level, message] = ["level", "message"].map(|name| event.remove(name).unwrap());
    let mut message = message.as_str().unwrap().to_owned();
    if event.contains_key("machine") {
        event["bytes"] = json!("BYTES");
        event["machine"] = json!("BYTES");
        message = message.split(' ').map(without_size).collect::<Vec<_>>().join(" ");
    }
    if let Some(address) = event.get_mut("address") {
        let host = address.as_str().unwrap().rsplit_once(':').unwrap().0;
        *address = json!(format!("{host}:PORT"));
    }
    let fields: Vec<_> = event.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{} {message}{}", level.as_str().unwrap(), fields.concat())
}

fn without_size(word: &str) -> String {
    let bare = word.trim_end_matches([',', ':']);
    let replacement = match bare {
        "B" | "KiB" | "MiB" | "GiB" => "UNIT",
        _ if bare.parse::<f64>().is_ok() => "NUMBER",
        _ => return word.to_owned(),
    };
    word.replace(bare, replacement)
}

fn snapshot_settings() -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}
