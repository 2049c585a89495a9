//! Untrusted text, which may hold control characters, be too long, or repeat a secret.

use std::error::Error;

/// Longest cause that a message repeats, in bytes.
const CAUSE_BYTES_MAX: usize = 200;

/// Replaces control characters, which a terminal would execute.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Removes control characters and truncates the text to a length in bytes.
pub(crate) fn excerpt(text: &str, bytes_max: usize) -> String {
    let mut text: String = text.chars().filter(|character| !character.is_control()).collect();
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// Returns an excerpt of the innermost error. It is the most specific one and holds no URL.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    excerpt(&innermost(error).to_string(), CAUSE_BYTES_MAX)
}

/// Returns the innermost error, for callers that hide secrets in its text: before the text is
/// truncated, because a part of a secret would not be found.
pub(crate) fn innermost<'error>(
    error: &'error (dyn Error + 'static),
) -> &'error (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// Drops the part of `sasl.oauthbearer.config` that librdkafka repeats when it cannot parse it.
pub(crate) fn librdkafka_reason(reason: &str) -> &str {
    reason.split_once(" beginning at: ").map_or(reason, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_reach_no_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(excerpt("a\u{1b}[31m\nb", 100), "a[31mb");
    }

    #[test]
    fn the_root_cause_is_the_innermost_error_without_control_characters_and_short() {
        let inner = std::io::Error::other(format!("a\u{1b}[31m{}", "b".repeat(300)));
        let outer = std::io::Error::other(std::io::Error::other(inner));
        assert_eq!(root_cause(&outer), format!("a[31m{}", "b".repeat(195)));
        assert_eq!(innermost(&outer).to_string().len(), 306);
    }

    #[test]
    fn an_excerpt_ends_between_characters() {
        assert_eq!(excerpt("xéé", 4), "xé");
    }

    #[test]
    fn an_oauth_configuration_is_not_repeated() {
        let reason = "Unrecognized sasl.oauthbearer.config beginning at: planted";
        assert_eq!(librdkafka_reason(reason), "Unrecognized sasl.oauthbearer.config");
        assert_eq!(librdkafka_reason("1/1 brokers are down"), "1/1 brokers are down");
    }
}
