//! The server: routes and the graceful stop.
//!
//! ```text
//!  accept, answer … ─► refuse new requests ─► finish those in flight ─► close connections
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::http_server::{ConnectionLimits, Connections};
use crate::pipeline::Journey;
use crate::serve::api::{Api, score};
use crate::serve::error::ServeError;
use crate::serve::openapi;
use crate::serve::problem::Refusal;
use crate::serve::request_context::RequestContext;
use crate::serve::settings::Settings;
use crate::telemetry::{is_local_host, spans};

/// The path that scores images.
const SCORE_ROUTE: &str = "/v1/score";

/// A bound server that does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    api: Arc<Api>,
}

/// The work of one server, at its graceful end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServeSummary {
    /// Requests answered with an event.
    pub events: u64,
    /// Requests answered with a problem.
    pub problems: u64,
    /// True if every accepted request was answered before the end of the drain. The others were
    /// refused with 503.
    pub is_drained: bool,
}

impl Server {
    /// Checks the settings, reads the keys and binds the address.
    ///
    /// # Errors
    /// Fails if the settings are refused, the keys cannot be read or the address cannot be bound.
    pub async fn bind(settings: Settings, journey: &Journey) -> Result<Self, ServeError> {
        let address = settings.listen;
        let api = Arc::new(Api::new(settings, journey)?);
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let keys = api.keys.as_ref().map(|keys| keys.keys().len());
        tracing::info!(%address, keys, "serving POST /v1/score and GET /v1/openapi.json");
        Ok(Self { listener, address, api })
    }

    /// Returns the bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` is cancelled. Then refuses new ones with 503, and finishes
    /// those in flight within `drain_timeout`.
    ///
    /// If this future is dropped, all connections are closed.
    ///
    /// # Errors
    /// Fails if the engine is lost; requests in flight are then answered with 503.
    pub async fn run(self, shutdown: CancellationToken) -> Result<ServeSummary, ServeError> {
        let Self { listener, api, .. } = self;
        let limits = ConnectionLimits::of_connections(api.settings.connections_max.get());
        let connections = Connections::new(router(&api), limits);
        let mut accepting = Box::pin(connections.accept(&listener));
        let mut healthy = api.journey.engine().healthy();
        let is_lost = {
            let keys = async {
                match &api.keys {
                    Some(keys) => keys.follow().await,
                    None => std::future::pending().await,
                }
            };
            let lost = async {
                // The channel closes with the engine, which this server holds.
                if healthy.wait_for(|is_healthy| !is_healthy).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // A stop takes precedence over the loss of the engine; the others never end.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => false,
                () = lost => true,
                never = &mut accepting => match never {},
                () = keys => false,
            }
        };
        api.draining.cancel();
        api.in_flight.close();
        let in_flight = api.in_flight.len();
        tracing::info!(in_flight, "the HTTP API stops; finishing requests in flight");
        let drained = tokio::time::timeout(api.settings.drain_timeout, api.in_flight.wait());
        // New connections still get a response while requests are in flight.
        let is_drained = tokio::select! {
            biased;
            drained = drained => drained.is_ok(),
            never = &mut accepting => match never {},
        };
        api.abort.cancel();
        drop(accepting);
        drop(listener);
        connections.close().await;
        let summary = ServeSummary {
            events: api.events.load(Ordering::Relaxed),
            problems: api.problems.load(Ordering::Relaxed),
            is_drained,
        };
        tracing::info!(?summary, "the HTTP API has stopped");
        if is_lost { Err(ServeError::EngineLost) } else { Ok(summary) }
    }
}

fn router(api: &Arc<Api>) -> Router {
    Router::new()
        .route(SCORE_ROUTE, post(score))
        .route("/v1/openapi.json", get(openapi_document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(api), identify))
        .with_state(Arc::clone(api))
}

/// Gives each request its client, id and trace, and closes connections while the server stops.
async fn identify(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let parent = RequestContext::parent(request.headers());
    let client = api.authenticate(request.headers());
    let is_allowed = !api.is_local || names_this_machine(&request);
    let is_score = request.method() == Method::POST && request.uri().path() == SCORE_ROUTE;
    // A request without a valid key must not decide which traces are exported.
    let span = if is_score && is_allowed && client.is_some() {
        let headers = parent.as_ref().map(|parent| (parent.header(), parent.state()));
        spans::request_span("POST", SCORE_ROUTE, headers)
    } else {
        Span::none()
    };
    let context = span.in_scope(|| RequestContext::new(request.headers(), client, parent.as_ref()));
    request.extensions_mut().insert(context.clone());
    let mut response = if is_allowed {
        next.run(request).instrument(span.clone()).await
    } else {
        Refusal::foreign_host().into_response(&context)
    };
    spans::mark_response(&span, response.status().as_u16());
    context.mark(response.headers_mut());
    if api.draining.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns true if the host of a request is this machine. A page on the web could have its own name
/// resolve to this machine.
fn names_this_machine(request: &Request) -> bool {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // An absolute URI takes precedence over the header.
    let host = request.uri().host().or(header);
    host.is_some_and(is_local_host)
}

async fn openapi_document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::DOCUMENT.clone()).into_response()
}

async fn not_found(Extension(context): Extension<RequestContext>) -> Response {
    let detail = "there is no such path; see /v1/openapi.json";
    Refusal::new(StatusCode::NOT_FOUND, "request.not_found", detail).into_response(&context)
}

async fn method_not_allowed(Extension(context): Extension<RequestContext>) -> Response {
    let detail = "this path has another method; see /v1/openapi.json";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Refusal::new(status, "request.method_not_allowed", detail).into_response(&context)
}
