//! `dogiqa models pull` and the package `huggingface_hub` against the same Hub on loopback: ours
//! succeeds wherever the package does, and each uses the cache of the other.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::hub::{COMMIT, Delivery, Repository};
use crate::services::{announce, script_command};
use crate::web_server::{Answer, WebServer};

const MODEL: &str = "some/sam2";
const TOKEN: &str = "hf_secret";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2").join(name)
}

fn sam2() -> Repository {
    Repository::default()
        .with_file("model.safetensors", &golden("model.hf.safetensors"))
        .with_file("config.json", &golden("config.json"))
}

/// Returns the Python that has the package, or `None` if these tests are off or not possible.
fn python() -> Option<PathBuf> {
    let requested = std::env::var_os("DOGIQA_SERVICES").unwrap_or_default();
    if requested == "off" {
        return None;
    }
    let output = script_command("hub.sh", "python").output().unwrap();
    if output.status.success() {
        let printed = String::from_utf8(output.stdout).unwrap();
        return Some(PathBuf::from(printed.trim()));
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    assert!(requested != "required", "DOGIQA_SERVICES=required, but {reason}");
    announce(&format!("skipping the tests with huggingface_hub: {}", reason.trim()));
    None
}

fn ours(hub: &WebServer, home: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogiqa"));
    run(command.args(["models", "pull", MODEL]), hub, home)
}

fn peer(python: &Path, hub: &WebServer, home: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/hub_peer.py");
    run(Command::new(python).arg(script).arg(MODEL), hub, home)
}

fn run(command: &mut Command, hub: &WebServer, home: &Path) -> Output {
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "DOGIQA_CONFIG"] {
        command.env_remove(name);
    }
    command
        .env("HF_ENDPOINT", hub.url("").trim_end_matches('/'))
        .env("HF_HOME", home)
        .env("HF_TOKEN", TOKEN)
        .env("HF_HUB_DOWNLOAD_TIMEOUT", "5")
        .env("HF_HUB_DISABLE_XET", "1")
        .output()
        .unwrap()
}

/// Returns true if the printed folder has both files, byte for byte.
fn has_model(output: &Output) -> bool {
    let folder = String::from_utf8_lossy(&output.stdout);
    let folder = Path::new(folder.trim());
    let is_equal = |name: &str, source: &str| {
        std::fs::read(folder.join(name)).ok() == std::fs::read(golden(source)).ok()
    };
    output.status.success()
        && is_equal("model.safetensors", "model.hf.safetensors")
        && is_equal("config.json", "config.json")
}

/// A name, and the repository that the Hub serves.
type Scene = (&'static str, Box<dyn Fn() -> Repository>);

#[test]
fn ours_succeeds_wherever_the_package_does() {
    let Some(python) = python() else { return };
    let later = |status| Answer::status(status, "Retry-After: 0\r\n", "later");
    let scenes: Vec<Scene> = vec![
        ("plain", Box::new(sam2)),
        ("gated", Box::new(|| sam2().gated(TOKEN))),
        ("whole files", Box::new(|| sam2().delivered(Delivery::Whole))),
        ("chunked", Box::new(|| sam2().delivered(Delivery::Chunked))),
        ("weak tags", Box::new(|| sam2().tagged("W/\"{}\""))),
        ("tags of a proxy", Box::new(|| sam2().tagged("\"{}-gzip\""))),
        ("cut once", Box::new(|| sam2().cut("model.safetensors", 100_000))),
        ("busy list", Box::new(move || sam2().failing("/revision/", later(429), 1))),
        ("busy Hub", Box::new(move || sam2().failing("/resolve/", later(500), 1))),
        ("busy storage", Box::new(move || sam2().failing("cdn", later(502), 2))),
        ("reset", Box::new(|| sam2().failing("cdn", Answer::Reset(Vec::new()), 1))),
        ("expiring addresses", Box::new(|| sam2().cut("model.safetensors", 100_000).expiring(2))),
        ("damaged", Box::new(|| sam2().damaged("model.safetensors"))),
    ];
    let (mut both, mut ours_only) = (0, 0);
    for (name, repository) in &scenes {
        let [ours, peer] = [true, false].map(|is_ours| {
            // The bytes are on another host, which must not see the token.
            let storage = repository().public().serve();
            let hub = repository().elsewhere(storage.place()).serve();
            let home = tempfile::tempdir().unwrap();
            let output =
                if is_ours { ours(&hub, home.path()) } else { peer(&python, &hub, home.path()) };
            for request in storage.requests().iter().filter(|_| is_ours) {
                assert_eq!(request.header("authorization"), None, "{name}: {request:?}");
            }
            let is_whole = has_model(&output);
            assert!(!is_ours || is_whole == output.status.success(), "{name}: {output:?}");
            is_whole
        });
        println!("{name}: ours {ours}, huggingface_hub {peer}");
        assert!(ours || !peer, "{name}: the package succeeds and ours does not");
        both += usize::from(ours && peer);
        ours_only += usize::from(ours && !peer);
    }
    println!("{} scenes: both succeed in {both}, only ours in {ours_only}", scenes.len());
    assert!(both >= 5, "the peer works: {both}");
}

#[test]
fn each_uses_the_cache_of_the_other() {
    let Some(python) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let storage = sam2().serve();
    let hub = sam2().elsewhere(storage.place()).serve();
    let first = peer(&python, &hub, home.path());
    assert!(has_model(&first), "{first:?}");
    let fetched = storage.requests().len();
    let second = ours(&hub, home.path());
    assert!(has_model(&second), "{second:?}");
    assert_eq!(storage.requests().len(), fetched, "ours fetches nothing again");
    assert_eq!(first.stdout, second.stdout, "the same folder");

    let home = tempfile::tempdir().unwrap();
    let storage = sam2().serve();
    let hub = sam2().elsewhere(storage.place()).serve();
    let first = ours(&hub, home.path());
    assert!(has_model(&first), "{first:?}");
    let fetched = storage.requests().len();
    let second = peer(&python, &hub, home.path());
    assert!(has_model(&second), "{second:?}");
    assert_eq!(storage.requests().len(), fetched, "the package fetches nothing again");
    assert!(String::from_utf8_lossy(&second.stdout).contains(COMMIT));
}
