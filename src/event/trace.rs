//! W3C trace context, which connects an event with the request behind its reference.

use std::fmt;

/// Longest `tracestate` that is passed on, in bytes. The standard requires at least this.
const STATE_BYTES_MAX: usize = 512;

/// Length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

/// The flags that are passed on: sampled, and random trace id. The standard requires all others to
/// be zero.
const KNOWN_FLAGS: u8 = 0b11;

/// A position in a trace: the ids of trace and span, and the vendors' state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// Parses a `traceparent` and its `tracestate`. Returns `None` if the parent is malformed or an
    /// id is zero; the standard then requires a new trace. Drops a malformed state.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim_matches([' ', '\t']);
        let mut parts = text.split('-');
        let [version] = bytes_of_hex(parts.next()?)?;
        let trace_id: [u8; 16] = bytes_of_hex(parts.next()?)?;
        let span_id: [u8; 8] = bytes_of_hex(parts.next()?)?;
        let [flags] = bytes_of_hex(parts.next()?)?;
        let is_version_known = version == 0 && text.len() == PARENT_BYTES;
        // A later version may append fields to those of version 00.
        let is_version_later = version != 0 && version != 0xff;
        if !(is_version_known || is_version_later) || is_zero(&trace_id) || is_zero(&span_id) {
            return None;
        }
        let is_valid_state = |state: &&str| {
            !state.is_empty()
                && state.len() <= STATE_BYTES_MAX
                && state.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        };
        let state = tracestate.filter(is_valid_state).map(str::to_owned);
        Some(Self { trace_id, span_id, flags: flags & KNOWN_FLAGS, state })
    }

    /// Creates a sampled trace with random ids from the caller. Replaces an id of zero, which is
    /// invalid, by 1.
    pub fn root(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        let trace_id = if is_zero(&trace_id) { 1_u128.to_be_bytes() } else { trace_id };
        Self { trace_id, span_id: valid_span(span_id), flags: 1, state: None }
    }

    /// Returns the same trace with a span of this service. The caller passes a random id.
    #[must_use]
    pub fn child(&self, span_id: [u8; 8]) -> Self {
        Self { span_id: valid_span(span_id), ..self.clone() }
    }

    /// Returns the `traceparent` header.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }

    /// Returns the `tracestate` header, if there is one.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns the id of the trace in hexadecimal.
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace_id)
    }

    /// Returns the id of the span in hexadecimal.
    fn span_id(&self) -> String {
        hex::encode(self.span_id)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.header())
    }
}

/// Parses exactly `N` bytes of hexadecimal. Refuses capitals, as the standard requires.
fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn valid_span(span_id: [u8; 8]) -> [u8; 8] {
    if is_zero(&span_id) { 1_u64.to_be_bytes() } else { span_id }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_parsed_and_written_unchanged() {
        let trace = TraceContext::parse(PARENT, Some("vendor=1")).unwrap();
        assert_eq!(trace.header(), PARENT);
        assert_eq!(trace.state(), Some("vendor=1"));
    }

    #[test]
    fn a_child_keeps_the_trace_and_gets_its_own_span() {
        let child = TraceContext::parse(PARENT, Some("a=b")).unwrap().child([0xab; 8]);
        assert_eq!(child.header(), "00-0af7651916cd43dd8448eb211c80319c-abababababababab-01");
        assert_eq!(child.state(), Some("a=b"));
        assert_eq!(child.child([0; 8]).span_id(), "0000000000000001");
    }

    #[test]
    fn a_malformed_parent_is_ignored() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("00-{trace}-b7ad6b7169203331"),
            format!("00-{trace}-b7ad6b7169203331-01-extra"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            PARENT.to_uppercase(),
            format!("00-{trace}-b7ad6b716920333g-01"),
            "00-é-b7ad6b7169203331-01".to_owned(),
        ] {
            assert_eq!(TraceContext::parse(&bad, None), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_parsed_like_version_00() {
        let later = format!("{}-more", PARENT.replacen("00", "cc", 1));
        assert_eq!(TraceContext::parse(&later, None).unwrap().header(), PARENT);
    }

    #[test]
    fn a_state_that_is_too_long_or_not_text_is_dropped() {
        for bad in [String::new(), "a=b\n".to_owned(), format!("a={}", "x".repeat(511))] {
            assert_eq!(TraceContext::parse(PARENT, Some(&bad)).unwrap().state(), None);
        }
    }
}
