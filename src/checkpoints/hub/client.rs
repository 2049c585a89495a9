//! Requests to the Hub. Only the Hub receives the token, not the hosts that it redirects to.
//!
//! Blocks: a small runtime on the calling thread drives each request.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::checkpoints::hub::environment::Environment;
use crate::redact;

/// Time limit for a connection, and again for the start of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for a whole body. It ends a stalled response as well as a slow one; both are resumed.
const BODY_TIMEOUT: Duration = Duration::from_mins(10);
/// Redirects that are followed for one file or document.
pub(crate) const REDIRECTS_MAX: usize = 5;

/// A client for one Hub.
pub(crate) struct HubClient {
    endpoint: String,
    token: Option<String>,
    http: Client,
    runtime: Runtime,
}

impl HubClient {
    pub(crate) fn new(environment: &Environment) -> io::Result<Self> {
        Ok(Self {
            endpoint: environment.endpoint.clone(),
            token: environment.token.clone(),
            http: build_http_client().map_err(|error| request_error(&error))?,
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Returns the address of a path on the Hub.
    pub(crate) fn url(&self, path: &str) -> io::Result<Url> {
        let text = format!("{}/{path}", self.endpoint);
        Url::parse(&text).map_err(|error| io::Error::other(format!("{text}: {error}")))
    }

    /// Returns true for an address on the Hub itself.
    pub(crate) fn is_hub(&self, url: &Url) -> bool {
        Url::parse(&self.endpoint).is_ok_and(|endpoint| endpoint.origin() == url.origin())
    }

    /// Sends a request and waits for the headers of its response. Follows no redirects.
    pub(crate) fn get(&self, url: &Url, range: Option<&str>) -> io::Result<HubResponse<'_>> {
        let mut request = self.http.get(url.clone());
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        // Connecting has its own limit of the same length.
        let limit = RESPONSE_TIMEOUT * 2;
        let response = block_on(&self.runtime, limit, request.send())?;
        let body_ends_by = Instant::now() + BODY_TIMEOUT;
        Ok(HubResponse { response, runtime: &self.runtime, body_ends_by })
    }
}

/// A response whose body has not been read yet.
pub(crate) struct HubResponse<'a> {
    response: Response,
    runtime: &'a Runtime,
    body_ends_by: Instant,
}

impl HubResponse<'_> {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    pub(crate) fn is_redirection(&self) -> bool {
        self.response.status().is_redirection()
    }

    /// Returns a header, or `None` if it is absent or not a text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns the address that a redirect from `url` leads to.
    pub(crate) fn redirect_target(&self, url: &Url) -> io::Result<Url> {
        let location = self.header("location").unwrap_or_default();
        url.join(location)
            .map_err(|error| io::Error::other(format!("{}: {error}", redact::uri(location))))
    }

    /// Returns the next part of the body, or `None` at its end.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let limit = self.body_ends_by.saturating_duration_since(Instant::now());
        block_on(self.runtime, limit, self.response.chunk())
    }
}

fn block_on<T>(
    runtime: &Runtime,
    limit: Duration,
    request: impl Future<Output = reqwest::Result<T>>,
) -> io::Result<T> {
    match runtime.block_on(async { tokio::time::timeout(limit, request).await }) {
        Ok(result) => result.map_err(|error| request_error(&error)),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer in time"))
        }
    }
}

/// Builds the client. Without any installed certificate authority it can still use plain HTTP.
fn build_http_client() -> reqwest::Result<Client> {
    let start = || -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("dogiqa/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(RESPONSE_TIMEOUT)
    };
    start().build().or_else(|error| start().tls_certs_only([]).build().map_err(|_| error))
}

/// Keeps the innermost cause of an error: the outer ones repeat the address, which may be signed.
fn request_error(error: &reqwest::Error) -> io::Error {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    io::Error::other(cause.to_string())
}
