//! Finished spans on their way to the collector, in batches.

use std::sync::{Mutex, PoisonError, mpsc as blocking};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::telemetry::collector::Collector;
use crate::telemetry::metrics;

/// Maximum number of spans that wait. Further ones are dropped and counted.
const QUEUE_MAX: usize = 8192;
/// Maximum number of spans in one request.
const BATCH_MAX: usize = 512;
/// Longest time that a span waits for others of its batch.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// A bounded queue in front of a task that exports.
///
/// The SDK's own processors neither count what they drop, nor run on the runtime that the HTTP
/// client needs.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    sender: mpsc::Sender<SpanData>,
    stop: CancellationToken,
    /// Disconnected when the task has ended.
    ended: Mutex<blocking::Receiver<()>>,
}

impl SpanQueue {
    /// Starts the task on a runtime. Warnings name the collector.
    pub(crate) fn start(
        exporter: impl SpanExporter + 'static,
        collector: Collector,
        runtime: &Handle,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let (end, ended) = blocking::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        runtime.spawn(async move {
            export_until(stopped, receiver, exporter, &collector).await;
            drop(end);
        });
        Self { sender, stop, ended: Mutex::new(ended) }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            metrics::spans_dropped("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.stop.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(timeout) {
            Err(blocking::RecvTimeoutError::Timeout) => Err(OTelSdkError::Timeout(timeout)),
            _ => Ok(()),
        }
    }
}

/// Exports batches until it is stopped, then the rest.
async fn export_until(
    stop: CancellationToken,
    mut spans: mpsc::Receiver<SpanData>,
    exporter: impl SpanExporter,
    collector: &Collector,
) {
    loop {
        let mut batch = Vec::new();
        let fill = async {
            while batch.len() < BATCH_MAX {
                let Some(span) = spans.recv().await else { return };
                batch.push(span);
            }
        };
        // Stopping comes first, so that a full queue cannot delay it.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = tokio::time::timeout(BATCH_TIME, fill) => {}
        }
        let is_last = stop.is_cancelled();
        if is_last {
            spans.close();
            while let Ok(span) = spans.try_recv() {
                batch.push(span);
            }
        }
        if !batch.is_empty() {
            export(&exporter, batch, collector).await;
        }
        if is_last {
            return;
        }
    }
}

async fn export(exporter: &impl SpanExporter, batch: Vec<SpanData>, collector: &Collector) {
    let count = batch.len() as u64;
    if collector.finish("traces", exporter.export(batch)).await.is_err() {
        metrics::spans_dropped("export_failed", count);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tokio::sync::Semaphore;

    use super::*;

    /// Counts spans, and waits for a permit before each batch.
    #[derive(Debug, Clone)]
    struct Gated {
        permits: Arc<Semaphore>,
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl SpanExporter for Gated {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.permits.acquire().await.unwrap().forget();
            self.batches.lock().unwrap().push(batch.len());
            Ok(())
        }
    }

    #[test]
    fn a_blocked_collector_delays_nobody_and_the_rest_is_exported_at_the_end() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let gated = Gated { permits: Arc::new(Semaphore::new(0)), batches: Arc::default() };
        let collector = Collector { endpoint: String::new(), client: reqwest::Client::new() };
        let queue = SpanQueue::start(gated.clone(), collector, runtime.handle());
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        let more_than_fit = QUEUE_MAX + 4 * BATCH_MAX;
        for _ in 0..more_than_fit {
            drop(tracer.start("span"));
        }
        gated.permits.add_permits(100);
        provider.shutdown().unwrap();
        let batches = gated.batches.lock().unwrap().clone();
        let exported: usize = batches.iter().sum();
        // The task may take batches while the loop runs, but the gate lets none of them pass.
        assert!((QUEUE_MAX..=QUEUE_MAX + BATCH_MAX).contains(&exported), "{batches:?}");
    }
}
