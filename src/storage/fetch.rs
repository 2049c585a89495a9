//! One fetch: find the store, read within the limits, try again when it is worth it, verify.

use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::redact;
use crate::storage::etag::Etag;
use crate::storage::failure::{FetchError, FetchFault, Overrun};
use crate::storage::http::TimeLimits;
use crate::storage::settings::Settings;
use crate::storage::stores::Stores;
use crate::storage::uri::Location;
use crate::telemetry::metrics;

/// Bodies up to this size are hashed in place; it takes less than 500 µs.
const HASHED_IN_PLACE_BYTES_MAX: usize = 64 * 1024;

/// What to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRequest<'reference> {
    /// `s3:`, `gs:`, `az:`, `http(s):` or `file:`.
    pub uri: &'reference str,
    /// Entity tag that the object must have, with or without quotes.
    pub etag: Option<&'reference str>,
    /// SHA-256 that the bytes must have, as 64 hex digits.
    pub sha256: Option<&'reference str>,
}

impl<'reference> FetchRequest<'reference> {
    /// Asks for whatever the URI leads to.
    pub fn new(uri: &'reference str) -> Self {
        Self { uri, etag: None, sha256: None }
    }
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedImage {
    /// The object, untouched.
    pub bytes: Bytes,
    /// Entity tag as the store spells it; files have none.
    pub etag: Option<String>,
    /// Media type as the store has it; the bytes may be something else.
    pub content_type: Option<String>,
    /// How often the store was asked.
    pub attempts: u32,
}

/// What one attempt brings.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) media_type: Option<String>,
}

/// The limits of every fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes_max: ByteSize,
    pub(crate) time: TimeLimits,
    pub(crate) attempts_max: u32,
    backoff_base: Duration,
    backoff_max: Duration,
}

impl Limits {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            bytes_max: settings.bytes_max,
            time: TimeLimits::new(settings),
            attempts_max: settings.attempts_max.get(),
            backoff_base: settings.backoff_base,
            backoff_max: settings.backoff_max,
        }
    }

    /// Draws the wait after a failed attempt: full jitter under a ceiling that doubles.
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt);
        let ceiling = self.backoff_base.saturating_mul(factor).min(self.backoff_max);
        ceiling.mul_f64(fastrand::f64())
    }
}

/// What the reference says about the object.
struct Expectation {
    etag: Option<Etag>,
    sha256: Option<[u8; 32]>,
}

impl Stores {
    /// Returns the most bytes that one image may have.
    pub fn bytes_max(&self) -> u64 {
        self.limits.bytes_max.as_u64()
    }

    /// Reads an image into memory.
    ///
    /// Transient faults are tried again within the attempts and the time of the settings; then the
    /// last fault is returned. It is safe to drop the future at any point; a file that is being
    /// read then is read to its end on its own thread.
    ///
    /// # Errors
    /// When the URI is malformed or names a place that is not allowed, when the store has no such
    /// object or does not give it, when it is too large, too slow or not the one that `etag` and
    /// `sha256` say.
    pub async fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchedImage, FetchError> {
        let failed = |fault, attempts| FetchError::new(redact::uri(request.uri), fault, attempts);
        let location = self.locate(request.uri).map_err(|fault| failed(fault.into(), 0))?;
        let expected = Expectation::read(request).map_err(|fault| failed(fault, 0))?;
        let deadline = Instant::now() + self.limits.time.fetch;
        let mut attempt = 1;
        loop {
            let outcome = timeout_at(deadline, self.attempt(&location, &expected))
                .await
                .unwrap_or(Err(FetchFault::Timeout(Overrun::Fetch(self.limits.time.fetch))));
            let fault = match outcome {
                Ok(Content { bytes, etag, media_type }) => {
                    let content_type = media_type;
                    return Ok(FetchedImage { bytes, etag, content_type, attempts: attempt });
                }
                Err(fault) => fault,
            };
            let next_start = Instant::now().checked_add(self.limits.backoff(attempt));
            let Some(next_start) = next_start.filter(|&start| {
                fault.is_transient() && attempt < self.limits.attempts_max && start < deadline
            }) else {
                return Err(failed(fault, attempt));
            };
            metrics::fetch_retried(fault.code());
            tracing::debug!(uri = redact::uri(request.uri), attempt, %fault, "a fetch is tried again");
            sleep_until(next_start).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        location: &Location,
        expected: &Expectation,
    ) -> Result<Content, FetchFault> {
        let etag = expected.etag.as_ref();
        let content = match location {
            Location::Object { scheme, bucket, key } => {
                self.bucket(*scheme, bucket)?.read(key, etag, &self.limits).await?
            }
            Location::Web(url) => self.web.read(url, etag, &self.limits).await?,
            Location::File(path) => {
                if let Some(etag) = etag {
                    etag.verify(None)?;
                }
                let (roots, path, limit) =
                    (self.roots.clone(), path.clone(), self.limits.bytes_max);
                let bytes = spawn_blocking(move || roots.read(&path, limit))
                    .await
                    .unwrap_or_else(|_| Err(FetchFault::Unavailable("reader lost".to_owned())))?;
                Content { bytes, etag: None, media_type: None }
            }
        };
        if let Some(expected) = expected.sha256 {
            verify_sha256(&content.bytes, expected).await?;
        }
        Ok(content)
    }
}

impl Expectation {
    fn read(request: &FetchRequest<'_>) -> Result<Self, FetchFault> {
        let etag = request.etag.map(|text| {
            Etag::parse(text).ok_or_else(|| {
                FetchFault::EtagMismatch("the reference's is none that a store can have".to_owned())
            })
        });
        let sha256 = request.sha256.map(|text| {
            let mut sha256 = [0; 32];
            hex::decode_to_slice(text, &mut sha256).map(|()| sha256).map_err(|_| {
                FetchFault::Sha256Mismatch("the reference's is not 64 hex digits".to_owned())
            })
        });
        Ok(Self { etag: etag.transpose()?, sha256: sha256.transpose()? })
    }
}

async fn verify_sha256(bytes: &Bytes, expected: [u8; 32]) -> Result<(), FetchFault> {
    let actual: [u8; 32] = if bytes.len() <= HASHED_IN_PLACE_BYTES_MAX {
        Sha256::digest(bytes).into()
    } else {
        let bytes = bytes.clone();
        spawn_blocking(move || Sha256::digest(&bytes).into())
            .await
            .map_err(|_| FetchFault::Unavailable("hashing was cut off".to_owned()))?
    };
    if actual == expected {
        return Ok(());
    }
    let why = format!("expected {}, got {}", hex::encode(expected), hex::encode(actual));
    Err(FetchFault::Sha256Mismatch(why))
}
