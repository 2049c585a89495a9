//! The contract of the dead-letter headers' reader: a reason that was read stays the same when it
//! is written and read again.

use dog_iqa::event::dead_letter::MESSAGE_BYTES_MAX;
use dog_iqa::event::{DeadLetterReason, Headers};

/// Returns true if the headers are a reason. Panics if their reader violates its contract.
pub(crate) fn check(headers: &Headers) -> bool {
    let Ok(reason) = DeadLetterReason::from_headers(headers) else { return false };
    let once = written(&reason);
    assert!(once.message.len() <= MESSAGE_BYTES_MAX);
    assert_eq!(written(&once), once, "writing twice changes nothing more");
    // Writing redacts and truncates the message, and rounds the time down to milliseconds.
    let reason = DeadLetterReason { message: once.message.clone(), time: once.time, ..reason };
    assert_eq!(reason, once);
    true
}

/// Returns the reason after it was written to headers and read again.
pub(crate) fn written(reason: &DeadLetterReason) -> DeadLetterReason {
    let headers: Headers = reason.headers().into_iter().collect();
    DeadLetterReason::from_headers(&headers).expect("a reason reads what it wrote")
}
