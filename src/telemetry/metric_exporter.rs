//! The exporter of metrics, on the runtime that its HTTP client needs.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use tokio::runtime::Handle;

use crate::telemetry::collector::Collector;

/// An exporter that the SDK's own thread calls, while its connections belong to a runtime.
#[derive(Debug)]
pub(crate) struct OnRuntime<E> {
    exporter: E,
    collector: Collector,
    runtime: Handle,
}

impl<E> OnRuntime<E> {
    pub(crate) fn new(exporter: E, collector: Collector, runtime: Handle) -> Self {
        Self { exporter, collector, runtime }
    }
}

impl<E: PushMetricExporter> PushMetricExporter for OnRuntime<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        // The SDK limits the time of no export, and would wait for a silent collector.
        let mut export =
            pin!(async { self.collector.finish("metrics", self.exporter.export(metrics)).await });
        poll_fn(|context| {
            let _entered = self.runtime.enter();
            export.as_mut().poll(context)
        })
        .await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithHttpConfig};
    use opentelemetry_sdk::error::OTelSdkError;
    use tokio::net::TcpListener;

    use super::*;

    /// The clock of the test passes while nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn an_export_to_a_silent_collector_ends_and_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::new();
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(format!("{endpoint}/v1/metrics"))
            .build()
            .unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let counters = recorder.handle();
        let _recording = ::metrics::set_default_local_recorder(&recorder);
        let collector = Collector { endpoint, client };
        let exporter = OnRuntime::new(exporter, collector, Handle::current());
        let result = exporter.export(&ResourceMetrics::default()).await;
        assert!(matches!(result, Err(OTelSdkError::Timeout(_))), "{result:?}");
        let counters = counters.render();
        let counted = "dogiqa_exports_failed_total{signal=\"metrics\"} 1";
        assert!(counters.contains(counted), "{counters}");
        drop(listener);
    }
}
