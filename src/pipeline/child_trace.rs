//! The trace in which an answer continues.

use crate::event::TraceContext;
use crate::telemetry::spans;

/// Returns the exported span of the reference or request. Without an export, returns a child of the
/// parent's trace, or a new trace if there is no parent.
pub(crate) fn child_trace(parent: Option<&TraceContext>) -> TraceContext {
    let state = parent.and_then(TraceContext::state);
    let exported = spans::current_traceparent();
    if let Some(exported) = exported.and_then(|header| TraceContext::parse(&header, state)) {
        return exported;
    }
    let span_id = fastrand::u64(..).to_be_bytes();
    parent.map_or_else(
        || TraceContext::root(fastrand::u128(..).to_be_bytes(), span_id),
        |parent| parent.child(span_id),
    )
}
