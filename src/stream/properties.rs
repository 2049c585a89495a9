//! Librdkafka properties that a user passes through: what may be passed, and how secrets stay so.
//!
//! Refused are the properties that have a setting of their own, those that would break a promise
//! of the worker, and those that run code. Aliases are resolved first, because of two names of one
//! property a random one would win.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::StreamError;
use crate::redact;

/// Librdkafka properties by name; secret values show as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// A property's value. Librdkafka takes text; a file or a variable may as well hold a number or a
/// boolean.
struct Plain(String);

/// What a secret looks like to everybody but librdkafka.
const REDACTED: &str = "***";

/// Parts of names whose values are secrets. More than librdkafka's own five: `ssl.key.pem` and the
/// OAuth configuration hold secrets too.
const SECRET_PARTS: [&str; 7] = [
    "password",
    "passphrase",
    "secret",
    "token",
    ".pem",
    "oauthbearer.config",
    "oauthbearer.assertion",
];

/// Another name of a property, and the name it is filed under here.
const ALIASES: [(&str, &str); 14] = [
    ("auto.commit.enable", "enable.auto.commit"),
    ("compression.codec", "compression.type"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.send.max.retries", "retries"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("ssl_certificate", "ssl.certificate.pem"),
    ("ssl_key", "ssl.key.pem"),
];

/// Names, or beginnings of names, that are refused, and why.
const REFUSED: [(&str, &str); 25] = [
    ("bootstrap.servers", "set kafka.bootstrap_servers"),
    ("group.id", "set kafka.group_id"),
    ("group.protocol", "set kafka.group_protocol"),
    ("group.instance.id", "set kafka.group_instance_id"),
    ("client.id", "set kafka.client_id"),
    ("client.rack", "set kafka.client_rack"),
    ("message.max.bytes", "set kafka.message_bytes_max"),
    ("session.timeout.ms", "set kafka.session_timeout"),
    ("transactional.id", "the worker names its transactions itself"),
    ("enable.auto.", "only answered references are committed"),
    ("auto.commit.", "only answered references are committed"),
    ("offset.store.method", "only answered references are committed"),
    ("partition.assignment.strategy", "a mixed group would stop at every rebalance"),
    ("enable.idempotence", "it keeps retries from duplicating events"),
    ("acks", "an event counts when all in-sync replicas have it"),
    ("retries", "an event is sent until it is acknowledged"),
    ("max.in.flight", "idempotence needs librdkafka's own bound"),
    ("enable.partition.eof", "the worker expects records only"),
    ("allow.auto.create.topics", "set kafka.create_topics"),
    ("statistics.interval.ms", "readiness, lag and the check of commits rest on it"),
    ("log.queue", "the worker reads the log queue"),
    ("plugin.library.paths", "it runs foreign code"),
    ("sasl.kerberos.kinit.cmd", "it runs foreign code"),
    ("ssl.engine.", "it runs foreign code"),
    ("test.mock.", "it replaces the brokers by doubles"),
];

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, Plain>::deserialize(deserializer)?;
        Ok(Self(values.into_iter().map(|(name, Plain(value))| (name, value)).collect()))
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl Visitor<'_> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number or a boolean")
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain(value.to_owned()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Plain, E> {
        Ok(Plain(value.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain(value.to_string()))
    }
}

impl Properties {
    /// Properties from pairs of name and value, as written in the configuration.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// Names and values for librdkafka: one name per property, files read.
    ///
    /// A name may be written with `_` for `.`, so that an environment variable can hold it, and
    /// `<name>_file` gives the file that holds the value.
    ///
    /// # Errors
    /// When a name is refused or given twice, or a file cannot be read.
    pub(super) fn resolve(&self) -> Result<BTreeMap<String, String>, StreamError> {
        let mut resolved = BTreeMap::new();
        for (written, value) in &self.0 {
            let (name, value) = match written.strip_suffix("_file") {
                Some(stem) => (canonical(stem), read_value(written, value)?),
                None => (canonical(written), value.clone()),
            };
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| is_named(&name, refused))
            {
                return Err(StreamError::Configuration(format!(
                    "kafka.properties must not set {written}: {reason}"
                )));
            }
            // Of a file that is not there librdkafka says `BIO lib`.
            if name.ends_with(".location") && value != "probe" {
                fs::metadata(&value).map_err(|error| unreadable(&value, written, &error))?;
            }
            if resolved.insert(name.clone(), value).is_some() {
                return Err(StreamError::Configuration(format!(
                    "kafka.properties sets {name} twice, once as {written}; keep one"
                )));
            }
        }
        Ok(resolved)
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.0.iter().map(shown)).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(shown))
    }
}

/// Explains a client that could not be made, without the value that librdkafka's error repeats.
pub(super) fn explain(error: &KafkaError) -> StreamError {
    let text = match error {
        KafkaError::ClientConfig(_, _, name, _) if is_secret(name) => {
            format!("librdkafka refuses the value of {name} (not shown, it is a secret)")
        }
        KafkaError::ClientConfig(_, reason, name, _) => {
            format!("librdkafka refuses {name}: {reason}; correct it in kafka.properties")
        }
        other => format!("librdkafka refuses the configuration: {other}; see kafka.properties"),
    };
    StreamError::Configuration(text)
}

/// Librdkafka's words without the part of `sasl.oauthbearer.config` that it did not understand.
pub(super) fn without_secrets(reason: &str) -> &str {
    redact::librdkafka_reason(reason)
}

/// Sets what a user passed over what the worker would have set.
pub(super) fn pass_through(config: &mut ClientConfig, resolved: &BTreeMap<String, String>) {
    for (name, value) in resolved {
        config.set(name.as_str(), value.as_str());
    }
}

fn shown<'a>((name, value): (&'a String, &'a String)) -> (&'a str, &'a str) {
    let hidden = !name.ends_with("_file") && is_secret(&canonical(name));
    (name, if hidden { REDACTED } else { value })
}

fn is_secret(name: &str) -> bool {
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// Whether `name` is `refused`, or begins with it where that ends in a dot or names a family.
fn is_named(name: &str, refused: &str) -> bool {
    match name.strip_prefix(refused) {
        Some(rest) => rest.is_empty() || refused.ends_with('.') || rest.starts_with('.'),
        None => false,
    }
}

fn canonical(written: &str) -> String {
    let name = written.trim().to_ascii_lowercase();
    let dotted = name.replace('_', ".");
    let known = ALIASES.iter().find(|(alias, _)| *alias == name || *alias == dotted);
    known.map_or(dotted, |(_, name)| (*name).to_owned())
}

fn read_value(written: &str, path: &str) -> Result<String, StreamError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, written, &error))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn unreadable(path: &str, written: &str, error: &io::Error) -> StreamError {
    StreamError::Configuration(format!(
        "cannot read the file {path} that kafka.properties names in {written}: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
        let properties = Properties::from_pairs(pairs.iter().copied());
        properties.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_and_booleans_are_taken_as_text() {
        let text = "\"linger.ms\" = 50\nlog_connection_close = false\n";
        let properties: Properties = toml::from_str(text).unwrap();
        let expected = [("linger.ms", "50"), ("log_connection_close", "false")];
        assert_eq!(properties, Properties::from_pairs(expected));
    }

    #[test]
    fn what_breaks_a_promise_or_runs_code_is_refused_under_every_name() {
        for name in [
            "bootstrap.servers",
            "metadata.broker.list",
            "group.id",
            "group.protocol",
            "transactional.id",
            "enable.auto.commit",
            "auto.commit.enable",
            "enable.auto.offset.store",
            "auto.commit.interval.ms",
            "partition.assignment.strategy",
            "enable.idempotence",
            "acks",
            "request.required.acks",
            "retries",
            "message.send.max.retries",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "enable.partition.eof",
            "allow.auto.create.topics",
            "offset.store.method",
            "log.queue",
            "plugin.library.paths",
            "sasl.kerberos.kinit.cmd",
            "ssl.engine.location",
            "test.mock.num.brokers",
            "Enable.Auto.Commit",
            "ENABLE_AUTO_COMMIT",
        ] {
            let error = resolve(&[(name, "1")]).expect_err(name);
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn other_properties_pass_under_one_name() {
        let passed = resolve(&[
            ("queue.buffering.max.ms", "20"),
            ("message_timeout_ms", "60000"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("group.remote.assignor", "uniform"),
        ]);
        let expected = [
            ("delivery.timeout.ms", "60000"),
            ("group.remote.assignor", "uniform"),
            ("linger.ms", "20"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(passed.unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn two_names_of_one_property_are_refused() {
        let error = resolve(&[("linger.ms", "5"), ("queue.buffering.max.ms", "9")]).unwrap_err();
        assert!(error.contains("linger.ms twice"), "{error}");
    }

    #[test]
    fn a_secret_may_stand_in_a_file_and_a_file_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "s3cret\n").unwrap();
        let path = path.to_str().unwrap();
        let passed = resolve(&[("sasl.password_file", path)]).unwrap();
        assert_eq!(passed["sasl.password"], "s3cret");
        for name in ["sasl.password_file", "ssl.ca.location", "ssl_key_location"] {
            let error = resolve(&[(name, "/nowhere/file")]).unwrap_err();
            assert!(error.contains("/nowhere/file") && error.contains(name), "{error}");
        }
        assert!(resolve(&[("ssl.ca.location", "probe")]).is_ok());
    }

    #[test]
    fn secrets_show_neither_in_debug_nor_in_the_configuration_nor_in_errors() {
        let secrets = [
            ("sasl.password", "planted-1"),
            ("SASL_OAUTHBEARER_CLIENT_SECRET", "planted-2"),
            ("ssl.key.pem", "planted-3"),
            ("ssl_key", "planted-4"),
        ];
        let properties = Properties::from_pairs(secrets);
        let shown = format!("{properties:?} {}", serde_json::to_string(&properties).unwrap());
        assert!(!shown.contains("planted"), "{shown}");
        assert!(shown.contains("sasl.password"), "{shown}");

        let mut config = ClientConfig::new();
        config.set("sasl.password.nonsense", "planted-5");
        let error = config.create_native_config().err().unwrap();
        assert!(!explain(&error).to_string().contains("planted"));
    }

    #[test]
    fn what_librdkafka_did_not_understand_is_not_repeated() {
        let reason = "Unrecognized sasl.oauthbearer.config beginning at: planted";
        assert_eq!(without_secrets(reason), "Unrecognized sasl.oauthbearer.config");
        assert_eq!(without_secrets("1/1 brokers are down"), "1/1 brokers are down");
    }

    #[test]
    fn a_refused_value_is_explained_with_its_name() {
        let mut config = ClientConfig::new();
        config.set("linger.ms", "soon");
        let error = config.create_native_config().err().unwrap();
        assert!(explain(&error).to_string().contains("linger.ms"));
    }
}
