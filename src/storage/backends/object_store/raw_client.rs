//! An HTTP client that sends the path of a URL as it is.
//!
//! The URL type of the usual client resolves the segments `.` and `..`, which may be parts of a
//! key. This client has the same limits, certificates and proxy. It follows no redirects.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt, stream};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse};
use reqwest::header::{HeaderValue, USER_AGENT};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

use crate::outbound_http;
use crate::storage::backends::body;
use crate::storage::backends::http_client;
use crate::storage::error::{Overrun, StorageError};
use crate::storage::limits::{Limits, TimeLimits};

type Direct = HttpsConnector<HttpConnector>;
type Tunnelled = HttpsConnector<Tunnel<Direct>>;

/// A client that sends the path of a URL as it is.
#[derive(Debug)]
pub(crate) struct RawClient {
    direct: Client<Direct, HttpRequestBody>,
    /// Built when the first request needs it.
    tunnelled: OnceLock<Client<Tunnelled, HttpRequestBody>>,
    proxies: Matcher,
    tls: ClientConfig,
    limits: Limits,
}

impl RawClient {
    /// Builds a client. `allow_http` is true if a machine without certificates may still read
    /// without TLS.
    ///
    /// # Errors
    /// Fails if the machine has no certificates of certificate authorities otherwise.
    pub(crate) fn new(limits: &Limits, allow_http: bool) -> Result<Self, StorageError> {
        let tls = http_client::tls_config(allow_http)?;
        let connector = with_tls(tls.clone(), tcp(limits.time));
        let direct = Client::builder(TokioExecutor::new()).build(connector);
        let tunnelled = OnceLock::new();
        Ok(Self { direct, tunnelled, proxies: Matcher::from_env(), tls, limits: *limits })
    }

    /// Sends a request and reads the response: of an object, at most a byte more than the limit; of
    /// an error, the beginning. Uses the proxy that the environment names, but only for `https:`.
    pub(crate) async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = HeaderValue::from_static(outbound_http::USER_AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        let mut connection = capture_connection(&mut request);
        let connected = async { drop(connection.wait_for_connection_metadata().await) };
        let mut answer = std::pin::pin!(self.start(request));
        let time = self.limits.time;
        // The answer first: a connection that fails is never established.
        let early = tokio::select! {
            biased;
            outcome = &mut answer => Some(outcome),
            () = connected => None,
            () = sleep(time.connect) => return Err(overrun(Overrun::Connect(time.connect))),
        };
        let outcome = match early {
            Some(outcome) => outcome,
            None => {
                timeout(time.read, answer).await.map_err(|_| overrun(Overrun::Read(time.read)))?
            }
        };
        let response = outcome.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
        self.read(response.map(reqwest::Body::wrap).into()).await
    }

    fn start(&self, request: HttpRequest) -> ResponseFuture {
        let is_tls = request.uri().scheme_str() == Some("https");
        match self.proxies.intercept(request.uri()).filter(|_| is_tls) {
            Some(proxy) => self.tunnelled.get_or_init(|| self.through(&proxy)).request(request),
            None => self.direct.request(request),
        }
    }

    fn through(&self, proxy: &Intercept) -> Client<Tunnelled, HttpRequestBody> {
        let to_proxy = with_tls(self.tls.clone(), tcp(self.limits.time));
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        Client::builder(TokioExecutor::new()).build(with_tls(self.tls.clone(), tunnel))
    }

    async fn read(&self, response: reqwest::Response) -> Result<HttpResponse, HttpError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let limit = self.limits.bytes_max.as_u64();
        let is_too_large = response.content_length().is_some_and(|size| size > limit);
        let pieces = pieces(response, self.limits.time);
        let content = if !status.is_success() {
            Bytes::from(body::error_text(pieces).await)
        } else if is_too_large {
            // The caller refuses the declared size.
            Bytes::new()
        } else {
            at_most(pieces, limit).await?
        };
        let mut answer = HttpResponse::new(content.into());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// Returns the content of a response, with a limit on the silence between its pieces.
fn pieces(
    response: reqwest::Response,
    time: TimeLimits,
) -> impl Stream<Item = Result<Bytes, HttpError>> {
    stream::try_unfold(response, move |mut response| async move {
        match timeout(time.read, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(|piece| (piece, response))),
            Ok(Err(error)) => Err(HttpError::new(HttpErrorKind::Request, error)),
            Err(_) => Err(overrun(Overrun::Read(time.read))),
        }
    })
}

/// Reads a stream to its end, or until it has more bytes than `limit`.
async fn at_most(
    pieces: impl Stream<Item = Result<Bytes, HttpError>>,
    limit: u64,
) -> Result<Bytes, HttpError> {
    let mut pieces = std::pin::pin!(pieces);
    let mut content = BytesMut::new();
    while content.len() as u64 <= limit
        && let Some(piece) = pieces.try_next().await?
    {
        content.extend_from_slice(&piece);
    }
    Ok(content.freeze())
}

fn tcp(time: TimeLimits) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(time.connect));
    connector
}

fn with_tls<C>(tls: ClientConfig, connector: C) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

fn overrun(overrun: Overrun) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, overrun)
}
