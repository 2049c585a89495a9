//! Spans for traces. They exist only while traces are exported, and appear in no log line.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Span, debug_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::telemetry::stage::Stage;

/// The target of every span of this file, by which the log leaves them out.
pub(crate) const TARGET: &str = module_path!();

/// The values of `traceparent` and `tracestate`.
pub type ParentHeaders<'a> = (String, Option<&'a str>);

/// The position of a record in its topic.
#[derive(Debug, Clone, Copy)]
pub struct RecordPosition<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Starts the span of one reference, from its record to its answer. Its parent is the span of the
/// producer, by `traceparent` and `tracestate`.
pub fn reference_span(record: RecordPosition<'_>, parent: Option<ParentHeaders<'_>>) -> Span {
    let span = debug_span!(
        "reference",
        otel.name = "answer reference",
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        "error.type" = field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.destination.name = record.topic,
        messaging.destination.partition.id = record.partition,
        messaging.kafka.offset = record.offset,
    );
    continue_trace(&span, parent);
    span
}

/// Makes a span the child of another process's.
fn continue_trace(span: &Span, parent: Option<ParentHeaders<'_>>) {
    if let Some(parent) = parent.and_then(|(parent, state)| remote(&parent, state)) {
        // Fails if no traces are exported.
        drop(span.set_parent(Context::new().with_remote_span_context(parent)));
    }
}

/// Starts the span of an HTTP request, as a child of the client's.
pub fn request_span(
    method: &'static str,
    route: &'static str,
    parent: Option<ParentHeaders<'_>>,
) -> Span {
    let span = debug_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        "error.type" = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
    );
    continue_trace(&span, parent);
    span
}

/// Records the status of a response. Only a failure of the service makes its span an error.
pub fn mark_response(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR").record("error.type", status.to_string());
    }
}

/// Starts the span of a stage, as a child of the current one.
pub fn stage_span(stage: Stage) -> Span {
    debug_span!(
        "stage",
        otel.name = stage.name(),
        otel.status_code = field::Empty,
        "error.type" = field::Empty,
    )
}

/// Marks a span as failed, with a code of `docs/operations.md`.
pub fn mark_failed(span: &Span, code: &'static str) {
    span.record("otel.status_code", "ERROR").record("error.type", code);
}

/// Returns the `traceparent` of the current span, or `None` if no traces are exported.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
    })
}

/// Returns the remote span of a valid `traceparent` of version 00.
fn remote(traceparent: &str, tracestate: Option<&str>) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let trace_id = TraceId::from_hex(parts.next()?).ok()?;
    let span_id = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    let state = tracestate.and_then(|state| state.parse().ok()).unwrap_or(TraceState::NONE);
    Some(SpanContext::new(trace_id, span_id, flags, true, state))
}
