//! The page, its state as JSON and as server-sent events, and the thumbnails, on one address.
//!
//! The page loads nothing from elsewhere, and its content security policy forbids it. Texts of
//! events reach it as JSON and are inserted as text.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http_server::{ConnectionLimits, Connections};
use crate::imaging;
use crate::monitor::board::Board;
use crate::monitor::error::MonitorError;
use crate::monitor::filter::Filter;
use crate::monitor::limits::{CONNECTIONS_MAX, PAGES_MAX};
use crate::monitor::outline_path::Outlines;
use crate::monitor::thumbnails::{NoThumbnail, Thumbnails};
use crate::storage::Stores;
use crate::telemetry::is_local_host;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

/// Interval of the snapshots that a page receives.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// Headers of every response. The script may not turn text into HTML either.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// The server of the page. It is bound and does not serve yet.
#[derive(Debug)]
pub struct PageServer {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<ServerState>,
}

#[derive(Debug)]
struct ServerState {
    board: Arc<Board>,
    thumbnails: Thumbnails,
    /// Pages that may receive snapshots.
    pages: Arc<Semaphore>,
    is_local: bool,
    stop: CancellationToken,
}

type SharedState = State<Arc<ServerState>>;
type Parameters = Query<Vec<(String, String)>>;

impl PageServer {
    /// Binds the address of the settings. Thumbnails are read from `stores`.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub async fn bind(
        board: Arc<Board>,
        stores: Stores,
        imaging: imaging::Settings,
        stop: CancellationToken,
    ) -> Result<Self, MonitorError> {
        let address = board.settings().listen;
        let failed = |source| MonitorError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let thumbnails = Thumbnails::new(board.settings(), stores, imaging);
        let pages = Arc::new(Semaphore::new(PAGES_MAX));
        let is_local = address.ip().is_loopback();
        let state = ServerState { board, thumbnails, pages, is_local, stop };
        Ok(Self { listener, address, state: Arc::new(state) })
    }

    /// Returns the address, with the port that was selected.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled, then waits three seconds at most for clients to read
    /// their responses. If this future is dropped, all connections are closed.
    pub async fn serve(self) {
        let stop = self.state.stop.clone();
        let limits = ConnectionLimits::of_connections(CONNECTIONS_MAX);
        let connections = Connections::new(router(self.state), limits);
        connections.accept_until(self.listener, stop.cancelled()).await;
    }
}

fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/", get(|| async { text_of("text/html; charset=utf-8", PAGE) }))
        .route("/page.css", get(|| async { text_of("text/css; charset=utf-8", STYLE) }))
        .route("/page.js", get(|| async { text_of("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/icon.svg", get(|| async { text_of("image/svg+xml", ICON) }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/api/state", get(state_of_filter))
        .route("/api/events", get(events))
        .route("/api/thumbnail/{number}", get(thumbnail))
        .route("/api/outlines/{number}", get(outlines))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), guard))
        .with_state(state)
}

fn text_of(content_type: &'static str, body: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// Adds the headers. On a loopback address, refuses requests for other hosts: a page on the web
/// could have its own name resolve to this machine.
async fn guard(State(state): SharedState, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let mut response = if state.is_local && !host.is_some_and(is_local_host) {
        let text = "monitor.listen is an address of this machine only; open it as localhost\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn state_of_filter(State(state): SharedState, Query(parameters): Parameters) -> Response {
    match filter(&state, &parameters) {
        Ok(filter) => {
            let json = snapshot(&state.board, filter).await;
            ([(CONTENT_TYPE, "application/json")], json.to_string()).into_response()
        }
        Err(refused) => *refused,
    }
}

/// Sends a snapshot every second. Each counts all events since the one before it, so a page that
/// lost its connection has missed nothing.
async fn events(State(state): SharedState, Query(parameters): Parameters) -> Response {
    let filter = match filter(&state, &parameters) {
        Ok(filter) => filter,
        Err(refused) => return *refused,
    };
    let Ok(permit) = Arc::clone(&state.pages).try_acquire_owned() else {
        let text = format!("{PAGES_MAX} pages are open already; close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let mut timer = interval(SNAPSHOT_INTERVAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let snapshots = stream::unfold((timer, permit), move |(mut timer, permit)| {
        let (state, filter) = (Arc::clone(&state), filter.clone());
        async move {
            wait(&state.stop, &mut timer).await?;
            let json = snapshot(&state.board, filter).await;
            Some((Ok::<_, Infallible>(Event::default().data(json)), (timer, permit)))
        }
    });
    Sse::new(snapshots).into_response()
}

/// Waits for the next tick. Returns `None` once the server stops.
async fn wait(stop: &CancellationToken, timer: &mut Interval) -> Option<()> {
    tokio::select! {
        // A stop must not wait for a tick.
        biased;
        () = stop.cancelled() => None,
        _ = timer.tick() => Some(()),
    }
}

async fn snapshot(board: &Arc<Board>, filter: Filter) -> Arc<str> {
    let board = Arc::clone(board);
    spawn_blocking(move || board.state(&filter)).await.expect("a snapshot does not panic")
}

/// Returns the filter of a request, or the response that refuses it.
fn filter(state: &ServerState, parameters: &[(String, String)]) -> Result<Filter, Box<Response>> {
    let filter = Filter::from_parameters(parameters, &state.board.settings().metadata);
    filter
        .map_err(|error| Box::new((StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()))
}

async fn thumbnail(State(state): SharedState, Path(number): Path<u64>) -> Response {
    let Some(image) = state.board.rejected_image(number) else { return unknown_image() };
    match state.thumbnails.get(&image).await {
        Ok(jpeg) => {
            let headers = [(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "private, max-age=600")];
            (headers, jpeg).into_response()
        }
        Err(NoThumbnail { status, code, message }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, format!("{code}: {message}\n")).into_response()
        }
    }
}

async fn outlines(State(state): SharedState, Path(number): Path<u64>) -> Response {
    let Some(image) = state.board.rejected_image(number) else { return unknown_image() };
    let Some(regions) = image.regions else {
        return (StatusCode::NOT_FOUND, "this event has no regions to outline\n").into_response();
    };
    let outline = move || {
        let outlines = Outlines::of(&regions, image.width, image.height)?;
        serde_json::to_string(&outlines)
    };
    match spawn_blocking(outline).await.expect("outlining does not panic") {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            let text = format!("the regions of the event cannot be read: {error}\n");
            (StatusCode::UNPROCESSABLE_ENTITY, text).into_response()
        }
    }
}

fn unknown_image() -> Response {
    (StatusCode::NOT_FOUND, "this image is no longer among the latest rejected\n").into_response()
}
