//! TLS and passwords against the real broker, with certificates of our own: who belongs together
//! works together, and everybody else is told what is wrong, where, and what to do.

use std::process::Command;

use crate::process::Process;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};
use crate::services::{Services, secured};

const REFERENCES: usize = 300;
/// What a worker sets that only wants to know whom it talks to.
const TLS: [&str; 2] = ["security_protocol=SSL", "ssl_ca_location=FOLDER/ca.pem"];

/// Settings that reach one of the broker's listeners, as `kafka.KEY=VALUE`.
fn settings(secured: &Services, listener: &str, properties: &[&str]) -> Vec<String> {
    let servers = format!("kafka.bootstrap_servers={}", secured.value(listener));
    let certificates = secured.value("KAFKA_CERTIFICATES");
    let property =
        |text: &&str| format!("kafka.properties.{}", text.replace("FOLDER", certificates));
    std::iter::once(servers).chain(properties.iter().map(property)).collect()
}

/// What a worker that has a password sets.
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
    // Each has one of the three partitions before there is anything to do.
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

/// A worker that the broker does not let in, or that does not let the broker in.
struct Refusal {
    name: &'static str,
    settings: Vec<String>,
    /// The value that says where, and whatever else the last word has to say: what is wrong, and
    /// what to do.
    listener: &'static str,
    says: Vec<&'static str>,
}

#[test]
fn who_is_not_let_in_is_told_why_and_what_to_do() {
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

/// Whom the broker does not let in.
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
            listener: "KAFKA_SASL",
            says: vec!["refuse the credentials", "SCRAM-SHA-512", "check sasl.mechanism, sasl.us"],
        },
        Refusal {
            name: "a mechanism that the broker does not have",
            settings: with_password(secured, "PLAIN", secured.value("KAFKA_PASSWORD")),
            listener: "KAFKA_SASL",
            says: vec!["Unsupported SASL mechanism", "SCRAM-SHA-256", "check sasl.mechanism"],
        },
        Refusal {
            name: "no certificate of its own",
            settings: settings(secured, "KAFKA_MTLS", &TLS),
            listener: "KAFKA_MTLS",
            says: wants_certificate.to_vec(),
        },
        Refusal {
            name: "a stranger's certificate",
            settings: settings(secured, "KAFKA_MTLS", &stranger),
            listener: "KAFKA_MTLS",
            says: wants_certificate.to_vec(),
        },
        Refusal {
            name: "no TLS where there has to be",
            settings: settings(secured, "KAFKA_SASL", &[]),
            listener: "KAFKA_SASL",
            says: vec!["close every connection at once", "security.protocol"],
        },
    ]
}

/// Which broker a worker does not let in.
fn refused_brokers(secured: &Services) -> Vec<Refusal> {
    let other_authority = ["security_protocol=SSL", "ssl_ca_location=FOLDER/other-ca.pem"];
    let no_authority = ["security_protocol=SSL", "ssl_ca_location=FOLDER/absent.pem"];
    vec![
        Refusal {
            name: "another authority",
            settings: settings(secured, "KAFKA_SASL", &other_authority),
            listener: "KAFKA_SASL",
            says: vec!["is not trusted: it is signed by an authority", "ssl.ca.location"],
        },
        Refusal {
            name: "an expired certificate",
            settings: settings(secured, "KAFKA_EXPIRED", &TLS),
            listener: "KAFKA_EXPIRED",
            says: vec!["is not trusted: it has expired; renew it"],
        },
        Refusal {
            name: "TLS where there is none",
            settings: settings(secured, "KAFKA_BOOTSTRAP", &TLS),
            listener: "KAFKA_BOOTSTRAP",
            // Librdkafka asks whether it is a PLAINTEXT listener, or sees only the end of the handshake.
            says: vec!["TLS", "security.protocol"],
        },
        Refusal {
            name: "no file of authorities",
            settings: settings(secured, "KAFKA_SASL", &no_authority),
            listener: "KAFKA_CERTIFICATES",
            says: vec!["cannot read the file", "/absent.pem", "ssl_ca_location"],
        },
    ]
}

fn assert_refused(secured: &Services, subcommand: &str, refusal: &Refusal) {
    let Refusal { name, settings, listener, says } = refusal;
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogiqa"));
    command.arg(subcommand).args(settings.iter().flat_map(|setting| ["--set", setting]));
    command.args(["--set", "kafka.probe_timeout=4s", "--set", "telemetry.server.enabled=false"]);
    let process = Process::spawn(&format!("{subcommand} with {name}"), &mut command);
    let (status, log) = process.finish(WAIT_MAX);
    assert_eq!(status.code(), Some(1), "{subcommand} with {name}");
    let is_last_word = |line: &&str| line.starts_with("error: ") || line.starts_with("broken ");
    let Some(last_word) = log.lines().find(is_last_word) else {
        panic!("{subcommand} with {name} says nothing:\n{log}");
    };
    for word in says.iter().chain([&secured.value(listener)]) {
        assert!(last_word.contains(word), "{subcommand} with {name}: no `{word}` in: {last_word}");
    }
    for password in ["planted-wrong-password", "dogiqa-worker-password"] {
        assert!(!log.contains(password), "{subcommand} with {name}:\n{log}");
    }
}
