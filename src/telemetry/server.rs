//! `/healthz`, `/readyz` and `/metrics` on one address.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::http_server::{ConnectionLimits, Connections};
use crate::telemetry::health::{Health, NotReady};

/// Maximum number of open connections. The oldest is closed for a further one, so that idle or slow
/// clients cannot keep a liveness probe waiting.
const CONNECTIONS_MAX: usize = 64;

/// Settings of the health and metrics server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Enables the server in `dogiqa run` and `dogiqa serve`.
    pub enabled: bool,
    /// Address of the server. By default only this machine can connect; use `0.0.0.0:9464` to allow
    /// others, for example in a container. Port 0 selects a free port and logs it.
    pub address: SocketAddr,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { enabled: true, address: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// The reason why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; set telemetry.server.address")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// Binds the address. The returned future runs the server until `shutdown` ends, and then for three
/// seconds at most.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn serve(
    settings: &ServerSettings,
    metrics: PrometheusHandle,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, ServerError> {
    let address = settings.address;
    let bind = |source| ServerError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let bound = listener.local_addr().map_err(bind)?;
    tracing::info!(address = %bound, "serving /healthz, /readyz and /metrics");
    Ok(connections(metrics, health).accept_until(listener, shutdown))
}

fn connections(metrics: PrometheusHandle, health: Health) -> Connections {
    let app = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(ServerState { metrics, health });
    let limits = ConnectionLimits::of_connections(CONNECTIONS_MAX);
    Connections::new(app, ConnectionLimits { closes_oldest: true, ..limits })
}

#[derive(Clone)]
struct ServerState {
    metrics: PrometheusHandle,
    health: Health,
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<NotReady>,
}

async fn readyz(State(state): State<ServerState>) -> impl IntoResponse {
    let reasons = state.health.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&Readiness { ready, reasons });
    let body = body.expect("a reason is plain data") + "\n";
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

async fn render(State(state): State<ServerState>) -> impl IntoResponse {
    state.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_probe_is_answered_while_idle_clients_hold_more_connections_than_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let connections = connections(metrics, Health::starting());
        tokio::spawn(connections.accept_until(listener, std::future::pending()));
        let mut idle = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        probe.write_all(request).await.unwrap();
        let mut response = String::new();
        // A probe of the chart has 3 s.
        let read = timeout(Duration::from_secs(3), probe.read_to_string(&mut response)).await;
        read.expect("the probe is answered in time").unwrap();
        assert!(response.ends_with("alive\n"), "{response}");
    }

    #[tokio::test]
    async fn the_default_address_is_loopback_and_an_address_in_use_is_named_in_the_error() {
        assert!(ServerSettings::default().address.ip().is_loopback());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ServerSettings { enabled: true, address: listener.local_addr().unwrap() };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let served = serve(&settings, metrics, Health::starting(), std::future::pending()).await;
        let error = served.err().expect("the address is in use").to_string();
        assert!(error.contains(&settings.address.to_string()), "{error}");
        assert!(error.contains("telemetry.server.address"), "{error}");
    }
}
