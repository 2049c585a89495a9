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
use crate::telemetry::metrics;

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
        let mut export = pin!(async {
            let result = self.exporter.export(metrics).await;
            if let Err(error) = &result {
                let failure = self.collector.explain(error.to_string()).await;
                metrics::export_failed("metrics", &self.collector.endpoint, &failure);
            }
            result
        });
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
