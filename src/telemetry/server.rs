//! `/healthz`, `/readyz` and `/metrics` on one address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// Settings of the health and metrics server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Whether `dogiqa run` serves at all.
    pub enabled: bool,
    /// Where it listens. Loopback by default: the pages are for the machine's own agents unless
    /// you say otherwise (`0.0.0.0:9464` in a container). Port 0 takes a free one and logs it.
    pub address: SocketAddr,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { enabled: true, address: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// Whether the worker should get traffic; shared between the worker, which sets it, and the server.
#[derive(Debug, Clone, Default)]
pub struct Health {
    ready: Arc<AtomicBool>,
}

impl Health {
    /// A worker that is starting: alive and not ready.
    pub fn starting() -> Self {
        Self::default()
    }

    /// Says whether the worker takes in references; logged when it changes.
    pub fn set_ready(&self, ready: bool) {
        if self.ready.swap(ready, Ordering::AcqRel) != ready {
            tracing::info!(ready, "readiness changed");
        }
    }

    /// Whether the worker takes in references.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; set telemetry.server.address")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// Binds, then serves until `shutdown` ends. The returned future runs the server.
///
/// # Errors
/// When the address cannot be bound.
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
    let app = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state((metrics, health));
    Ok(async move {
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(shutdown).await {
            tracing::error!(%error, "the health server ended");
        }
    })
}

async fn readyz(State((_, health)): State<(PrometheusHandle, Health)>) -> impl IntoResponse {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn render(State((metrics, _)): State<(PrometheusHandle, Health)>) -> impl IntoResponse {
    metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[tokio::test]
    async fn strangers_are_not_served_by_default_and_the_configured_address_is_used() {
        assert!(ServerSettings::default().address.ip().is_loopback());
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ServerSettings { enabled: true, address: taken.local_addr().unwrap() };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let served = serve(&settings, metrics, Health::starting(), std::future::pending()).await;
        let error = served.err().expect("the address is taken").to_string();
        assert!(error.contains(&settings.address.to_string()), "{error}");
        assert!(error.contains("telemetry.server.address"), "{error}");
    }
}
