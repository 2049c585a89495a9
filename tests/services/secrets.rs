//! Secrets stay where they belong: planted in every setting that takes one, provoked by every
//! failure that could show them, and looked for in all that leaves the process.
//!
//! The value of a dead letter is the record as it came, so a URI in it keeps its query; so does an
//! event's `reference`. Whoever reads those topics could read the input, too.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::bucket;
use crate::http::{self, EchoServer};
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Services, secured};
use crate::topic_reader::Answer;

/// What nobody may see, beside the password of the broker and the key of S3.
const PLANTED: [&str; 16] = [
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
];
/// Stands in an address, and is no secret: where this does not show, nothing was looked at.
const NO_SECRET: &str = "no-secret-at-all";

#[test]
fn no_secret_shows_in_anything_that_leaves_the_process() {
    let Some(secured) = secured() else { return };
    let fixture = ServiceFixture::new(secured, "secrets", 1);
    let store = EchoServer::start("planted-redirect-signature");
    let secrets = secrets(secured);
    let check = |what: &str, text: &str| assert_hidden(&secrets, what, text);
    bucket::fifty_images(secured);
    let references = references(secured, &store);
    fixture.publish(references.iter().enumerate().map(|(number, uri)| PublishedRecord {
        key: Some(number.to_string().into_bytes()),
        payload: Some(json!({"uri": uri}).to_string().into_bytes()),
        ..PublishedRecord::default()
    }));
    configure(&fixture, &store);

    let worker = Process::spawn("the worker", &mut command(&fixture, &store, "run"));
    ServiceFixture::wait_until_ready(&worker);
    let mut reader = fixture.answer_reader();
    let bad = references.len() - 1;
    reader.read_until(&[&worker], |reader| {
        reader.event_count() == 1 && reader.dead_letters.len() == bad
    });
    let address = http::served_address(&worker);
    for page in ["/metrics", "/healthz", "/readyz"] {
        check(page, &http::get(&address, page).1);
    }
    // Somebody who sends an endless header is cut off; somebody who never ends a request does not
    // hold up the end of the worker.
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
    // With everything that librdkafka and the HTTP clients say when they are asked to say all.
    assert!(log.contains("[redacted]") && log.contains(NO_SECRET), "the log does not say all");
    check("the log", &log);

    for letter in &reader.dead_letters {
        check("a dead letter", &format!("{:?}", texts(letter)));
        let code = letter.header("dogiqa.error.code").unwrap();
        assert!(code.starts_with("uri.") || code == "fetch.forbidden", "{code}");
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
    let (status, log) = Process::spawn("the refused", &mut refused).finish(WAIT_MAX);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("refuse the credentials"), "{log}");
    check("the log of one that is refused", &log);
}

/// One good reference, and others that fail where a secret is near.
fn references(secured: &Services, store: &EchoServer) -> Vec<String> {
    let sample = &bucket::fifty_images(secured)[0];
    let place = store.place();
    vec![
        bucket::uri(secured, &sample.key),
        format!("http://{place}/{NO_SECRET}?X-Amz-Signature=planted-presigned-signature"),
        format!("http://{place}/redirect?X-Amz-Signature=planted-presigned-signature"),
        format!("http://me:planted-userinfo@{place}/a.jpg"),
        format!("http://me:planted-userinfo?@{place}/a.jpg"),
        format!("ftp://me:planted-ftp-password@{place}/a.jpg"),
        format!("s3://AKIATEST:planted-bucket-userinfo@{}/a.jpg", secured.value("S3_BUCKET")),
        format!("s3://{}/a.jpg", secured.value("S3_PRIVATE_BUCKET")),
        "s3://echo/a.jpg".to_owned(),
        "az://echo/a.jpg".to_owned(),
    ]
}

/// Writes the file: the fixture's, and every setting that takes a secret and nothing needs.
fn configure(fixture: &ServiceFixture, store: &EchoServer) {
    let secured = fixture.services;
    let certificates = secured.value("KAFKA_CERTIFICATES");
    let (place, base64) = (store.place(), BASE64_STANDARD_NO_PAD);
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
endpoint = "http://{place}"
allow_http = true
access_key_id = "AKIATEST"
secret_access_key = "planted-s3-secret"
session_token = "planted-s3-token"

[storage.azure]
endpoint = "http://{place}"
allow_http = true
account = "echo"
access_key = "{azure_key}"
"#,
        fixture = fixture.worker_config(),
        user = secured.value("KAFKA_USER"),
        azure_key = base64.encode("planted-azure-key-padded"),
    );
    std::fs::write(fixture.config_file(), file).unwrap();
}

/// The real binary with the rest of the secrets, in flags and in the environment.
fn command(fixture: &ServiceFixture, store: &EchoServer, subcommand: &str) -> Command {
    let (mut command, secured) = (fixture.command(&[subcommand]), fixture.services);
    let (photos, private) = (secured.value(bucket::PHOTOS), secured.value(bucket::PRIVATE));
    let buckets = format!(r#"["s3://{photos}", "s3://{private}", "s3://echo", "az://echo"]"#);
    for setting in [
        format!("kafka.bootstrap_servers={}", secured.value("KAFKA_SASL")),
        "kafka.properties.ssl_key_password=planted+key/password".to_owned(),
        format!("storage.allow_buckets={buckets}"),
        format!("storage.allow_private_hosts=[\"{}\"]", store.place()),
        "storage.allow_http=true".to_owned(),
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
    // The first line of a key says only which kind it is of.
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

fn assert_hidden(secrets: &[String], what: &str, text: &str) {
    for secret in secrets {
        for form in forms(secret) {
            let Some(at) = text.find(&form) else { continue };
            let start = text.floor_char_boundary(at.saturating_sub(300));
            let end = text.ceil_char_boundary((at + form.len() + 50).min(text.len()));
            let around = text.get(start..end).unwrap();
            panic!("{what} shows `{secret}` as `{form}`: …{around}…");
        }
    }
}

/// The secret as it is, percent-encoded, in hexadecimal, and in base64 wherever in a longer text it
/// stands.
fn forms(secret: &str) -> Vec<String> {
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![secret.to_owned(), percent, hex::encode(secret)];
    for before in 0..3 {
        let longer = [&vec![0; before][..], secret.as_bytes()].concat();
        // Letters that no neighbour has a part in.
        let own = (before * 8).div_ceil(6)..longer.len() * 8 / 6;
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&longer).get(own.clone()).unwrap().to_owned());
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
