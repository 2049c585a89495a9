//! Reads a changed `sasl.password_file` again if a broker refuses the password.
//!
//! Brokers authenticate new connections only, so a client notices a changed password when it
//! reconnects. librdkafka then retries with the old one indefinitely, unless it is given the new
//! one.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::bindings::{
    rd_kafka_error_destroy, rd_kafka_error_string, rd_kafka_sasl_set_credentials,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::stream::broker::kafka_error::code_of;
use crate::stream::properties::Properties;

/// The user name and password of a worker's clients.
pub(crate) struct SaslLogin {
    properties: Properties,
    current: Mutex<Option<Credentials>>,
    is_refused: AtomicBool,
}

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    username: String,
    password: String,
}

impl SaslLogin {
    /// Remembers the credentials that the clients start with.
    pub(crate) fn new(properties: Properties) -> Self {
        let current = Mutex::new(read(&properties));
        Self { properties, current, is_refused: AtomicBool::new(false) }
    }

    /// Records an error event of a client.
    pub(crate) fn observe(&self, error: &KafkaError) {
        if code_of(error) == RDKafkaErrorCode::Authentication {
            self.is_refused.store(true, Ordering::Release);
        }
    }

    /// Returns other credentials than the current ones, if a broker refused these and the files
    /// have changed since. Blocks briefly to read the files.
    pub(crate) fn renewed(&self) -> Option<Credentials> {
        if !self.is_refused.load(Ordering::Acquire) {
            return None;
        }
        let read = read(&self.properties)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() == Some(&read) {
            return None;
        }
        *current = Some(read.clone());
        self.is_refused.store(false, Ordering::Release);
        tracing::info!("the Kafka password has changed; the clients log in again");
        Some(read)
    }
}

impl Credentials {
    /// Sets the credentials of clients that are created later.
    pub(crate) fn set_in(&self, config: &mut ClientConfig) {
        config.set("sasl.username", &self.username).set("sasl.password", &self.password);
    }

    /// Gives the credentials to a client, which reconnects with them.
    pub(crate) fn apply<C: ClientContext>(&self, client: &Client<C>) {
        if let Err(reason) = set_credentials(client, self) {
            tracing::warn!(reason, "librdkafka refused the changed password");
        }
    }
}

/// Returns the credentials, or `None` if they are not set or cannot be read at the moment.
fn read(properties: &Properties) -> Option<Credentials> {
    let mut resolved = properties.resolve().ok()?;
    let username = resolved.remove("sasl.username")?;
    let password = resolved.remove("sasl.password")?;
    Some(Credentials { username, password })
}

#[expect(unsafe_code, reason = "rdkafka has no safe function for librdkafka's")]
fn set_credentials<C: ClientContext>(
    client: &Client<C>,
    credentials: &Credentials,
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "it has a zero byte".to_owned());
    let (username, password) = (text(&credentials.username)?, text(&credentials.password)?);
    // SAFETY: the client is borrowed, so its pointer is valid. librdkafka locks its configuration
    // and copies both strings. It returns null or an error that the caller must destroy.
    unsafe {
        let error = rd_kafka_sasl_set_credentials(
            client.native_ptr(),
            username.as_ptr(),
            password.as_ptr(),
        );
        if error.is_null() {
            return Ok(());
        }
        let reason = CStr::from_ptr(rd_kafka_error_string(error)).to_string_lossy().into_owned();
        rd_kafka_error_destroy(error);
        Err(reason)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use tempfile::TempDir;

    use super::*;

    fn login(folder: &TempDir) -> (SaslLogin, std::path::PathBuf) {
        let file = folder.path().join("password");
        std::fs::write(&file, "old\n").unwrap();
        let pairs = [("sasl.username", "worker"), ("sasl.password_file", file.to_str().unwrap())];
        (SaslLogin::new(Properties::from_pairs(pairs)), file)
    }

    #[test]
    fn a_changed_password_is_read_only_after_a_refusal_and_until_it_is_found() {
        let folder = TempDir::new().unwrap();
        let (login, file) = login(&folder);
        let refuse = || {
            login.observe(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
            assert!(login.renewed().is_none(), "another error is no refusal");
            login.observe(&KafkaError::Global(RDKafkaErrorCode::Authentication));
        };
        refuse();
        assert!(login.renewed().is_none(), "the password is the old one");
        std::fs::write(&file, "new\n").unwrap();
        assert_eq!(login.renewed().unwrap().password, "new", "librdkafka repeats no error");
        std::fs::write(&file, "newer\n").unwrap();
        assert!(login.renewed().is_none(), "no broker refused the new one");
        refuse();
        std::fs::remove_file(&file).unwrap();
        assert!(login.renewed().is_none(), "the file is being replaced");
        std::fs::write(&file, "newest\n").unwrap();
        assert_eq!(login.renewed().unwrap().password, "newest");
    }

    #[test]
    fn librdkafka_accepts_changed_credentials() {
        let client: BaseConsumer = rdkafka::ClientConfig::new().create().unwrap();
        let credentials = Credentials { username: "a".to_owned(), password: "b".to_owned() };
        assert_eq!(set_credentials(client.client(), &credentials), Ok(()));
        let zero = Credentials { password: "b\0c".to_owned(), ..credentials };
        assert!(set_credentials(client.client(), &zero).is_err());
    }
}
