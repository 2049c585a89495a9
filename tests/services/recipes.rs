//! The recipes of the runbook, run as they are printed: from the document, in a shell.
//!
//! Only names are replaced: topics, the bucket, addresses, and a network by one of small random
//! weights.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::bucket;
use crate::notifications::together;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::services;
use crate::small_networks::SmallNetworks;
use crate::wait;
use crate::web_server::{Answer, WebServer};

const PHOTOS: [&str; 3] = ["cat.jpg", "coffee.jpg", "rocket.jpg"];

/// Returns the shell block of a section of docs/operations.md.
fn recipe(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, section) = document.split_once(&format!("# {heading}\n")).expect(heading);
    let section = section.split("\n#").next().unwrap();
    let (_, block) = section.split_once("```sh\n").expect(heading);
    block.split("```").next().unwrap().to_owned()
}

/// A folder with the runbook's configuration file and the sample photos.
struct Machine<'a> {
    fixture: &'a ServiceFixture,
    folder: TempDir,
    port: u16,
}

impl<'a> Machine<'a> {
    fn new(fixture: &'a ServiceFixture) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("dogiqa.toml"), fixture.worker_config()).unwrap();
        let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        std::os::unix::fs::symlink(photos, folder.path().join("examples")).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { fixture, folder, port: free.local_addr().unwrap().port() }
    }

    /// Runs a recipe, then ends what it left in the background. Returns its output.
    fn run(&self, heading: &str, replaced: &[(&str, &str)]) -> String {
        self.run_until(heading, replaced, || true)
    }

    /// Runs a recipe, waits for a condition, then ends what it left in the background.
    fn run_until(
        &self,
        heading: &str,
        replaced: &[(&str, &str)],
        is_done: impl Fn() -> bool,
    ) -> String {
        let photos = bucket::uri(self.fixture.services, "recipes/");
        let local = format!("127.0.0.1:{}", self.port);
        let common = [
            ("s3://user-uploads/2026/", photos.as_str()),
            ("127.0.0.1:8080", &local),
            ("127.0.0.1:9465", &local),
        ];
        let mut script = recipe(heading);
        for (from, to) in common.iter().chain(replaced) {
            script = script.replace(from, to);
        }
        for (from, _) in replaced {
            assert!(recipe(heading).contains(from), "{heading} has no `{from}`");
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_dogiqa")).parent().unwrap().display();
        // `read` ends when this process closes the pipe.
        let script = format!(
            "set -euo pipefail\nPATH={programs}:$PATH\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{script}\nread || true\n"
        );
        let mut child = Command::new("timeout")
            .args([&WAIT_MAX.as_secs().to_string(), "bash", "-c", &script])
            .current_dir(self.folder.path())
            .env("DOGIQA_CONFIG", "dogiqa.toml")
            .env("DOGIQA_SERVE__LISTEN", &local)
            .env("DOGIQA_MONITOR__LISTEN", &local)
            .env("TOKEN", "of-the-test")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        assert!(wait::until(is_done, WAIT_MAX), "{heading}");
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let logged = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{heading}: {script}\n{printed}\n{logged}");
        printed
    }
}

#[test]
fn the_recipes_of_the_runbook_run_as_printed() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "recipes", 1);
    let read = |photo| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos").join(photo))
    };
    let photos = PHOTOS.map(|photo| (format!("recipes/{photo}"), read(photo).unwrap()));
    let copy = ("recipes/copy.jpg", photos[0].1.as_slice());
    let objects = photos.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()));
    bucket::put_all(services, bucket::PHOTOS, objects.chain([copy]));
    let machine = || Machine::new(&fixture);

    let event: Value = serde_json::from_str(&machine().run("Score over HTTP", &[])).unwrap();
    assert!(event["score"].is_number(), "{event}");

    let state: Value = serde_json::from_str(&machine().run("The live page", &[])).unwrap();
    assert!(state.is_object(), "{state}");

    let hits = machine().run("Cache", &[]);
    assert!(hits.contains("\"cached\":true"), "{hits}");

    let copies = machine().run("Duplicates", &[]);
    assert!(copies.contains("copy.jpg"), "{copies}");

    let collector = WebServer::start(|_, _| Answer::ok(""));
    let endpoint = collector.url("");
    let replaced =
        [("http://collector:4318", endpoint.as_str()), ("sample_ratio=0.1", "sample_ratio=1")];
    let is_traced = || collector.requests().iter().any(|request| request.target == "/v1/traces");
    machine().run_until("Traces and metrics by OTLP", &replaced, is_traced);
    let request = collector.requests().remove(0);
    assert_eq!(request.header("authorization"), Some("Bearer of-the-test"));

    // The following recipes read a topic with nothing but their own answers.
    let fixture = ServiceFixture::new(services, "recipes-bucket", 1);
    let bucket = services.value(bucket::PHOTOS);
    let keys = photos.each_ref().map(|(key, _)| key.as_str());
    fixture.publish(std::iter::once(PublishedRecord {
        payload: Some(together(bucket, &keys).to_string().into_bytes()),
        ..PublishedRecord::default()
    }));
    let answers = Machine::new(&fixture)
        .run("Notifications of a bucket", &[("bucket-events", &fixture.input())]);
    assert!(PHOTOS.iter().all(|photo| answers.contains(photo)), "{answers}");

    let fixture = ServiceFixture::new(services, "recipes-shadow", 1);
    let shadow = ServiceFixture::new(services, "recipes-shadow-events", 1).events();
    let networks = SmallNetworks::new();
    let settings = networks.settings();
    let scorer = settings.iter().find_map(|it| it.strip_prefix("engine.dog_iqa.scorer=")).unwrap();
    let replaced = [
        ("image-quality-shadow", shadow.as_str()),
        ("share = 0.1 ", "share = 1.0 "),
        ("\"clip-iqa\"", &format!("\"{scorer}\"")),
        ("--for 1m", "--count 4"),
    ];
    fixture.publish_references(4);
    let compared = Machine::new(&fixture).run("Compare two engines", &replaced);
    assert!(compared.contains("SRCC"), "{compared}");
}
