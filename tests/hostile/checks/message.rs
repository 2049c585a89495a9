//! What holds for every error that a stranger can cause.

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Panics unless the code is one of a family and the message fits into a line of a log.
pub(crate) fn check(code: &str, families: &[&str], message: &str) {
    let family = code.split('.').next().unwrap_or_default();
    assert!(families.contains(&family), "{code} is of none of the families {families:?}");
    assert!(!message.is_empty(), "{code} says nothing");
    let is_short = message.len() <= MESSAGE_BYTES_MAX;
    assert!(is_short, "the message of {code} has {} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{code} has control characters: {message:?}");
}
