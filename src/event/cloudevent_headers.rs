//! The headers of a quality event: a `CloudEvent` 1.0 in the binary mode of the Kafka binding.

use crate::event::quality_event::QualityEvent;
use crate::event::trace::TraceContext;

/// `ce_type` of a quality event.
pub const QUALITY_EVENT_TYPE: &str = "dogiqa.image.quality.v1";
/// A header of every event of a shadow. Its value is `true`.
pub const SHADOW_HEADER: &str = "dogiqa.shadow";

/// Returns the headers of a quality event. `trace` is the trace of its reference.
pub fn headers_for(event: &QualityEvent, trace: Option<&TraceContext>) -> Vec<(String, String)> {
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.event_id.clone()),
        ("ce_source", format!("/dogiqa/{}", event.engine.name)),
        ("ce_type", QUALITY_EVENT_TYPE.to_owned()),
        ("ce_time", event.time_text()),
        ("content-type", "application/json".to_owned()),
    ];
    if let Some(trace) = trace {
        headers.push(("traceparent", trace.header()));
        if let Some(state) = trace.state() {
            headers.push(("tracestate", state.to_owned()));
        }
    }
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
