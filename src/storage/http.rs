//! The HTTP clients beneath every remote store, and what their errors mean.
//!
//! No client follows redirects by itself. The limits are the configured ones; the object stores'
//! own retries are off, because [`crate::storage::fetch`] counts the attempts.

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

use crate::storage::failure::{FetchFault, Overrun, root_cause};
use crate::storage::guard::NoPublicAddress;
use crate::storage::settings::Settings;
use crate::storage::stores::StorageError;
use crate::storage::uri::UriFault;

/// Idle connections that are kept open to one host.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// The time limits of one fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
    pub(crate) fetch: Duration,
}

impl TimeLimits {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            connect: settings.connect_timeout,
            read: settings.read_timeout,
            fetch: settings.fetch_timeout,
        }
    }
}

/// Starts a client with the limits that all have in common.
pub(crate) fn builder(limits: TimeLimits) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("dogiqa/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(limits.connect)
        .read_timeout(limits.read)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
}

/// Builds a client. On a machine without any certificate of a certificate authority, one that is
/// allowed to speak plain HTTP is built all the same, and refuses every TLS server.
pub(crate) fn build(
    start: impl Fn() -> ClientBuilder,
    allow_http: bool,
) -> Result<Client, StorageError> {
    start().build().or_else(|error| {
        if allow_http && let Ok(client) = start().tls_certs_only([]).build() {
            tracing::warn!(
                error = root_cause(&error),
                "no certificate authority is installed, only plain http can be read"
            );
            return Ok(client);
        }
        Err(StorageError::Client { why: root_cause(&error) })
    })
}

/// Judges an error of a client.
pub(crate) fn fault_from(error: &reqwest::Error, limits: TimeLimits) -> FetchFault {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<NoPublicAddress>() {
            let host = error.url().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
            let why = "has no public address; an image server of your own belongs in \
                       storage.allow_private_hosts";
            return UriFault::ForbiddenHost { host, why }.into();
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        return FetchFault::Timeout(if error.is_connect() {
            Overrun::Connect(limits.connect)
        } else {
            Overrun::Read(limits.read)
        });
    }
    if error.is_builder() {
        return FetchFault::UnexpectedAnswer(root_cause(error));
    }
    FetchFault::Unavailable(root_cause(error))
}
