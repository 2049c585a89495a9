//! Export of traces and metrics to an OpenTelemetry collector, over OTLP/HTTP.
//!
//! A collector that is slow or away never delays the worker: spans wait in a bounded queue,
//! requests have a time limit, and what is lost is counted.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanExporter as _};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use url::Url;

use crate::outbound_http;
use crate::telemetry::collector::{Collector, EXPORT_TIMEOUT};
use crate::telemetry::metric_exporter::OnRuntime;
use crate::telemetry::span_queue::SpanQueue;

/// Time limit of the last exports of a stopping worker.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest file of headers, in bytes.
const HEADERS_BYTES_MAX: usize = 64 << 10;

/// Settings of the export to an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSettings {
    /// Address of a collector that receives OTLP over HTTP, such as `http://collector:4318`.
    /// `dogiqa run` exports a trace for each reference, `dogiqa serve` and `run --serve` one for
    /// each request to score an image, and all of them their metrics. Empty: nothing is exported.
    pub endpoint: String,
    /// File with headers for the collector, such as `authorization: Bearer …`, one per line. It is
    /// read at start-up. Over plain `http:` anyone on the network can read them.
    pub headers_file: Option<PathBuf>,
    /// Share of the traces to export, from 0 to 1, of references and requests without a
    /// `traceparent`. Traces of others are exported if their producer or client has sampled them.
    /// Requests without a valid key have no trace.
    pub sample_ratio: f64,
    /// Interval between exports of the metrics; from 1 second to 1 hour.
    #[serde(with = "humantime_serde")]
    pub metrics_interval: Duration,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers_file: None,
            sample_ratio: 1.0,
            metrics_interval: Duration::from_secs(15),
        }
    }
}

/// The reason why the export cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The file of headers cannot be read.
    #[error("cannot read telemetry.otlp.headers_file {}: {source}", path.display())]
    HeadersFile {
        /// The configured path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// There is no HTTP client.
    #[error("no HTTP client for the collector: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be built.
    #[error("no exporter to the collector: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The running export.
#[derive(Debug)]
pub struct Otlp {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
}

impl Otlp {
    /// Starts the export on a runtime; `None` if no endpoint is configured. Sends nothing yet.
    ///
    /// # Errors
    /// Fails if a setting cannot be used, or the headers cannot be read.
    pub fn start(settings: &OtlpSettings, runtime: &Handle) -> Result<Option<Self>, OtlpError> {
        if settings.endpoint.is_empty() {
            return Ok(None);
        }
        let endpoint = settings.check()?;
        let headers = match &settings.headers_file {
            Some(path) => read_headers(path)?,
            None => HashMap::new(),
        };
        let client = client(&endpoint)?;
        let collector = Collector { endpoint: endpoint.clone(), client: client.clone() };
        let resource = resource();
        let mut spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_headers(headers.clone())
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        spans.set_resource(&resource);
        let ratio = Sampler::TraceIdRatioBased(settings.sample_ratio);
        let tracers = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_span_processor(SpanQueue::start(spans, collector.clone(), runtime))
            .build();
        let metrics = MetricExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{endpoint}/v1/metrics"))
            .with_headers(headers)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let reader = PeriodicReader::builder(OnRuntime::new(metrics, collector, runtime.clone()))
            .with_interval(settings.metrics_interval)
            .build();
        let meters =
            SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        Ok(Some(Self { tracers, meters }))
    }

    /// Returns the source of the spans.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.tracers.tracer_with_scope(scope())
    }

    /// Returns the source of the instruments.
    pub(crate) fn meter(&self) -> Meter {
        self.meters.meter_with_scope(scope())
    }

    /// Exports what is left, for at most three seconds. Blocks: call it outside of the runtime,
    /// while the runtime still runs.
    pub fn shutdown(self) {
        let (done, is_done) = mpsc::channel();
        // A thread, so that a collector that does not answer cannot block the exit.
        std::thread::spawn(move || {
            drop((self.tracers.shutdown_with_timeout(SHUTDOWN_TIMEOUT), self.meters.shutdown()));
            done.send(()).ok();
        });
        if is_done.recv_timeout(SHUTDOWN_TIMEOUT).is_err() {
            tracing::warn!("the last traces and metrics were not exported: the collector is slow");
        }
    }
}

impl OtlpSettings {
    /// Returns the endpoint without a slash at its end.
    fn check(&self) -> Result<String, OtlpError> {
        let refuse = |text: String| Err(OtlpError::Setting(text));
        let url = match Url::parse(&self.endpoint) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                return refuse(
                    "telemetry.otlp.endpoint must be an http: or https: URL, such as \
                     http://collector:4318"
                        .to_owned(),
                );
            }
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return refuse(
                "telemetry.otlp.endpoint must have no user, password or query; put an \
                 authorization header into telemetry.otlp.headers_file"
                    .to_owned(),
            );
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return refuse(format!(
                "telemetry.otlp.sample_ratio is {}; it must be from 0 to 1",
                self.sample_ratio
            ));
        }
        let interval = self.metrics_interval;
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&interval) {
            return refuse(format!(
                "telemetry.otlp.metrics_interval is {}; it must be from 1s to 1h",
                humantime::format_duration(interval)
            ));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}

fn client(endpoint: &str) -> Result<reqwest::Client, reqwest::Error> {
    // Headers reach only the configured collector: no client follows redirects.
    outbound_http::build(outbound_http::builder, !endpoint.starts_with("https:"))
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("dogiqa").with_version(env!("CARGO_PKG_VERSION")).build()
}

/// Returns the attributes of this process: those of `OTEL_RESOURCE_ATTRIBUTES`, and its own.
fn resource() -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Two workers of one machine differ too.
    let instance = format!("{}-{}", host.trim(), std::process::id());
    Resource::builder()
        .with_service_name("dogiqa")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

/// Reads headers. No message repeats their values.
fn read_headers(path: &Path) -> Result<HashMap<String, String>, OtlpError> {
    let failed = |source| OtlpError::HeadersFile { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    if text.len() > HEADERS_BYTES_MAX {
        return Err(failed(io::Error::other("it is above 64 KiB")));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let header = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
            let is_valid = |&(name, value): &(&str, &str)| {
                name.parse::<reqwest::header::HeaderName>().is_ok()
                    && value.parse::<reqwest::header::HeaderValue>().is_ok()
            };
            let (name, value) = header.filter(is_valid).ok_or_else(|| {
                failed(io::Error::other(format!("line {} is no `name: value`", index + 1)))
            })?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &OtlpSettings) -> String {
        settings.check().unwrap_err().to_string()
    }

    #[test]
    fn an_endpoint_loses_its_last_slash_and_bad_settings_are_named() {
        let at =
            |endpoint: &str| OtlpSettings { endpoint: endpoint.to_owned(), ..Default::default() };
        assert_eq!(at("http://collector:4318/").check().unwrap(), "http://collector:4318");
        for bad in ["collector:4318", "grpc://collector", "http://user:secret@collector"] {
            let text = refused(&at(bad));
            assert!(
                text.starts_with("telemetry.otlp.endpoint") && !text.contains("secret"),
                "{text}"
            );
        }
        let ratio = OtlpSettings { sample_ratio: 1.5, ..at("http://collector") };
        assert!(refused(&ratio).contains("telemetry.otlp.sample_ratio is 1.5"));
        let interval = OtlpSettings { metrics_interval: Duration::ZERO, ..at("http://collector") };
        assert!(refused(&interval).contains("telemetry.otlp.metrics_interval is 0s"));
    }

    #[test]
    fn headers_are_read_from_lines_and_a_bad_line_is_named_without_its_value() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, "authorization: Bearer a:b\n\nx-scope: photos\n").unwrap();
        let headers = read_headers(&path).unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert_eq!(headers["x-scope"], "photos");
        std::fs::write(&path, "x-scope: photos\nsecret\n").unwrap();
        let error = read_headers(&path).unwrap_err().to_string();
        assert!(error.ends_with("line 2 is no `name: value`"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(read_headers(&path).unwrap_err().to_string().contains("headers_file"));
    }
}
