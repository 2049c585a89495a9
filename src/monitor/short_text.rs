//! Texts of events that are kept for the page.

use crate::redact::excerpt;

/// Returns the printable start of a text, in as much memory as it needs.
pub(crate) fn short(text: &str, bytes_max: usize) -> String {
    let mut short = excerpt(text, bytes_max);
    short.shrink_to_fit();
    short
}
