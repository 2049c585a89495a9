//! The errors of storage, each with a stable code and a message.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytesize::ByteSize;

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
    /// A profile of AWS's shared files cannot be used.
    #[error("the AWS profile `{profile}` {why}")]
    Profile {
        /// Name of the profile.
        profile: String,
        /// The cause, and the remedy.
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
    /// The storage account of a notification is not the configured one.
    #[error("the storage account {0} is not that of storage.azure.account")]
    ForbiddenAccount(String),
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
            Self::ForbiddenBucket(_) | Self::ForbiddenAccount(_) => "uri.forbidden_bucket",
            Self::ForbiddenHost { .. } => "uri.forbidden_host",
            Self::OutsideRoots(_) => "uri.outside_roots",
            Self::UnsupportedKey(_) => "fetch.unsupported_key",
        }
    }
}

/// The fault of a store, or of this worker's access to it. It says nothing about the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The store is unreachable, overloaded or too slow. One object may cause it too.
    Unavailable,
    /// The store rejects requests that come too fast.
    Throttled,
    /// The store does not accept the worker's credentials, clock, region or bucket. Every object of
    /// the store fails alike.
    Refused,
    /// The store denies access to the object. The cause is the object's rights or the worker's:
    /// only other objects of the store can tell.
    Denied,
}

/// A fetch that failed because of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFailure {
    /// The fault.
    pub fault: StoreFault,
    /// Start of the latest read of this store that succeeded, if there was one.
    pub last_read: Option<Instant>,
    /// The time that the store demands before the next request.
    pub retry_after: Option<Duration>,
}

/// A fetch that failed, after all its attempts.
#[derive(Debug, thiserror::Error)]
#[error("{uri}: {fault}")]
pub struct FetchError {
    uri: String,
    fault: FetchFault,
    attempts: u32,
    last_read: Option<Instant>,
}

impl FetchError {
    /// Reports the fault of the last attempt. `uri` is already redacted.
    pub(crate) fn new(uri: String, fault: FetchFault, attempts: u32) -> Self {
        Self { uri, fault, attempts, last_read: None }
    }

    /// Adds the start of the latest read of the store that succeeded.
    pub(crate) fn with_last_read(self, last_read: Option<Instant>) -> Self {
        Self { last_read, ..self }
    }

    /// Returns the stable code for dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// Returns true if the same fetch may succeed later.
    pub fn is_transient(&self) -> bool {
        self.fault.store_fault().is_some_and(|fault| fault != StoreFault::Denied)
    }

    /// Returns the failure of the store, or `None` if the fault is the reference's or the object's.
    pub fn store_failure(&self) -> Option<StoreFailure> {
        let retry_after = match &self.fault {
            FetchFault::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        };
        let fault = self.fault.store_fault()?;
        Some(StoreFailure { fault, last_read: self.last_read, retry_after })
    }

    /// Returns true if the store sent the object, which was refused here.
    pub(crate) fn is_of_sent_object(&self) -> bool {
        self.attempts > 0 && self.fault.is_of_sent_object()
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
    /// The bucket does not exist.
    #[error(
        "there is no such bucket ({answer}); correct its name, region or endpoint in storage, or create \
         it"
    )]
    NoSuchBucket {
        /// The store's error.
        answer: String,
        /// The side that named the bucket: the configuration or the reference's URL.
        signer: Signer,
    },
    /// The store denies access to the object, or to all of its objects.
    #[error("the store denies read access ({0}); check the rights of the credentials")]
    Denied(String),
    /// The file may not be read, or a court forbids it.
    #[error("access is forbidden ({0})")]
    Forbidden(String),
    /// The store refuses the signature in the reference's own URL.
    #[error(
        "the store refuses the presigned URL ({0}); publish a new reference with a URL that is \
         valid for longer than the backlog"
    )]
    PresignedUrl(String),
    /// The store does not accept the worker's credentials, clock or region, or none could be
    /// obtained.
    #[error("the store refuses this worker ({answer}); {remedy}")]
    Refused {
        /// The store's error.
        answer: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The store does not accept the request's signature. Usually the secret key is wrong, but some
    /// stores also answer this for a key with unusual characters.
    #[error(
        "the store does not accept the signature ({0}); check the secret key, or rename the object \
         if only this one is refused"
    )]
    Signature(String),
    /// The provider of the worker's credentials failed.
    #[error(
        "no credentials for the store could be obtained ({0}); set them in storage or the \
         environment, or set anonymous for public buckets"
    )]
    NoCredentials(String),
    /// The object's etag differs from the reference's.
    #[error("the object's etag differs from the reference's ({0}); it was overwritten")]
    EtagMismatch(String),
    /// The SHA-256 of the bytes differs from the reference's.
    #[error("the sha256 of the bytes differs from the reference's ({0}); they were changed")]
    Sha256Mismatch(String),
    /// The media type of a notified object is not that of an image.
    #[error("the store has it as {0}, which storage.keys.content_types leaves out")]
    OtherContentType(String),
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
    /// The store rejects requests that come too fast.
    #[error("the store throttles requests ({answer}); lower the load or raise its limit")]
    Throttled {
        /// The store's error.
        answer: String,
        /// The time that the store demands before the next request.
        retry_after: Option<Duration>,
    },
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

/// The owner of the signature of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    /// This worker: the bucket is configured.
    Worker,
    /// The sender of the reference: its URL may be presigned.
    Sender,
}

impl FetchFault {
    /// Returns the stable code for dead letters, metrics and logs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Uri(fault) => fault.code(),
            Self::NotFound(_) => "fetch.not_found",
            Self::NoSuchBucket { .. } => "fetch.no_such_bucket",
            Self::Denied(_) | Self::Forbidden(_) => "fetch.forbidden",
            Self::PresignedUrl(_) => "fetch.presigned_url",
            Self::Refused { .. } | Self::Signature(_) | Self::NoCredentials(_) => {
                "fetch.credentials"
            }
            Self::EtagMismatch(_) => "fetch.etag_mismatch",
            Self::Sha256Mismatch(_) => "fetch.sha256_mismatch",
            Self::OtherContentType(_) => "fetch.other_content_type",
            Self::TooLarge { .. } => "fetch.too_large",
            Self::NotAFile(_) => "fetch.not_a_file",
            Self::TooManyRedirects(_) => "fetch.too_many_redirects",
            Self::UnexpectedAnswer(_) => "fetch.unexpected_answer",
            Self::Timeout(_) => "fetch.timeout",
            Self::Throttled { .. } => "fetch.throttled",
            Self::Unavailable(_) => "fetch.unavailable",
        }
    }

    /// Returns true if another attempt of the same fetch may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unavailable(_) | Self::NoCredentials(_))
    }

    /// Returns the fault of the store, or `None` if it is the reference's or the object's.
    pub(crate) fn store_fault(&self) -> Option<StoreFault> {
        match self {
            Self::Timeout(_) | Self::Unavailable(_) => Some(StoreFault::Unavailable),
            Self::Throttled { .. } => Some(StoreFault::Throttled),
            Self::Refused { .. }
            | Self::NoCredentials(_)
            | Self::NoSuchBucket { signer: Signer::Worker, .. } => Some(StoreFault::Refused),
            Self::Denied(_) | Self::Signature(_) => Some(StoreFault::Denied),
            _ => None,
        }
    }

    /// Returns true if the store sent the object, which was refused here: the store may be read.
    pub(crate) fn is_of_sent_object(&self) -> bool {
        matches!(self, Self::OtherContentType(_) | Self::Sha256Mismatch(_) | Self::TooLarge { .. })
    }

    /// Returns true if the store refused the credentials, and others may help.
    pub(crate) fn needs_other_credentials(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Signature(_))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_response_with_the_object_proves_that_the_store_may_be_read() {
        let is_sent = |fault, attempts| {
            FetchError::new("s3://photos/a.jpg".to_owned(), fault, attempts).is_of_sent_object()
        };
        assert!(is_sent(FetchFault::OtherContentType("text/html".to_owned()), 1));
        assert!(is_sent(FetchFault::too_large(10, ByteSize::b(9)), 1));
        let by_notification = is_sent(FetchFault::too_large(10, ByteSize::b(9)), 0);
        assert!(!by_notification, "no request was sent");
        assert!(!is_sent(FetchFault::NotFound(String::new()), 1));
        assert!(!is_sent(FetchFault::Forbidden(String::new()), 1));
    }
}
