//! Any headers are the reason of a dead letter that survives being written again, or none.

use dog_iqa::event::dead_letter::MESSAGE_BYTES_MAX;
use dog_iqa::event::{DeadLetterReason, Headers};

/// Whether headers are a reason; panics where they break a promise of their reader.
pub(crate) fn check(headers: &Headers) -> bool {
    let Ok(reason) = DeadLetterReason::from_headers(headers) else { return false };
    let once = written(&reason);
    assert!(once.message.len() <= MESSAGE_BYTES_MAX);
    assert_eq!(written(&once), once, "what was written once stays as it is");
    // The message loses its secrets and its end, the time what is below a millisecond.
    let reason = DeadLetterReason { message: once.message.clone(), time: once.time, ..reason };
    assert_eq!(reason, once);
    true
}

/// The reason as it comes back from the topic.
pub(crate) fn written(reason: &DeadLetterReason) -> DeadLetterReason {
    let headers: Headers = reason.headers().into_iter().collect();
    DeadLetterReason::from_headers(&headers).expect("a reason reads what it wrote")
}
