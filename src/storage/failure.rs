//! Why a fetch failed: what a caller can do about it, a stable code, a message for people.

use std::time::Duration;

use bytesize::ByteSize;

use crate::redact;
use crate::storage::uri::UriFault;

/// A fetch that failed for good, after the attempts it was worth.
#[derive(Debug, thiserror::Error)]
#[error("{uri}: {fault}")]
pub struct FetchError {
    uri: String,
    fault: FetchFault,
    attempts: u32,
}

impl FetchError {
    /// Tells of the `attempts`th attempt's fault; `uri` is already fit to be shown.
    pub(crate) fn new(uri: String, fault: FetchFault, attempts: u32) -> Self {
        Self { uri, fault, attempts }
    }

    /// Returns the stable code for dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// Tells whether the same fetch may succeed later.
    pub fn is_transient(&self) -> bool {
        self.fault.is_transient()
    }

    /// Returns how often the store was asked; 0 when the URI was refused.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns what went wrong.
    pub fn fault(&self) -> &FetchFault {
        &self.fault
    }
}

/// What goes wrong when an image is fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    /// The URI, or a redirect's, is not one that may be read.
    #[error(transparent)]
    Uri(#[from] UriFault),
    /// There is no such object.
    #[error("there is no such object ({0}); it was deleted or never written")]
    NotFound(String),
    /// The store knows us, or not, and does not let us read.
    #[error("the store refuses to let us read it ({0}); check the credentials and their rights")]
    Forbidden(String),
    /// The object is not the one that the reference's `etag` means.
    #[error("the object's etag is not the reference's ({0}); it was overwritten")]
    EtagMismatch(String),
    /// The bytes are not the ones that the reference's `sha256` means.
    #[error("the sha256 of the bytes is not the reference's ({0}); they were changed")]
    Sha256Mismatch(String),
    /// The object is larger than the limit.
    #[error("it has {size}, the limit is {limit}; raise storage.bytes_max or resize upstream")]
    TooLarge {
        /// Declared size, or that the limit was passed.
        size: String,
        /// The limit.
        limit: ByteSize,
    },
    /// The path leads to a folder, a pipe, a device or a socket.
    #[error("it is not a regular file but {0}")]
    NotAFile(&'static str),
    /// The redirects of a web server do not end.
    #[error("it was redirected more than {0} times; raise storage.redirects_max or use the target")]
    TooManyRedirects(u32),
    /// The store gave an answer that means nothing for a read.
    #[error("the store gave an unexpected answer ({0}); check the address and the region")]
    UnexpectedAnswer(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(Overrun),
    /// The store cannot be reached, is overloaded or broke off.
    #[error("the store is not available now ({0})")]
    Unavailable(String),
}

/// Which time limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overrun {
    /// The connection took too long.
    #[error("no connection within {0:?} (storage.connect_timeout)")]
    Connect(Duration),
    /// The store was silent for too long.
    #[error("the store sent nothing for {0:?} (storage.read_timeout)")]
    Read(Duration),
    /// The fetch with all its attempts took too long.
    #[error("the fetch was not done within {0:?} (storage.fetch_timeout)")]
    Fetch(Duration),
}

impl FetchFault {
    /// Returns the stable code for dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Uri(fault) => fault.code(),
            Self::NotFound(_) => "fetch.not_found",
            Self::Forbidden(_) => "fetch.forbidden",
            Self::EtagMismatch(_) => "fetch.etag_mismatch",
            Self::Sha256Mismatch(_) => "fetch.sha256_mismatch",
            Self::TooLarge { .. } => "fetch.too_large",
            Self::NotAFile(_) => "fetch.not_a_file",
            Self::TooManyRedirects(_) => "fetch.too_many_redirects",
            Self::UnexpectedAnswer(_) => "fetch.unexpected_answer",
            Self::Timeout(_) => "fetch.timeout",
            Self::Unavailable(_) => "fetch.unavailable",
        }
    }

    /// Tells whether the same attempt may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unavailable(_))
    }

    /// Judges the status of an answer that brought no object. `detail` is the store's own name of
    /// the error, when it gave one.
    pub(crate) fn from_status(status: u16, detail: Option<&str>) -> Self {
        let answer = match detail {
            Some(detail) => format!("{status} {detail}"),
            None => format!("status {status}"),
        };
        match status {
            404 | 410 => Self::NotFound(answer),
            401 | 403 | 407 | 451 => Self::Forbidden(answer),
            412 => Self::EtagMismatch(answer),
            408 | 425 | 429 | 500.. => Self::Unavailable(answer),
            // S3 says so when the request came in too slowly.
            400 if detail == Some("RequestTimeout") => Self::Unavailable(answer),
            _ => Self::UnexpectedAnswer(answer),
        }
    }

    /// Tells of an object whose declared size is above the limit.
    pub(crate) fn too_large(size: u64, limit: ByteSize) -> Self {
        Self::TooLarge { size: format!("{size} bytes"), limit }
    }

    /// Tells of an object that passed the limit while it was read.
    pub(crate) fn larger_than(limit: ByteSize) -> Self {
        Self::TooLarge { size: "more bytes than it may have".to_owned(), limit }
    }
}

/// Returns the text of the innermost error, which says most and holds no URL.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    redact::excerpt(&cause.to_string(), 200)
}

#[cfg(test)]
mod tests {
    use super::{FetchError, FetchFault};

    #[test]
    fn a_status_says_whether_another_attempt_is_worth_it() {
        let check = |status, detail, code, is_transient| {
            let fault = FetchFault::from_status(status, detail);
            assert_eq!((fault.code(), fault.is_transient()), (code, is_transient), "{status}");
        };
        check(404, Some("NoSuchKey"), "fetch.not_found", false);
        check(410, None, "fetch.not_found", false);
        check(401, None, "fetch.forbidden", false);
        check(403, Some("AccessDenied"), "fetch.forbidden", false);
        check(412, None, "fetch.etag_mismatch", false);
        check(408, None, "fetch.unavailable", true);
        check(429, None, "fetch.unavailable", true);
        check(500, None, "fetch.unavailable", true);
        check(503, Some("SlowDown"), "fetch.unavailable", true);
        check(400, Some("RequestTimeout"), "fetch.unavailable", true);
        check(400, None, "fetch.unexpected_answer", false);
        check(301, Some("PermanentRedirect"), "fetch.unexpected_answer", false);
    }

    #[test]
    fn a_message_says_where_what_and_what_to_do() {
        let fault = FetchFault::from_status(404, Some("NoSuchKey"));
        let error = FetchError::new("s3://photos/a.jpg".to_owned(), fault, 1);
        assert_eq!(
            error.to_string(),
            "s3://photos/a.jpg: there is no such object (404 NoSuchKey); it was deleted or never \
             written",
        );
    }
}
