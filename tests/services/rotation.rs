//! Credentials that change while a worker runs: the password of Kafka and the keys of S3. No
//! restart is needed, and no reference becomes a dead letter.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::answer_comparison::{AnswerComparison, Expected};
use crate::bucket;
use crate::fault_run::FaultRow;
use crate::process::Process;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Services, rotating, script_command, services};
use crate::topic_reader::TopicReader;

const REFERENCES: usize = 100;
const NEW_PASSWORD: &str = "dogiqa-second-password";
const NEW_SECRET: &str = "dogiqa-second-secret";

fn run_script(script: &str, subcommand: &str, arguments: &[&str]) {
    let status = script_command(script, subcommand).args(arguments).status().unwrap();
    assert!(status.success(), "{script} {subcommand} failed");
}

/// A worker with a password in a file, in one delivery mode.
struct PasswordWorker {
    fixture: ServiceFixture,
    worker: Process,
    reader: TopicReader,
}

impl PasswordWorker {
    fn start(services: &'static Services, mode: &str, password: &Path) -> Self {
        let fixture = ServiceFixture::new(services, &format!("rotation-{mode}"), 1);
        let certificates = services.value("KAFKA_CERTIFICATES");
        let settings = [
            format!("kafka.delivery={mode}"),
            format!("kafka.bootstrap_servers={}", services.value("KAFKA_SASL")),
            "kafka.properties.security_protocol=SASL_SSL".to_owned(),
            format!("kafka.properties.ssl_ca_location={certificates}/ca.pem"),
            "kafka.properties.sasl_mechanism=SCRAM-SHA-512".to_owned(),
            format!("kafka.properties.sasl_username={}", services.value("KAFKA_USER")),
            format!("kafka.properties.sasl_password_file={}", password.display()),
        ];
        let worker = fixture.start_worker(mode, &settings);
        ServiceFixture::wait_until_ready(&worker);
        let reader = fixture.answer_reader();
        Self { fixture, worker, reader }
    }

    /// Publishes further references and reads their events.
    fn answer(&mut self, count: usize) {
        let first = self.reader.event_count();
        let all = first + count;
        self.fixture.publish(self.fixture.references(first..all));
        self.reader.read_until(&[&self.worker], |reader| reader.event_count() >= all);
    }
}

#[test]
fn a_changed_password_file_of_kafka_is_read_again_without_a_restart() {
    let Some(services) = rotating() else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, services.value("KAFKA_PASSWORD")).unwrap();
    let modes = ["at-least-once", "exactly-once"];
    let started = Instant::now();
    let mut workers = modes.map(|mode| PasswordWorker::start(services, mode, &file));
    for worker in &mut workers {
        worker.answer(REFERENCES);
    }
    let broker = services.value("KAFKA_DIR");
    run_script("kafka.sh", "password", &[broker, NEW_PASSWORD]);
    // Only new connections need the new password.
    run_script("kafka.sh", "kill", &[broker, "1"]);
    run_script("kafka.sh", "revive", &[broker, "1"]);
    for PasswordWorker { worker, .. } in &workers {
        worker.wait_for_line("authentication or TLS with a broker failed", WAIT_MAX);
    }
    std::fs::write(&file, NEW_PASSWORD).unwrap();
    for worker in &mut workers {
        worker.worker.wait_for_line("the Kafka password has changed", WAIT_MAX);
        worker.answer(REFERENCES);
    }
    let seconds = started.elapsed().as_secs_f64();
    for (PasswordWorker { fixture, worker, mut reader }, mode) in workers.into_iter().zip(modes) {
        ServiceFixture::stop(worker);
        let expected = Expected::events(2 * REFERENCES);
        let comparison = AnswerComparison::of(&fixture, &mut reader, &expected);
        let (title, references) = ("the password of Kafka is changed", expected.answers());
        FaultRow { title, delivery: mode, references, faults: 1, comparison, seconds }.record();
        assert_eq!((comparison.lost, comparison.wrong), (0, 0), "{mode}: {comparison:?}");
    }
}

#[test]
fn changed_keys_of_an_aws_profile_are_read_again_without_a_restart() {
    let Some(services) = services() else { return };
    let samples = bucket::fifty_images(services);
    let objects = samples.iter().map(|sample| (sample.key.as_str(), sample.bytes.as_slice()));
    bucket::put_all(services, "S3_ROTATING_BUCKET", objects);
    let fixture = ServiceFixture::new(services, "rotation-s3", 1);
    let profile = fixture.folder().join("credentials");
    let write = |secret: &str| {
        let key = services.value("S3_ROTATING_KEY");
        let text = format!("[images]\naws_access_key_id={key}\naws_secret_access_key={secret}\n");
        std::fs::write(&profile, text).unwrap();
    };
    write(services.value("S3_ROTATING_SECRET"));
    let bucket = services.value("S3_ROTATING_BUCKET");
    let config = fixture.worker_config();
    let is_key =
        |line: &&str| line.starts_with("access_key_id") || line.starts_with("secret_access_key");
    let config: Vec<_> = config.lines().filter(|line| !is_key(line)).collect();
    std::fs::write(fixture.config_file(), config.join("\n")).unwrap();
    let mut command = fixture.command(&["run"]);
    command.args(["--set", &format!("storage.allow_buckets=[\"s3://{bucket}\"]")]);
    command.env("AWS_SHARED_CREDENTIALS_FILE", &profile).env("AWS_PROFILE", "images");
    let worker = Process::spawn("the worker", &mut command);
    ServiceFixture::wait_until_ready(&worker);
    let mut reader = fixture.answer_reader();
    let publish = |from: usize| {
        fixture.publish((from..from + REFERENCES).map(|number| {
            let uri = format!("s3://{bucket}/{}", samples[number % samples.len()].key);
            let reference = json!({"id": number.to_string(), "uri": uri});
            PublishedRecord {
                payload: Some(reference.to_string().into_bytes()),
                ..PublishedRecord::default()
            }
        }));
    };
    publish(0);
    reader.read_until(&[&worker], |reader| reader.event_count() >= REFERENCES);
    let account = services.value("S3_ROTATING_KEY");
    run_script("s3.sh", "secret", &[services.value("S3_DIR"), account, NEW_SECRET]);
    publish(REFERENCES);
    let line = worker.wait_for_line("its references are held", WAIT_MAX);
    assert!(line.contains("SignatureDoesNotMatch"), "{line}");
    worker.wait_for_line("\"ready\":false", WAIT_MAX);
    write(NEW_SECRET);
    reader.read_until(&[&worker], |reader| reader.event_count() >= 2 * REFERENCES);
    ServiceFixture::stop(worker);
    reader.read_to_end();
    assert_eq!((reader.event_count(), reader.dead_letters.len()), (2 * REFERENCES, 0));
    fixture.assert_everything_is_committed();
}
