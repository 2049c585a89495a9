//! The librdkafka properties that users may pass through, and how their secrets stay hidden.
//!
//! Refused are properties that have a setting here, would break a guarantee of the worker, or run
//! code. Aliases are resolved first: if both names of one property were set, a random one would
//! win.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::stream::error::StreamError;

/// librdkafka properties by name. Secret values are shown as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// The value of a property. librdkafka expects text; the configuration may also hold a number or a
/// boolean.
struct PropertyValue(String);

/// Shown instead of a secret value.
const REDACTED: &str = "***";

/// A property whose name contains one of these is a secret. librdkafka marks only five properties
/// as sensitive, and not `ssl.key.pem` and the OAuth configuration.
const SECRET_NAME_PARTS: [&str; 7] = [
    "password",
    "passphrase",
    "secret",
    "token",
    ".pem",
    "oauthbearer.config",
    "oauthbearer.assertion",
];

/// Aliases of properties, and the name under which each is kept here.
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

/// Names and prefixes of refused properties, and the reason or the setting to use instead.
const REFUSED: [(&str, &str); 36] = [
    ("bootstrap.servers", "set kafka.bootstrap_servers"),
    ("group.id", "set kafka.group_id"),
    ("group.protocol", "set kafka.group_protocol"),
    ("group.instance.id", "set kafka.group_instance_id"),
    ("client.id", "set kafka.client_id"),
    ("client.rack", "set kafka.client_rack"),
    ("message.max.bytes", "set kafka.message_bytes_max"),
    ("session.timeout.ms", "set kafka.session_timeout"),
    ("transactional.id", "set kafka.transactional_id"),
    ("enable.auto.", "only answered references are committed"),
    ("auto.commit.", "only answered references are committed"),
    ("offset.store.", "only answered references are committed"),
    ("api.version.request", "dead letters keep headers, which old protocol versions lack"),
    ("broker.version.fallback", "dead letters keep headers, which old protocol versions lack"),
    ("delivery.report.only.error", "an answer counts only when the brokers acknowledge it"),
    ("fetch.max.bytes", "the memory limit depends on it"),
    ("max.partition.fetch.bytes", "the memory limit depends on it"),
    ("queue.buffering.max.kbytes", "set kafka.message_bytes_max; the memory limit depends on it"),
    ("queued.max.messages.kbytes", "the memory limit depends on it"),
    ("queued.min.messages", "the memory limit depends on it"),
    ("topic.blacklist", "the worker needs its three topics"),
    ("transaction.timeout.ms", "deliveries must time out before their transaction does"),
    (
        "partition.assignment.strategy",
        "members with different strategies would stop at every rebalance",
    ),
    ("enable.idempotence", "without it, retries would duplicate events"),
    ("acks", "an event must be acknowledged by all in-sync replicas"),
    ("retries", "an event is retried until it is acknowledged"),
    ("max.in.flight", "idempotence requires librdkafka's default limit"),
    ("enable.partition.eof", "lag reaches 0 only with the ends of partitions"),
    ("allow.auto.create.topics", "set kafka.create_topics"),
    ("statistics.interval.ms", "readiness, lag and commit checks depend on it"),
    ("log.queue", "the worker handles the log queue"),
    ("plugin.library.paths", "it runs external code"),
    ("sasl.kerberos.kinit.cmd", "it runs external code"),
    ("ssl.engine.", "it runs external code"),
    ("ssl.providers", "it runs external code"),
    ("test.mock.", "it replaces the brokers with a mock cluster"),
];

/// Properties of which only these values keep a promise, and the promise.
const REQUIRED: [(&str, &[&str], &str); 2] = [
    (
        "auto.offset.reset",
        &["earliest", "smallest", "beginning"],
        "a new group must read the references that wait, and an expired position must not skip any",
    ),
    (
        "isolation.level",
        &["read_committed"],
        "references of aborted transactions must not be answered",
    ),
];

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, PropertyValue>::deserialize(deserializer)?;
        Ok(Self(values.into_iter().map(|(name, PropertyValue(value))| (name, value)).collect()))
    }
}

impl<'de> Deserialize<'de> for PropertyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PropertyValueVisitor)
    }
}

struct PropertyValueVisitor;

impl Visitor<'_> for PropertyValueVisitor {
    type Value = PropertyValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, a number or a boolean")
    }

    fn visit_str<E>(self, value: &str) -> Result<PropertyValue, E> {
        Ok(PropertyValue(value.to_owned()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<PropertyValue, E> {
        Ok(PropertyValue(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<PropertyValue, E> {
        Ok(PropertyValue(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<PropertyValue, E> {
        Ok(PropertyValue(value.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<PropertyValue, E> {
        Ok(PropertyValue(value.to_string()))
    }
}

impl Properties {
    /// Creates properties from names and values as written in the configuration.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// Returns the names and values for librdkafka. Reads files and resolves aliases.
    ///
    /// Names may be written with `_` instead of `.`, so that environment variables can hold them.
    /// `<name>_file` names the file that holds the value.
    ///
    /// # Errors
    /// Fails if a property is refused or set twice, or a file cannot be read.
    pub(crate) fn resolve(&self) -> Result<BTreeMap<String, String>, StreamError> {
        let mut resolved = BTreeMap::new();
        for (written, value) in &self.0 {
            let (name, value) = match written.strip_suffix("_file") {
                Some(stem) => (canonical(stem), read_value(written, value)?),
                None => (canonical(written), value.clone()),
            };
            if let Some((_, reason)) =
                REFUSED.iter().find(|(refused, _)| matches_refused(&name, refused))
            {
                return Err(StreamError::Configuration(format!(
                    "kafka.properties must not set {written}: {reason}"
                )));
            }
            check_required(&name, &value, written)?;
            // For a missing file, librdkafka reports only `BIO lib`.
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

    fn redacted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), redacted(name, value)))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.redacted()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.redacted())
    }
}

/// Refuses a value that breaks a promise.
fn check_required(name: &str, value: &str, written: &str) -> Result<(), StreamError> {
    if name == "topic.metadata.refresh.interval.ms"
        && value.trim().parse::<i64>().is_ok_and(|interval| interval <= 0)
    {
        return Err(StreamError::Configuration(format!(
            "kafka.properties must not set {written} = {value}: new partitions would never be read"
        )));
    }
    let Some((_, accepted, promise)) = REQUIRED.iter().find(|(required, ..)| *required == name)
    else {
        return Ok(());
    };
    if accepted.contains(&value.trim()) {
        return Ok(());
    }
    Err(StreamError::Configuration(format!(
        "kafka.properties must not set {written} = {value}: {promise}; use {}, the default",
        accepted[0]
    )))
}

fn redacted<'a>(name: &str, value: &'a str) -> &'a str {
    // The path of a file is not a secret.
    let is_hidden = !name.ends_with("_file") && is_secret(&canonical(name));
    if is_hidden { REDACTED } else { value }
}

/// Returns true if the value of this property is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRET_NAME_PARTS.iter().any(|part| name.contains(part))
}

/// Returns true if `refused` is `name` or a prefix of it that ends at a dot.
fn matches_refused(name: &str, refused: &str) -> bool {
    match name.strip_prefix(refused) {
        Some(rest) => rest.is_empty() || refused.ends_with('.') || rest.starts_with('.'),
        None => false,
    }
}

/// Returns the one name of a property: lower case, dots, no alias.
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
    fn numbers_and_booleans_become_text() {
        let text = "\"linger.ms\" = 50\nlog_connection_close = false\n";
        let properties: Properties = toml::from_str(text).unwrap();
        let expected = [("linger.ms", "50"), ("log_connection_close", "false")];
        assert_eq!(properties, Properties::from_pairs(expected));
    }

    #[test]
    fn a_property_that_breaks_a_guarantee_or_runs_code_is_refused_under_every_name() {
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
            "offset.store.path",
            "delivery.report.only.error",
            "fetch.max.bytes",
            "fetch.message.max.bytes",
            "queue.buffering.max.kbytes",
            "queued.max.messages.kbytes",
            "transaction.timeout.ms",
            "api.version.request",
            "ssl.providers",
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
    fn other_properties_pass_under_their_canonical_name() {
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
    fn a_value_that_breaks_a_promise_is_refused_with_the_promise_and_others_pass() {
        for (name, value, promise) in [
            ("auto.offset.reset", "latest", "must read the references that wait"),
            ("AUTO_OFFSET_RESET", "error", "must read the references that wait"),
            ("isolation.level", "read_uncommitted", "aborted transactions"),
            ("topic.metadata.refresh.interval.ms", "-1", "new partitions"),
        ] {
            let error = resolve(&[(name, value)]).expect_err(name);
            assert!(error.contains(name) && error.contains(promise), "{error}");
        }
        for (name, value) in [
            ("auto.offset.reset", "earliest"),
            ("auto.offset.reset", "smallest"),
            ("isolation.level", "read_committed"),
            ("topic.metadata.refresh.interval.ms", "60000"),
            ("receive.message.max.bytes", "200000000"),
        ] {
            assert!(resolve(&[(name, value)]).is_ok(), "{name} = {value}");
        }
    }

    #[test]
    fn two_names_of_one_property_are_refused() {
        let error = resolve(&[("linger.ms", "5"), ("queue.buffering.max.ms", "9")]).unwrap_err();
        assert!(error.contains("linger.ms twice"), "{error}");
    }

    #[test]
    fn a_secret_may_be_read_from_a_file_and_a_missing_file_is_an_error() {
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
    fn secrets_are_shown_neither_in_debug_output_nor_in_the_configuration() {
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
    }
}
