//! Requests to the Hub. Only the Hub receives the token, not the hosts that it redirects to.
//!
//! Blocks: a small runtime on the calling thread drives each request.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, RANGE};
use reqwest::{Client, Response};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::checkpoints::hub::environment::Environment;
use crate::checkpoints::hub::fault::{FaultKind, RequestFault, Server};
use crate::checkpoints::hub::name::PUBLIC_HUB_HOSTS;
use crate::outbound_http;
use crate::redact;

/// Time limit for a connection, or less if the server may be silent for less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a whole body, however steadily it arrives. The rest is requested again.
const BODY_TIMEOUT: Duration = Duration::from_mins(10);
/// Redirects that are followed for one file or document.
const REDIRECTS_MAX: usize = 5;
/// A client for one Hub.
pub(crate) struct HubClient {
    endpoint: Url,
    token: Option<String>,
    /// Time limit for the start of a response, and again for each part of its body.
    silence_max: Duration,
    http: Client,
    /// The proxies that `http` uses, to name them in errors.
    proxies: Matcher,
    runtime: Runtime,
}

impl HubClient {
    pub(crate) fn new(environment: &Environment) -> io::Result<Self> {
        let endpoint = &environment.endpoint;
        let connect_timeout = CONNECT_TIMEOUT.min(environment.silence_max);
        Ok(Self {
            endpoint: Url::parse(endpoint).map_err(|error| {
                io::Error::other(format!("HF_ENDPOINT {}: {error}", redact::uri(endpoint)))
            })?,
            token: environment.token.clone(),
            silence_max: environment.silence_max,
            http: build_http_client(connect_timeout).map_err(io::Error::other)?,
            proxies: Matcher::from_system(),
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Returns the address of a path on the Hub.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/{path}", self.endpoint.path().trim_end_matches('/')));
        url
    }

    /// Returns true for an address on the Hub itself, which may see the token.
    pub(crate) fn is_hub(&self, url: &Url) -> bool {
        self.endpoint.origin() == url.origin()
    }

    /// Returns true for an address whose headers may state digests: that of the Hub, or of the
    /// public Hub if that is no step back from HTTPS to HTTP.
    pub(crate) fn is_trusted(&self, url: &Url) -> bool {
        let is_public = url.host_str().is_some_and(|host| PUBLIC_HUB_HOSTS.contains(&host));
        let is_safe = url.scheme() == "https" || self.endpoint.scheme() == "http";
        self.is_hub(url) || (is_public && is_safe)
    }

    /// Sends a request and follows its redirects to the headers of the last response, which is a
    /// success or a 416. `inspect` sees each response.
    pub(crate) fn get(
        &self,
        mut url: Url,
        range: Option<&str>,
        mut inspect: impl FnMut(&Url, &HubResponse<'_>),
    ) -> Result<HubResponse<'_>, RequestFault> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&url, range).map_err(|fault| self.name_proxy(&url, fault))?;
            inspect(&url, &response);
            if !response.is_redirection() {
                return Ok(response);
            }
            url = response.redirect_target()?;
        }
        Err(RequestFault::new(&url, FaultKind::Permanent, "it redirects endlessly"))
    }

    /// Names the proxy of a request that failed, because the proxy may be the cause.
    fn name_proxy(&self, url: &Url, mut fault: RequestFault) -> RequestFault {
        let target = url.as_str().parse().ok();
        if let Some(proxy) = target.and_then(|target| self.proxies.intercept(&target)) {
            // Without the user and the password that the variable may contain.
            let host = proxy.uri().host().unwrap_or_default();
            let port = proxy.uri().port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            fault.host = format!("{} through the proxy {host}{port}", fault.host);
        }
        fault
    }

    /// Sends one request and waits for the headers of its response.
    fn send(&self, url: &Url, range: Option<&str>) -> Result<HubResponse<'_>, RequestFault> {
        // A compressed response has neither a length nor ranges.
        let mut request = self.http.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let token = self.token.as_ref().filter(|_| self.is_hub(url));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let limit = self.silence_max + CONNECT_TIMEOUT.min(self.silence_max);
        let response = block_on(&self.runtime, url, limit, request.send())?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() && status.as_u16() != 416 {
            let has_token = token.is_some();
            let server =
                if self.is_trusted(url) { Server::Hub { has_token } } else { Server::Storage };
            let (status, headers) = (status.as_u16(), response.headers());
            return Err(RequestFault::from_status(url, status, headers, server));
        }
        if status.is_success()
            && let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let reason = format!(
                "it sends `content-encoding: {}` to a request that accepts `identity` only; a \
                 proxy that compresses files must leave these alone",
                redact::excerpt(encoding.to_str().unwrap_or_default(), 40)
            );
            return Err(RequestFault::new(url, FaultKind::Permanent, reason));
        }
        let body_ends_by = Instant::now() + BODY_TIMEOUT;
        Ok(HubResponse { response, url: url.clone(), client: self, body_ends_by })
    }
}

/// A response whose body has not been read yet.
pub(crate) struct HubResponse<'a> {
    response: Response,
    url: Url,
    client: &'a HubClient,
    body_ends_by: Instant,
}

impl HubResponse<'_> {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The address of this response, after all redirects.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    fn is_redirection(&self) -> bool {
        self.response.status().is_redirection()
    }

    /// Returns a header, or `None` if it is absent or not a text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns the number in a header, or `None` if there is none.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// Returns the size of the whole file according to `Content-Range`.
    pub(crate) fn size_of_range(&self) -> Option<u64> {
        self.header("content-range")?.rsplit('/').next()?.trim().parse().ok()
    }

    fn redirect_target(&self) -> Result<Url, RequestFault> {
        let location = self.header("location").unwrap_or_default();
        self.url.join(location).map_err(|error| {
            let reason = format!("it redirects to `{}`: {error}", redact::uri(location));
            RequestFault::new(&self.url, FaultKind::Permanent, reason)
        })
    }

    /// Returns the next part of the body, or `None` at its end.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>, RequestFault> {
        let left = self.body_ends_by.saturating_duration_since(Instant::now());
        let limit = left.min(self.client.silence_max);
        block_on(&self.client.runtime, &self.url, limit, self.response.chunk())
            .map_err(|fault| self.client.name_proxy(&self.url, fault))
    }
}

fn block_on<T>(
    runtime: &Runtime,
    url: &Url,
    limit: Duration,
    request: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, RequestFault> {
    let result = runtime.block_on(async { tokio::time::timeout(limit, request).await });
    result.map_or_else(
        |_| {
            let reason = format!("it sends nothing for {} seconds", limit.as_secs());
            Err(RequestFault::new(url, FaultKind::Silent, reason))
        },
        |result| result.map_err(|error| RequestFault::from_client(url, &error)),
    )
}

/// Builds the client; on a machine without certificate authorities, one for plain HTTP.
fn build_http_client(connect_timeout: Duration) -> reqwest::Result<Client> {
    let builder = || {
        outbound_http::builder()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(connect_timeout)
    };
    outbound_http::build(builder, true)
}
