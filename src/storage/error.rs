//! The errors of storage, each with a stable code and a message.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use crate::redact;

/// Longest text of a foreign error that a message repeats, in bytes.
const CAUSE_BYTES_MAX: usize = 200;

/// The stores cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A setting has no usable value.
    #[error("{setting}: `{value}` {why}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The fault of the value.
        why: &'static str,
    },
    /// A root for `file:` references cannot be used.
    #[error("storage.file_roots: `{}` cannot be used: {why}", path.display())]
    Root {
        /// The folder as configured.
        path: PathBuf,
        /// The fault of the folder.
        why: String,
    },
    /// The client of a bucket cannot be built.
    #[error("{bucket} cannot be set up: {why}")]
    Bucket {
        /// The bucket with its scheme.
        bucket: String,
        /// The cause.
        why: String,
    },
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be set up: {why}; install the certificate authorities")]
    Client {
        /// The cause.
        why: String,
    },
}

/// A URI that is refused without a request to its store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriFault {
    /// The URI is malformed.
    #[error("the URI is not usable: {0}")]
    Invalid(&'static str),
    /// No store is known for the scheme.
    #[error("scheme `{0}` cannot be read; use s3, gs, az, https or file")]
    UnsupportedScheme(String),
    /// The URI is `http:`, without TLS, and the settings do not allow it.
    #[error("plain http is not allowed; use https or set storage.allow_http")]
    PlainHttp,
    /// The bucket is not in the allow-list.
    #[error("bucket {0} is not allowed; correct the reference or add it to storage.allow_buckets")]
    ForbiddenBucket(String),
    /// The host is not in the allow-list, or its address is not public.
    #[error("host {host} {why}")]
    ForbiddenHost {
        /// Host as the URI or the redirect names it.
        host: String,
        /// The reason, and the remedy.
        why: &'static str,
    },
    /// The path is not below a configured root.
    #[error("the path {0}")]
    OutsideRoots(&'static str),
    /// The store's client would change the key.
    #[error("the key {0}, which the stores cannot express; rename the object")]
    UnsupportedKey(&'static str),
}

impl UriFault {
    /// Returns the stable code for dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "uri.invalid",
            Self::UnsupportedScheme(_) | Self::PlainHttp => "uri.unsupported_scheme",
            Self::ForbiddenBucket(_) => "uri.forbidden_bucket",
            Self::ForbiddenHost { .. } => "uri.forbidden_host",
            Self::OutsideRoots(_) => "uri.outside_roots",
            Self::UnsupportedKey(_) => "fetch.unsupported_key",
        }
    }
}

/// A fetch that failed, after all its attempts.
#[derive(Debug, thiserror::Error)]
#[error("{uri}: {fault}")]
pub struct FetchError {
    uri: String,
    fault: FetchFault,
    attempts: u32,
}

impl FetchError {
    /// Reports the fault of the last attempt. `uri` is already redacted.
    pub(crate) fn new(uri: String, fault: FetchFault, attempts: u32) -> Self {
        Self { uri, fault, attempts }
    }

    /// Returns the stable code for dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// Returns true if the same fetch may succeed later.
    pub fn is_transient(&self) -> bool {
        self.fault.is_transient()
    }

    /// Returns the number of attempts, 0 if the URI was refused.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// The fault of one attempt to fetch an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchFault {
    /// The URI, or the target of a redirect, may not be read.
    #[error(transparent)]
    Uri(#[from] UriFault),
    /// The object does not exist.
    #[error("there is no such object ({0}); it was deleted or never written")]
    NotFound(String),
    /// The store denies access.
    #[error("the store denies read access ({0}); check the credentials and their rights")]
    Forbidden(String),
    /// The object's etag differs from the reference's.
    #[error("the object's etag differs from the reference's ({0}); it was overwritten")]
    EtagMismatch(String),
    /// The SHA-256 of the bytes differs from the reference's.
    #[error("the sha256 of the bytes differs from the reference's ({0}); they were changed")]
    Sha256Mismatch(String),
    /// The object is larger than the limit.
    #[error("it has {size}, the limit is {limit}; raise storage.bytes_max or resize upstream")]
    TooLarge {
        /// The declared size, or the fact that more bytes arrived.
        size: String,
        /// The limit.
        limit: ByteSize,
    },
    /// The path names a folder, a pipe, a device or a socket.
    #[error("it is not a regular file but {0}")]
    NotAFile(&'static str),
    /// A web server redirected too often.
    #[error("it was redirected more than {0} times; raise storage.redirects_max or use the target")]
    TooManyRedirects(u32),
    /// The store's response makes no sense for a read.
    #[error("the store sent an unexpected response ({0}); check the address and the region")]
    UnexpectedAnswer(String),
    /// A time limit was exceeded.
    #[error("{0}")]
    Timeout(Overrun),
    /// The store is unreachable or overloaded, or the connection was lost.
    #[error("the store is unavailable ({0})")]
    Unavailable(String),
}

/// The time limit that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overrun {
    /// Connecting took too long.
    #[error("no connection within {0:?} (storage.connect_timeout)")]
    Connect(Duration),
    /// The store was silent for too long.
    #[error("the store sent nothing for {0:?} (storage.read_timeout)")]
    Read(Duration),
    /// The fetch with all its attempts took too long.
    #[error("the fetch did not finish within {0:?} (storage.fetch_timeout)")]
    Fetch(Duration),
}

impl FetchFault {
    /// Returns the stable code for dead letters, metrics and logs.
    pub(crate) fn code(&self) -> &'static str {
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

    /// Returns true if another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unavailable(_))
    }

    /// Maps the status of a response without the object. `detail` is the store's name of the
    /// error, if it sent one.
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
            // S3 sends this if the request arrived too slowly.
            400 if detail == Some("RequestTimeout") => Self::Unavailable(answer),
            _ => Self::UnexpectedAnswer(answer),
        }
    }

    /// Reports an object whose declared size is above the limit.
    pub(crate) fn too_large(size: u64, limit: ByteSize) -> Self {
        Self::TooLarge { size: format!("{size} bytes"), limit }
    }

    /// Reports an object that exceeded the limit while it was read.
    pub(crate) fn larger_than(limit: ByteSize) -> Self {
        Self::TooLarge { size: "more bytes than allowed".to_owned(), limit }
    }
}

/// A name was resolved, and none of its addresses is public.
#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
pub(crate) struct NoPublicAddress;

/// Returns the text of the innermost error. It is the most specific one and holds no URL.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    redact::excerpt(&cause.to_string(), CAUSE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_whether_another_attempt_is_made() {
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
    fn a_message_names_the_object_the_cause_and_the_remedy() {
        let fault = FetchFault::from_status(404, Some("NoSuchKey"));
        let error = FetchError::new("s3://photos/a.jpg".to_owned(), fault, 1);
        assert_eq!(
            error.to_string(),
            "s3://photos/a.jpg: there is no such object (404 NoSuchKey); it was deleted or never \
             written",
        );
    }
}
