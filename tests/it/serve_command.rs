//! `dogiqa serve` and `dogiqa run --serve` as processes.

use std::fs;
use std::process::Command;
use std::time::Duration;

use dog_iqa::storage::file_uri;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::cli::{command, photo, text};
use crate::process::Process;
use crate::scoring_server::{ScoringServer, error};
use crate::served_api::{client, send};
use crate::stream::{PATIENCE, Record, Scene};

const KEY: &str = "planted-api-key-0123456789";

/// Returns a command with the settings that all of these tests need.
fn configured(words: &[&str], settings: &[&str]) -> Command {
    let mut command = command(words);
    let common = [
        "engine.name=classic",
        "telemetry.server.address=127.0.0.1:0",
        "telemetry.log.format=json",
        "serve.listen=127.0.0.1:0",
    ];
    command.args(common.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    command
}

/// Returns the address of the API, from the log.
fn url_of(process: &Process) -> String {
    let line = process.wait_for_line("serving POST /v1/score", PATIENCE);
    let line: Value = serde_json::from_str(&line).unwrap();
    format!("http://{}/v1/score", line["address"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_scores_until_sigterm_and_shows_no_key() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("shop {KEY}\n")).unwrap();
    let keys = format!("serve.api_keys_file={}", file.path().display());
    let mut serve = configured(&["serve"], &[&keys, "telemetry.log.filter=trace"]);
    let process = Process::spawn("the server", &mut serve);
    let url = url_of(&process);
    let photo = fs::read(photo("cat.jpg")).unwrap();
    let request = client().post(&url).header("x-api-key", KEY).body(photo.clone());
    let response = send(request).await.unwrap();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.body["image"]["format"], "jpeg");
    let wrong = client().post(&url).header("x-api-key", format!("{KEY}-wrong")).body(photo.clone());
    assert_eq!(send(wrong).await.unwrap().status, 401);
    // A file that is being edited changes nothing.
    fs::write(file.path(), "shop short\n").unwrap();
    process.wait_for_line("the API keys stay as they are", PATIENCE);
    let request = client().post(&url).header("x-api-key", KEY).body(photo);
    assert_eq!(send(request).await.unwrap().status, 200);
    fs::write(file.path(), format!("shop {KEY}\n")).unwrap();
    process.terminate();
    let (status, log) = tokio::task::spawn_blocking(|| process.finish(PATIENCE)).await.unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("request answered") && log.contains("shop"), "the log has no details");
    assert!(!log.contains("planted"), "the log shows a key");
    for words in [["config"], ["check"]] {
        let output = configured(&words, &[&keys, "kafka.probe_timeout=1s"]).output().unwrap();
        assert!(!text(&output.stdout).contains("planted"));
    }
}

#[test]
fn an_open_address_without_keys_is_refused_and_check_says_who_may_use_the_api() {
    let open = "serve.listen=0.0.0.0:0";
    for (words, settings, code, part) in [
        (&["serve"][..], &[open][..], 1, "set serve.api_keys_file"),
        (&["run", "--serve"], &[open], 1, "set serve.api_keys_file"),
        (&["check"], &[open], 1, "broken   serve: serve.listen = 0.0.0.0:0 is open"),
        (&["check"], &[open, "serve.allow_anonymous=true"], 1, "warning  serve: everyone"),
        (&["check"], &[], 1, "ok       serve: only this machine"),
        (&["check"], &["serve.connections_max=99999999999"], 1, "warning  memory: with --serve"),
        (&["check", "--for", "serve"], &[], 0, "ok       kafka: not tested"),
        (&["check", "--for", "serve"], &["engine.shadow.share=0.5"], 0, "ok       memory: "),
        (&["check", "--for", "serve"], &[open], 1, "broken   serve: serve.listen = 0.0.0.0:0"),
        (&["check", "--for", "serve"], &["storage.allow_buckets=['s3:x']"], 1, "broken   storage"),
        (
            &["check", "--for", "serve"],
            &["serve.connections_max=99999999999"],
            1,
            "broken   memory: ",
        ),
        (&["serve"], &["serve.api_keys_file=/no/such/file"], 1, "/no/such/file: it cannot be read"),
    ] {
        let brokers = ["kafka.bootstrap_servers=127.0.0.1:9", "kafka.probe_timeout=1s"];
        let settings = [&brokers, settings].concat();
        let output = configured(words, &settings).output().unwrap();
        let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{all}");
        assert!(all.contains(part), "`{part}` is not in {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_is_not_ready_while_its_scoring_server_is_away() {
    let scorer = ScoringServer::start();
    scorer.misbehave(|_| Some(error(503, "the model is gone")));
    let http = format!("engine.dog_iqa.http.url={}", scorer.server.url("/v1"));
    let settings = [
        "engine.name=dog-iqa",
        "engine.dog_iqa.segmenter=classic",
        "engine.dog_iqa.scorer=http",
        &http,
        "engine.dog_iqa.http.model=brightness",
        "engine.dog_iqa.http.attempts_max=1",
    ];
    let process = Process::spawn("the server", &mut configured(&["serve"], &settings));
    let url = url_of(&process);
    let line = process.wait_for_line("serving /healthz", PATIENCE);
    let line: Value = serde_json::from_str(&line).unwrap();
    let readyz = format!("http://{}/readyz", line["address"].as_str().unwrap());
    let readiness = async || {
        let response = client().get(&readyz).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let score = async || {
        let photo = fs::read(photo("cat.jpg")).unwrap();
        send(client().post(&url).body(photo)).await.unwrap().status
    };
    let until = async |status: u16| {
        let mut checks = tokio::time::interval(Duration::from_millis(20));
        let wait = async {
            loop {
                // The pauses between trials, in which it is not ready, grow with each failure.
                if status == 503 {
                    assert_eq!(score().await, 503);
                }
                let (current, text) = readiness().await;
                if current == status {
                    return text;
                }
                checks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the readiness changes")
    };
    until(200).await;
    let text = until(503).await;
    assert!(text.contains("server_unavailable") && text.contains("the model is gone"), "{text}");
    scorer.behave();
    // After a pause the next request tries the server again.
    until(200).await;
    assert_eq!(score().await, 200);
    process.terminate();
    let (status, log) = tokio::task::spawn_blocking(|| process.finish(PATIENCE)).await.unwrap();
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_with_serve_answers_records_and_requests_in_one_process() {
    let scene = Scene::new(1).await;
    let broker = format!("kafka.bootstrap_servers={}", scene.settings.bootstrap_servers);
    let roots = format!("storage.file_roots=[\"{}\"]", photo(""));
    let settings = [&*broker, "kafka.group_protocol=consumer", &roots];
    let process = Process::spawn("the worker", &mut configured(&["run", "--serve"], &settings));
    let url = url_of(&process);
    let uri = file_uri(photo("cat.jpg").as_ref());
    let body = json!({ "id": "over http", "uri": uri }).to_string();
    let record = json!({ "id": "over kafka", "uri": uri }).to_string();
    scene.write(vec![Record { payload: Some(record.into()), ..Record::default() }]).await;
    let request = client().post(&url).header("content-type", "application/json").body(body);
    let response = send(request).await.unwrap();
    assert_eq!(response.status, 200, "{response:?}");
    let events = scene.events(1).await;
    assert_eq!(events[0]["reference"]["id"], "over kafka");
    assert_eq!(events[0]["score"], response.body["score"], "one engine, one score");
    assert_eq!(events[0]["engine"], response.body["engine"]);
    scene.until_offsets(|offsets| offsets == [(1, 1)]).await;
    process.terminate();
    let (status, log) = tokio::task::spawn_blocking(|| process.finish(PATIENCE)).await.unwrap();
    assert!(status.success(), "{log}");
}
