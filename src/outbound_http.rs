//! HTTP clients for stores, scoring servers, collectors and the Hub.
//!
//! They share one user agent, follow no redirects by themselves and send no referer.

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

use crate::redact;

/// Name and version of this program in its requests.
pub(crate) const USER_AGENT: &str = concat!("dogiqa/", env!("CARGO_PKG_VERSION"));

/// Returns a builder without time limits, for [`build`].
pub(crate) fn builder() -> ClientBuilder {
    Client::builder().user_agent(USER_AGENT).redirect(Policy::none()).referer(false)
}

/// Builds a client. If `allow_http` is set and the machine has no certificates of certificate
/// authorities, the client refuses every TLS server and serves plain HTTP only.
///
/// # Errors
/// Fails if the machine has no such certificates and `allow_http` is not set.
pub(crate) fn build(
    builder: impl Fn() -> ClientBuilder,
    allow_http: bool,
) -> reqwest::Result<Client> {
    builder().build().or_else(|error| {
        if allow_http && let Ok(client) = builder().tls_certs_only([]).build() {
            tracing::warn!(
                error = redact::root_cause(&error),
                "no certificate authority is installed, only plain http can be used"
            );
            return Ok(client);
        }
        Err(error)
    })
}
