//! The collector: limits the time of an export, and finds the cause of a failure for the log.

use std::time::Duration;

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};

use crate::redact;
use crate::telemetry::metrics;

/// Time limit of one request to the collector.
pub(crate) const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of the request that finds the cause.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A collector.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    pub(crate) client: reqwest::Client,
}

impl Collector {
    /// Waits for an export, for a limited time. Counts a failure, and logs it once a minute.
    ///
    /// # Errors
    /// Fails if the collector does not accept the export in time.
    pub(crate) async fn finish(
        &self,
        signal: &'static str,
        export: impl Future<Output = OTelSdkResult>,
    ) -> OTelSdkResult {
        let result = tokio::time::timeout(EXPORT_TIMEOUT, export)
            .await
            .unwrap_or(Err(OTelSdkError::Timeout(EXPORT_TIMEOUT)));
        if let Err(error) = &result {
            metrics::export_failed(signal, &self.endpoint, self.explain(error)).await;
        }
        result
    }

    /// Returns the text of a failure. The exporter names neither its kind nor the cause of a broken
    /// connection, so this asks the collector again, without headers and without data.
    async fn explain(&self, error: &OTelSdkError) -> String {
        let failure = match error {
            OTelSdkError::InternalFailure(failure) => failure,
            OTelSdkError::Timeout(limit) => {
                return format!("no answer within {}", humantime::format_duration(*limit));
            }
            OTelSdkError::AlreadyShutdown => return error.to_string(),
        };
        let probe = self.client.head(&self.endpoint).timeout(PROBE_TIMEOUT);
        match probe.send().await {
            Ok(answer) => format!("{failure}; a HEAD request got status {}", answer.status()),
            Err(error) => {
                format!(
                    "{failure}; a HEAD request failed: {}",
                    redact::root_cause(&error.without_url())
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
    use opentelemetry_sdk::trace::SpanExporter as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn collector(listener: &TcpListener) -> (Collector, SpanExporter) {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::new();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .build()
            .unwrap();
        (Collector { endpoint, client }, exporter)
    }

    #[tokio::test]
    async fn the_cause_of_a_refused_connection_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (collector, exporter) = collector(&listener);
        drop(listener);
        let error = exporter.export(Vec::new()).await.unwrap_err();
        let cause = collector.explain(&error).await;
        assert!(cause.to_lowercase().contains("refused"), "{cause}");
    }

    #[tokio::test]
    async fn only_a_failure_that_is_logged_is_explained_and_a_status_is_no_proof() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (collector, exporter) = collector(&listener);
        let probes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&probes);
        // A proxy that breaks every export, and answers a HEAD request.
        let proxy = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut method = [0; 4];
                connection.read_exact(&mut method).await.unwrap();
                if &method == b"HEAD" {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let answer = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n";
                    connection.write_all(answer).await.unwrap();
                }
            }
        });
        for _ in 0..3 {
            let export = exporter.export(Vec::new());
            assert!(collector.finish("a broken signal", export).await.is_err());
        }
        assert_eq!(probes.load(Ordering::SeqCst), 1);
        let error = exporter.export(Vec::new()).await.unwrap_err();
        let cause = collector.explain(&error).await;
        assert!(cause.ends_with("a HEAD request got status 502 Bad Gateway"), "{cause}");
        assert!(cause.starts_with("HTTP export failed"), "{cause}");
        proxy.abort();
    }
}
