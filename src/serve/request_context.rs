//! The identity of a request: its id and its trace, in logs and in every response.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::event::TraceContext;
use crate::pipeline::child_trace;

/// Header with the request's id. One is chosen for requests without it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Header with the client's span.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Header with what the client's tracing system adds to it.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest id that is accepted from a client, in characters.
const ID_CHARS_MAX: usize = 128;

/// The identity of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    pub(crate) id: String,
    /// The client, or `None` if the request needs a key and has no valid one.
    pub(crate) client: Option<Arc<str>>,
    /// A span of this service in the client's trace, or in a new one.
    pub(crate) trace: TraceContext,
}

impl RequestContext {
    /// Reads the client's span.
    pub(crate) fn parent(headers: &HeaderMap) -> Option<TraceContext> {
        let parent = text(headers, &TRACEPARENT)?;
        TraceContext::parse(parent, text(headers, &TRACESTATE))
    }

    /// Reads the id or chooses one. The trace is that of the current span, if it is exported.
    pub(crate) fn new(
        headers: &HeaderMap,
        client: Option<Arc<str>>,
        parent: Option<&TraceContext>,
    ) -> Self {
        let is_id = |id: &&str| {
            !id.is_empty()
                && id.len() <= ID_CHARS_MAX
                && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let id = text(headers, &REQUEST_ID).filter(is_id).map(str::to_owned);
        Self {
            id: id.unwrap_or_else(|| hex::encode(fastrand::u128(..).to_be_bytes())),
            client,
            trace: child_trace(parent),
        }
    }

    /// Adds id and trace to the headers of a response.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let mut insert = |name, text: &str| {
            let value = HeaderValue::from_str(text);
            headers.insert(name, value.expect("ids and traces are printable ASCII"));
        };
        insert(REQUEST_ID, &self.id);
        insert(TRACEPARENT, &self.trace.header());
        if let Some(state) = self.trace.state() {
            insert(TRACESTATE, state);
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context_of(headers: &HeaderMap) -> RequestContext {
        RequestContext::new(headers, None, RequestContext::parent(headers).as_ref())
    }

    #[test]
    fn an_id_and_a_trace_are_kept_and_others_are_replaced() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("upload-4711"));
        headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
        let context = context_of(&headers);
        assert_eq!(context.id, "upload-4711");
        assert_eq!(context.trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(context.trace.header(), parent, "the span is ours");

        headers.insert(REQUEST_ID, HeaderValue::from_static("two words"));
        headers.insert(TRACEPARENT, HeaderValue::from_static("00-00-00-00"));
        let other = context_of(&headers);
        assert_eq!(other.id.len(), 32);
        assert_ne!(other.trace.trace_id(), context.trace.trace_id());
        let mut response = HeaderMap::new();
        other.mark(&mut response);
        assert_eq!(response[REQUEST_ID], other.id.as_str());
    }
}
