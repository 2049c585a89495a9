//! Builds the `reqwest` clients that web servers and object stores share, and maps their errors.
//!
//! The clients have the configured time limits and follow no redirects.

use std::error::Error;
use std::sync::Arc;

use reqwest::{Client, ClientBuilder};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::outbound_http;
use crate::redact::root_cause;
use crate::storage::error::{FetchFault, NoPublicAddress, Overrun, StorageError, UriFault};
use crate::storage::limits::TimeLimits;

/// Maximum number of idle connections kept open to one host.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Returns a builder with the limits that all clients share.
pub(crate) fn builder(limits: TimeLimits) -> ClientBuilder {
    outbound_http::builder()
        .connect_timeout(limits.connect)
        .read_timeout(limits.read)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
}

/// Builds a client like [`outbound_http::build`].
///
/// # Errors
/// Fails if the machine has no certificates of certificate authorities and `allow_http` is not set.
pub(crate) fn build(
    builder: impl Fn() -> ClientBuilder,
    allow_http: bool,
) -> Result<Client, StorageError> {
    outbound_http::build(builder, allow_http)
        .map_err(|error| StorageError::Client { why: root_cause(&error) })
}

/// Returns the TLS settings of a client that [`build`] cannot build, under the same conditions.
///
/// # Errors
/// Fails if the machine has no certificates of certificate authorities and `allow_http` is not set.
pub(crate) fn tls_config(allow_http: bool) -> Result<ClientConfig, StorageError> {
    let failed = |error: rustls::Error| StorageError::Client { why: root_cause(&error) };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    match builder.clone().with_platform_verifier() {
        Ok(builder) => Ok(builder.with_no_client_auth()),
        Err(_) if allow_http => {
            Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
        Err(error) => Err(failed(error)),
    }
}

/// Maps an error of a client.
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
