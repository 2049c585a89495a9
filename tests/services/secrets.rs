//! No secret leaves the process. The test puts a secret into every setting that accepts one, causes
//! every failure whose message could show one, and searches all output of the process.
//!
//! The value of a dead letter is the original record, so a URI in it keeps its query. The same
//! holds for an event's `reference`. Readers of those topics may also read the input topic.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::bucket;
use crate::http::{self, EchoServer};
use crate::process::Process;
use crate::scoring_server::{ScoringServer, error};
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Services, secured};
use crate::topic_reader::Answer;

/// Secrets that must not appear, in addition to the broker's password and the S3 key.
const PLANTED: [&str; 18] = [
    "planted+key/password",
    "planted-keystore-password",
    "planted-oauth-secret",
    "planted-s3-secret",
    "planted-s3-token",
    "planted-azure-key-padded",
    "planted-endpoint-password",
    "planted-hub-token",
    "planted-aws-secret",
    "planted-azure-variable00",
    "planted-presigned-signature",
    "planted-userinfo",
    "planted-redirect-signature",
    "planted-ftp-password",
    "planted-bucket-userinfo",
    "planted-wrong-password",
    "planted-key-of-a-client",
    SCORER_KEY,
];
/// Key for the scoring server, which repeats it in its errors.
const SCORER_KEY: &str = "planted-scorer-key";

/// Part of a URI that is not a secret. If it is not in the log, the search had nothing to find.
const NO_SECRET: &str = "no-secret-at-all";

#[test]
fn no_secret_appears_in_any_output_of_the_process() {
    let Some(secured) = secured() else { return };
    let fixture = ServiceFixture::new(secured, "secrets", 1);
    let store = EchoServer::start("planted-redirect-signature");
    let secrets = secrets(secured);
    let check = |source: &str, text: &str| assert_hidden(&secrets, source, text);
    bucket::fifty_images(secured);
    let references = references(secured, &store);
    fixture.publish(references.iter().enumerate().map(|(number, uri)| PublishedRecord {
        key: Some(number.to_string().into_bytes()),
        payload: Some(json!({"uri": uri}).to_string().into_bytes()),
        ..PublishedRecord::default()
    }));
    let scorer = ScoringServer::start();
    configure(&fixture, &store, &scorer);

    let worker = Process::spawn("the worker", &mut command(&fixture, &store, "run"));
    ServiceFixture::wait_until_ready(&worker);
    let mut reader = fixture.answer_reader();
    let bad = references.len() - 1;
    reader.read_until(&[&worker], |reader| {
        reader.event_count() == 1 && reader.dead_letters.len() == bad
    });
    let key = scorer.requests()[0].header("authorization").map(str::to_owned);
    assert_eq!(key, Some(format!("Bearer {SCORER_KEY}")));
    scorer.misbehave(|_| Some(error(401, &format!("the key is wrong: {SCORER_KEY}"))));
    let uri = bucket::uri(secured, &bucket::fifty_images(secured)[1].key);
    fixture.publish(std::iter::once(PublishedRecord {
        key: Some(b"refused".to_vec()),
        payload: Some(json!({"uri": uri}).to_string().into_bytes()),
        ..PublishedRecord::default()
    }));
    reader.read_until(&[&worker], |reader| reader.dead_letters.len() == bad + 1);
    let address = http::served_address(&worker);
    for page in ["/metrics", "/healthz", "/readyz"] {
        check(page, &http::get(&address, page).1);
    }
    // The server closes a connection with an endless header. An unfinished request does not delay
    // the worker's exit.
    let mut endless = TcpStream::connect(&address).unwrap();
    endless.set_write_timeout(Some(WAIT_MAX)).unwrap();
    endless.write_all(b"GET /metrics HTTP/1.1\r\nX-Endless: ").unwrap();
    while endless.write_all(&[b'x'; 4096]).is_ok() {}
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
    assert_eq!(http::get(&address, "/healthz").0, 200);
    worker.terminate();
    let (status, log) = worker.finish(WAIT_MAX);
    assert!(status.success(), "{status}");
    drop(slow);
    assert!(log.contains("the key is wrong: "), "the log lacks the server's error");
    // At this level librdkafka and the HTTP clients log every detail.
    assert!(log.contains("[redacted]") && log.contains(NO_SECRET), "the log lacks details");
    check("the log", &log);

    for letter in &reader.dead_letters {
        check("a dead letter", &format!("{:?}", texts(letter)));
        let code = letter.header("dogiqa.error.code").unwrap();
        let expected = ["fetch.forbidden", "score.credentials"];
        assert!(code.starts_with("uri.") || expected.contains(&code), "{code}");
    }
    let event = &reader.events.values().next().unwrap()[0];
    check("the event", &format!("{:?} {}", texts(event), event.json()));

    for arguments in [&["config"][..], &["config", "--sources"], &["check"], &["models", "list"]] {
        let mut command = command(&fixture, &store, arguments[0]);
        let output = command.args(&arguments[1..]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        check(&arguments.join(" "), &String::from_utf8_lossy(&text));
    }
    let mut refused = command(&fixture, &store, "run");
    refused.args(["--set", "kafka.properties.sasl_password=planted-wrong-password"]);
    let (status, log) = Process::spawn("the refused worker", &mut refused).finish(WAIT_MAX);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("refuse the credentials"), "{log}");
    check("the log of a refused worker", &log);
}

/// Returns one valid reference, and others whose errors could show a secret.
fn references(secured: &Services, store: &EchoServer) -> Vec<String> {
    let sample = &bucket::fifty_images(secured)[0];
    let authority = store.authority();
    vec![
        bucket::uri(secured, &sample.key),
        format!("http://{authority}/{NO_SECRET}?X-Amz-Signature=planted-presigned-signature"),
        format!("http://{authority}/redirect?X-Amz-Signature=planted-presigned-signature"),
        format!("http://me:planted-userinfo@{authority}/a.jpg"),
        format!("http://me:planted-userinfo?@{authority}/a.jpg"),
        format!("ftp://me:planted-ftp-password@{authority}/a.jpg"),
        format!("s3://AKIATEST:planted-bucket-userinfo@{}/a.jpg", secured.value("S3_BUCKET")),
        format!("s3://{}/a.jpg", secured.value("S3_PRIVATE_BUCKET")),
        "s3://echo/a.jpg".to_owned(),
        "az://echo/a.jpg".to_owned(),
    ]
}

/// Writes the fixture's configuration, plus every other setting that takes a secret.
fn configure(fixture: &ServiceFixture, store: &EchoServer, scorer: &ScoringServer) {
    let secured = fixture.services;
    let certificates = secured.value("KAFKA_CERTIFICATES");
    let (authority, base64) = (store.authority(), BASE64_STANDARD_NO_PAD);
    let api_keys = fixture.config_file().with_file_name("api-keys");
    std::fs::write(&api_keys, "client planted-key-of-a-client\n").unwrap();
    let file = format!(
        r#"{fixture}
[kafka.properties]
"security.protocol" = "SASL_SSL"
"sasl.mechanism" = "SCRAM-SHA-256"
"sasl.username" = "{user}"
"ssl.ca.location" = "{certificates}/ca.pem"
"ssl.certificate.location" = "{certificates}/client.pem"
"ssl.key.pem_file" = "{certificates}/client.key"
"ssl.keystore.password" = "planted-keystore-password"
"sasl.oauthbearer.config" = "principal=planted-oauth-secret"
debug = "all"

[storage.s3_buckets.echo]
endpoint = "http://{authority}"
allow_http = true
access_key_id = "AKIATEST"
secret_access_key = "planted-s3-secret"
session_token = "planted-s3-token"

[storage.azure]
endpoint = "http://{authority}"
allow_http = true
account = "echo"
access_key = "{azure_key}"

[serve]
api_keys_file = "{api_keys}"

[engine.dog_iqa]
segmenter = "classic"
scorer = "http"

[engine.dog_iqa.http]
url = "{scorer}"
model = "brightness"
api_key = "{SCORER_KEY}"
"#,
        api_keys = api_keys.display(),
        fixture = fixture.worker_config().replace("\"classic\"", "\"dog-iqa\""),
        scorer = scorer.server.url("/v1"),
        user = secured.value("KAFKA_USER"),
        azure_key = base64.encode("planted-azure-key-padded"),
    );
    std::fs::write(fixture.config_file(), file).unwrap();
}

/// Returns a command for the real binary, with the other secrets in flags and in the environment.
fn command(fixture: &ServiceFixture, store: &EchoServer, subcommand: &str) -> Command {
    let (mut command, secured) = (fixture.command(&[subcommand]), fixture.services);
    let (photos, private) = (secured.value(bucket::PHOTOS), secured.value(bucket::PRIVATE));
    let buckets = format!(r#"["s3://{photos}", "s3://{private}", "s3://echo", "az://echo"]"#);
    for setting in [
        format!("kafka.bootstrap_servers={}", secured.value("KAFKA_SASL")),
        "kafka.properties.ssl_key_password=planted+key/password".to_owned(),
        format!("storage.allow_buckets={buckets}"),
        format!("storage.allow_private_hosts=[\"{}\"]", store.authority()),
        "storage.allow_http=true".to_owned(),
        // Stores that deny every object hold its references.
        "kafka.outage_hold_max=1s".to_owned(),
        "telemetry.log.filter=trace".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    command
        .env("DOGIQA_KAFKA__PROPERTIES__SASL_PASSWORD", secured.value("KAFKA_PASSWORD"))
        .env("DOGIQA_STORAGE__GCS__ENDPOINT", "https://me:planted-endpoint-password@gcs.example")
        .env("HF_TOKEN", "planted-hub-token")
        .env("AWS_SECRET_ACCESS_KEY", "planted-aws-secret")
        .env(
            "AZURE_STORAGE_ACCOUNT_KEY",
            BASE64_STANDARD_NO_PAD.encode("planted-azure-variable00"),
        );
    command
}

fn secrets(secured: &Services) -> Vec<String> {
    let key = format!("{}/client.key", secured.value("KAFKA_CERTIFICATES"));
    let key = std::fs::read_to_string(key).unwrap();
    // The first line of a key names only its kind.
    let of_key = key.lines().nth(2).unwrap();
    let known = ["KAFKA_PASSWORD", "S3_WORKER_SECRET", "S3_ROOT_SECRET"];
    let known = known.map(|name| secured.value(name)).into_iter();
    known.chain([of_key]).chain(PLANTED).map(str::to_owned).collect()
}

fn texts(answer: &Answer) -> Vec<(&str, String)> {
    let text = |value: &Option<Vec<u8>>| {
        String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()
    };
    answer.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

fn assert_hidden(secrets: &[String], source: &str, text: &str) {
    for secret in secrets {
        for form in forms(secret) {
            let Some(at) = text.find(&form) else { continue };
            let start = text.floor_char_boundary(at.saturating_sub(300));
            let end = text.ceil_char_boundary((at + form.len() + 50).min(text.len()));
            let around = text.get(start..end).unwrap();
            panic!("{source} shows `{secret}` as `{form}`: …{around}…");
        }
    }
}

/// Returns the secret unchanged, percent-encoded, in hexadecimal, and in base64 at each of the
/// three alignments within a longer text.
fn forms(secret: &str) -> Vec<String> {
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![secret.to_owned(), percent, hex::encode(secret)];
    for before in 0..3 {
        let longer = [&vec![0; before][..], secret.as_bytes()].concat();
        // Only base64 digits that do not depend on the neighbouring bytes.
        let independent = (before * 8).div_ceil(6)..longer.len() * 8 / 6;
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&longer).get(independent.clone()).unwrap().to_owned());
        }
    }
    forms
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "planted+key/password";
    let forms = forms(secret);
    for neighbours in ["", "a", "ab", "abc"] {
        let text = BASE64_STANDARD_NO_PAD.encode(format!("{neighbours}{secret}{neighbours}"));
        assert!(forms.iter().any(|form| text.contains(form)), "{neighbours}");
    }
    assert!(forms.contains(&"planted%2Bkey%2Fpassword".to_owned()));
}
