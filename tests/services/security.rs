//! TLS and passwords with a real broker and test certificates. Valid credentials work. With invalid
//! ones the error names the problem, the listener and the fix.

use std::process::Command;

use crate::process::Process;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};
use crate::services::{Services, secured};

const REFERENCES: usize = 300;
/// Properties of a worker that only verifies the broker's certificate.
const TLS: [&str; 2] = ["security_protocol=SSL", "ssl_ca_location=FOLDER/ca.pem"];

/// Returns the settings for one of the broker's listeners, as `kafka.KEY=VALUE`.
fn settings(secured: &Services, listener: &str, properties: &[&str]) -> Vec<String> {
    let servers = format!("kafka.bootstrap_servers={}", secured.value(listener));
    let certificates = secured.value("KAFKA_CERTIFICATES");
    let property =
        |text: &&str| format!("kafka.properties.{}", text.replace("FOLDER", certificates));
    std::iter::once(servers).chain(properties.iter().map(property)).collect()
}

/// Returns the settings of a worker that uses a password.
fn with_password(secured: &Services, mechanism: &str, password: &str) -> Vec<String> {
    let properties = [
        "security_protocol=SASL_SSL",
        "ssl_ca_location=FOLDER/ca.pem",
        &format!("sasl_mechanism={mechanism}"),
        &format!("sasl_username={}", secured.value("KAFKA_USER")),
        &format!("sasl_password={password}"),
    ];
    settings(secured, "KAFKA_SASL", &properties)
}

#[test]
fn workers_with_passwords_and_certificates_answer_every_reference_once() {
    let Some(secured) = secured() else { return };
    let fixture = ServiceFixture::new(secured, "over-tls", 3);
    let password = secured.value("KAFKA_PASSWORD");
    let with_certificate = [
        "security_protocol=SSL",
        "ssl_ca_location=FOLDER/ca.pem",
        "ssl_certificate_location=FOLDER/client.pem",
        "ssl_key_location=FOLDER/client.key",
    ];
    let workers = [
        ("SCRAM-SHA-256", with_password(secured, "SCRAM-SHA-256", password)),
        ("SCRAM-SHA-512", with_password(secured, "SCRAM-SHA-512", password)),
        ("mutual TLS", settings(secured, "KAFKA_MTLS", &with_certificate)),
    ];
    // Each worker has one of the three partitions before the first record.
    let workers = workers.map(|(name, settings)| {
        let worker = fixture.start_worker(name, &settings);
        worker.wait_for_line("partitions were given to this worker", WAIT_MAX);
        worker
    });
    fixture.publish_references(REFERENCES);
    let mut reader = fixture.answer_reader();
    reader.read_until_answered(REFERENCES, &workers.each_ref());
    for worker in workers {
        ServiceFixture::stop(worker);
    }
    reader.read_to_end();
    assert_eq!((reader.events.len(), reader.event_count()), (REFERENCES, REFERENCES));
    assert_eq!(reader.dead_letters.len(), 0);
    fixture.assert_everything_is_committed();
}

/// A worker that the broker rejects, or a broker that the worker rejects.
struct Refusal {
    name: &'static str,
    settings: Vec<String>,
    /// The name of the value that the error must contain: a listener's address or a path.
    location: &'static str,
    /// Other parts of the error: the problem and the fix.
    message_parts: Vec<&'static str>,
}

#[test]
fn a_refused_connection_is_reported_with_its_cause_and_the_fix() {
    let Some(secured) = secured() else { return };
    std::thread::scope(|scope| {
        for refusal in refused_workers(secured).into_iter().chain(refused_brokers(secured)) {
            scope.spawn(move || {
                for subcommand in ["check", "run"] {
                    assert_refused(secured, subcommand, &refusal);
                }
            });
        }
    });
}

/// Returns workers that the broker rejects.
fn refused_workers(secured: &Services) -> Vec<Refusal> {
    let stranger = [
        "security_protocol=SSL",
        "ssl_ca_location=FOLDER/ca.pem",
        "ssl_certificate_location=FOLDER/stranger.pem",
        "ssl_key_location=FOLDER/stranger.key",
    ];
    let wants_certificate = ["certificate, or the lack of one", "set ssl.certificate.location"];
    vec![
        Refusal {
            name: "a wrong password",
            settings: with_password(secured, "SCRAM-SHA-512", "planted-wrong-password"),
            location: "KAFKA_SASL",
            message_parts: vec![
                "refuse the credentials",
                "SCRAM-SHA-512",
                "check sasl.mechanism, sasl.us",
            ],
        },
        Refusal {
            name: "a mechanism that the broker does not have",
            settings: with_password(secured, "PLAIN", secured.value("KAFKA_PASSWORD")),
            location: "KAFKA_SASL",
            message_parts: vec![
                "Unsupported SASL mechanism",
                "SCRAM-SHA-256",
                "check sasl.mechanism",
            ],
        },
        Refusal {
            name: "no client certificate",
            settings: settings(secured, "KAFKA_MTLS", &TLS),
            location: "KAFKA_MTLS",
            message_parts: wants_certificate.to_vec(),
        },
        Refusal {
            name: "a stranger's certificate",
            settings: settings(secured, "KAFKA_MTLS", &stranger),
            location: "KAFKA_MTLS",
            message_parts: wants_certificate.to_vec(),
        },
        Refusal {
            name: "no TLS where there has to be",
            settings: settings(secured, "KAFKA_SASL", &[]),
            location: "KAFKA_SASL",
            message_parts: vec!["close every connection at once", "security.protocol"],
        },
    ]
}

/// Returns workers that reject the broker.
fn refused_brokers(secured: &Services) -> Vec<Refusal> {
    let other_authority = ["security_protocol=SSL", "ssl_ca_location=FOLDER/other-ca.pem"];
    let no_authority = ["security_protocol=SSL", "ssl_ca_location=FOLDER/absent.pem"];
    vec![
        Refusal {
            name: "another authority",
            settings: settings(secured, "KAFKA_SASL", &other_authority),
            location: "KAFKA_SASL",
            message_parts: vec!["is not trusted: it is signed by an authority", "ssl.ca.location"],
        },
        Refusal {
            name: "an expired certificate",
            settings: settings(secured, "KAFKA_EXPIRED", &TLS),
            location: "KAFKA_EXPIRED",
            message_parts: vec!["is not trusted: it has expired; renew it"],
        },
        Refusal {
            name: "TLS where there is none",
            settings: settings(secured, "KAFKA_BOOTSTRAP", &TLS),
            location: "KAFKA_BOOTSTRAP",
            // Librdkafka suggests a PLAINTEXT listener, or reports only the failed handshake.
            message_parts: vec!["TLS", "security.protocol"],
        },
        Refusal {
            name: "no file of authorities",
            settings: settings(secured, "KAFKA_SASL", &no_authority),
            location: "KAFKA_CERTIFICATES",
            message_parts: vec!["cannot read the file", "/absent.pem", "ssl_ca_location"],
        },
    ]
}

fn assert_refused(secured: &Services, subcommand: &str, refusal: &Refusal) {
    let Refusal { name, settings, location, message_parts } = refusal;
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogiqa"));
    command.arg(subcommand).args(settings.iter().flat_map(|setting| ["--set", setting]));
    command.args(["--set", "kafka.probe_timeout=4s", "--set", "telemetry.server.enabled=false"]);
    let process = Process::spawn(&format!("{subcommand} with {name}"), &mut command);
    let (status, log) = process.finish(WAIT_MAX);
    assert_eq!(status.code(), Some(1), "{subcommand} with {name}");
    let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("broken ");
    let Some(error) = log.lines().find(is_error) else {
        panic!("{subcommand} with {name} prints no error:\n{log}");
    };
    for word in message_parts.iter().chain([&secured.value(location)]) {
        assert!(error.contains(word), "{subcommand} with {name}: no `{word}` in: {error}");
    }
    for password in ["planted-wrong-password", "dogiqa-worker-password"] {
        assert!(!log.contains(password), "{subcommand} with {name}:\n{log}");
    }
}
