//! A single fetch: locates the store, reads within the limits, retries transient faults, verifies.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::etag::Etag;
use crate::redact;
use crate::storage::backends::body::{self, Content};
use crate::storage::backends::file;
use crate::storage::backends::object_store::ObjectRead;
use crate::storage::error::{FetchError, FetchFault, Overrun, UriFault};
use crate::storage::stores::Stores;
use crate::storage::uri::Location;
use crate::telemetry::metrics;

/// Largest body that is hashed on the runtime's thread, which takes less than 500 µs.
const HASHED_INLINE_BYTES_MAX: usize = 64 * 1024;

/// The beginnings of a query for a version, which users write into URIs.
const QUERY_MARKS: [&str; 3] = ["?versionId=", "?generation=", "?versionid="];

/// A request for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRequest<'reference> {
    /// `s3:`, `gs:`, `az:`, `http(s):` or `file:`.
    pub uri: &'reference str,
    /// Entity tag that the object must have, with or without quotes.
    pub etag: Option<&'reference str>,
    /// SHA-256 that the bytes must have, as 64 hex digits.
    pub sha256: Option<&'reference str>,
    /// Version of the object to read: the version id of S3 and Azure, the generation of Google.
    /// `None` reads the current version.
    pub version_id: Option<&'reference str>,
    /// Size of the object in bytes, if the sender knows it. An object above the limit is refused
    /// without a request.
    pub declared_bytes: Option<u64>,
    /// True to refuse an object whose media type `storage.keys.content_types` leaves out.
    pub judge_content_type: bool,
}

impl<'reference> FetchRequest<'reference> {
    /// Requests the current version of the object.
    pub fn new(uri: &'reference str) -> Self {
        Self {
            uri,
            etag: None,
            sha256: None,
            version_id: None,
            declared_bytes: None,
            judge_content_type: false,
        }
    }
}

/// An image file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedImage {
    /// The unchanged bytes of the object.
    pub bytes: Bytes,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Entity tag as the store writes it; files have none.
    pub etag: Option<String>,
    /// Media type according to the store; the bytes may be of another one.
    pub content_type: Option<String>,
    /// Number of attempts, at least 1.
    pub attempts: u32,
}

/// The properties that the reference requires of the object.
struct Expectation<'reference> {
    version_id: Option<&'reference str>,
    etag: Option<Etag>,
    sha256: Option<[u8; 32]>,
    judge_content_type: bool,
}

impl Stores {
    /// Returns the largest size of an image in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.limits.bytes_max.as_u64()
    }

    /// Reads an image into memory.
    ///
    /// Retries transient faults within the attempts and the time of the settings, then returns the
    /// last fault. Returns a throttled request at once, so that the caller waits for
    /// [`Stores::turn`] without holding what other stores need.
    ///
    /// Cancel safe: the future may be dropped at any point. A file that is being read is then still
    /// read to its end, on another thread.
    ///
    /// # Errors
    /// Fails if the URI is malformed or its location not allowed, or if the store has no such
    /// object or denies access. Fails if the object is too large or too slow, or if its etag,
    /// SHA-256 or media type is another one.
    pub async fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchedImage, FetchError> {
        let failed = |fault, attempts| FetchError::new(redact::uri(request.uri), fault, attempts);
        let location = self.locate(request.uri).map_err(|fault| failed(fault.into(), 0))?;
        let expected = Expectation::parse(request, &location).map_err(|fault| failed(fault, 0))?;
        if let Some(size) = request.declared_bytes.filter(|size| *size > self.bytes_max()) {
            return Err(failed(FetchFault::too_large(size, self.limits.bytes_max), 0));
        }
        let traffic = self.traffic_of(&location);
        let deadline = Instant::now() + self.limits.time.fetch;
        let mut attempt = 1;
        loop {
            let start = std::time::Instant::now();
            let outcome = timeout_at(deadline, self.attempt(&location, &expected))
                .await
                .unwrap_or(Err(FetchFault::Timeout(Overrun::Fetch(self.limits.time.fetch))));
            if let Some(traffic) = &traffic {
                traffic.record(start, outcome.as_ref().err());
            }
            let fault = match outcome {
                Ok(image) => return Ok(FetchedImage { attempts: attempt, ..image }),
                Err(fault) => fault,
            };
            let may_retry = fault.is_transient() && attempt < self.limits.attempts_max;
            let next_start = Instant::now()
                .checked_add(self.limits.backoff.delay(attempt))
                .filter(|&start| may_retry && start < deadline);
            let Some(next_start) = next_start else {
                let fault = explained(fault, &location, expected.version_id.is_some());
                let last_read = traffic.and_then(|traffic| traffic.last_read());
                return Err(failed(fault, attempt).with_last_read(last_read));
            };
            metrics::fetch_retried(fault.code());
            tracing::debug!(uri = redact::uri(request.uri), attempt, %fault, "retrying the fetch");
            sleep_until(next_start).await;
            attempt += 1;
        }
    }

    /// Returns the delay before a request is sent again that was throttled `failures` times. A
    /// store with a rate limit needs none: [`Stores::turn`] waits long enough.
    pub fn throttled_delay(
        &self,
        uri: &str,
        failures: u32,
        retry_after: Option<Duration>,
    ) -> Duration {
        let traffic = self.locate(uri).ok().and_then(|location| self.traffic_of(&location));
        let backoff = match traffic {
            Some(traffic) if traffic.is_limited() => Duration::ZERO,
            _ => self.limits.backoff.delay(failures),
        };
        backoff.max(retry_after.unwrap_or_default())
    }

    async fn attempt(
        &self,
        location: &Location,
        expected: &Expectation<'_>,
    ) -> Result<FetchedImage, FetchFault> {
        let etag = expected.etag.as_ref();
        let Content { bytes, etag, media_type } = match location {
            Location::Object { scheme, bucket, key } => {
                let rules = expected.judge_content_type.then_some(&*self.key_rules);
                let version_id = expected.version_id;
                let read = ObjectRead { key, etag, version_id, content_types: rules };
                self.bucket(*scheme, bucket)?.read(read, &self.limits).await?
            }
            Location::Web(url) => self.web.read(url, etag, &self.limits).await?,
            Location::File(path) => {
                body::check_etag(etag, None)?;
                let (roots, path) = (self.roots.clone(), path.clone());
                let limit = self.limits.bytes_max;
                let bytes = spawn_blocking(move || file::read(&roots, &path, limit))
                    .await
                    .unwrap_or_else(|_| Err(FetchFault::Unavailable("reader lost".to_owned())))?;
                Content { bytes, etag: None, media_type: None }
            }
        };
        let interrupted = |_| FetchFault::Unavailable("hashing was interrupted".to_owned());
        let image = FetchedImage::hashed(bytes).await.map_err(interrupted)?;
        if let Some(expected) = expected.sha256.filter(|expected| *expected != image.sha256) {
            let (expected, actual) = (hex::encode(expected), hex::encode(image.sha256));
            let why = format!("expected {expected}, got {actual}");
            return Err(FetchFault::Sha256Mismatch(why));
        }
        Ok(FetchedImage { etag, content_type: media_type, ..image })
    }
}

impl FetchedImage {
    /// Computes the digest of bytes that no store described. Hashes a large image on a thread that
    /// may block.
    ///
    /// # Errors
    /// Fails if the runtime stops.
    pub(crate) async fn hashed(bytes: Bytes) -> Result<Self, JoinError> {
        let hashed = bytes.clone();
        let hash = move || Sha256::digest(&hashed).into();
        let sha256 = if bytes.len() <= HASHED_INLINE_BYTES_MAX {
            hash()
        } else {
            spawn_blocking(hash).await?
        };
        Ok(Self { bytes, sha256, etag: None, content_type: None, attempts: 1 })
    }
}

impl<'reference> Expectation<'reference> {
    fn parse(request: &FetchRequest<'reference>, location: &Location) -> Result<Self, FetchFault> {
        if request.version_id.is_some() && !matches!(location, Location::Object { .. }) {
            let why = "it has no versions; leave version_id out, or use s3, gs or az";
            return Err(UriFault::Invalid(why).into());
        }
        let etag = request.etag.map(|text| {
            Etag::parse(text).ok_or_else(|| {
                FetchFault::EtagMismatch("the reference's etag is malformed".to_owned())
            })
        });
        let sha256 = request.sha256.map(|text| {
            let mut sha256 = [0; 32];
            hex::decode_to_slice(text, &mut sha256).map(|()| sha256).map_err(|_| {
                FetchFault::Sha256Mismatch("the reference's sha256 is not 64 hex digits".to_owned())
            })
        });
        Ok(Self {
            version_id: request.version_id,
            etag: etag.transpose()?,
            sha256: sha256.transpose()?,
            judge_content_type: request.judge_content_type,
        })
    }
}

/// Explains a missing object whose key looks as if it had a query, because keys are literal, and a
/// request that the store does not understand because of its version.
fn explained(fault: FetchFault, location: &Location, has_version: bool) -> FetchFault {
    let has_query = |key: &str| QUERY_MARKS.iter().any(|mark| key.contains(mark));
    match (fault, location) {
        (FetchFault::UnexpectedAnswer(answer), _) if has_version => FetchFault::UnexpectedAnswer(
            format!("{answer}; if the store names an argument, correct version_id"),
        ),
        (FetchFault::NotFound(answer), Location::Object { key, .. }) if has_query(key.as_str()) => {
            FetchFault::NotFound(format!(
                "{answer}; `?versionId=` in the URI is part of the key: put the version into the \
                 field version_id of the reference"
            ))
        }
        (fault, _) => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_and_large_images_have_the_digest_of_their_bytes() {
        for len in [0, HASHED_INLINE_BYTES_MAX, HASHED_INLINE_BYTES_MAX + 1] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            let image = FetchedImage::hashed(bytes.clone().into()).await.unwrap();
            assert_eq!(image.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)), "{len}");
            assert_eq!(image.bytes, bytes);
        }
    }
}
