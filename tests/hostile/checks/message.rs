//! The contract of errors that untrusted input can cause.

/// Maximum length of a message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Panics unless the code belongs to one of the families and the message fits into one log line.
pub(crate) fn check(code: &str, families: &[&str], message: &str) {
    let family = code.split('.').next().unwrap_or_default();
    assert!(families.contains(&family), "{code} belongs to none of the families {families:?}");
    assert!(!message.is_empty(), "{code} has an empty message");
    let is_short = message.len() <= MESSAGE_BYTES_MAX;
    assert!(is_short, "the message of {code} has {} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{code} has control characters: {message:?}");
}
