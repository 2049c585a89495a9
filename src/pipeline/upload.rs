//! An image that arrives with its request, in memory that was reserved for it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::imaging::{self, Header};
use crate::pipeline::budget::BudgetShare;
use crate::pipeline::error::JourneyError;
use crate::storage::FetchedImage;

/// Memory for an image, reserved from the budget of fetched bytes. Dropping it returns the memory.
#[derive(Debug)]
pub struct UploadSpace {
    share: BudgetShare,
}

/// A received image with its share of the budget.
#[derive(Debug)]
pub struct Upload {
    fetched: Fetched,
    started: Instant,
    receiving: Duration,
}

/// The bytes of an image and their share of the budget.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) image: FetchedImage,
    #[expect(dead_code, reason = "its drop returns the bytes to the budget")]
    pub(crate) share: BudgetShare,
}

/// An image whose format and size are known and within the limits of decoding.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) fetched: Fetched,
    pub(crate) header: Header,
}

impl Fetched {
    /// Reads format and size.
    ///
    /// # Errors
    /// Fails on a broken header and on an image above the limits of decoding.
    pub(crate) fn probe(self, limits: &imaging::Settings) -> Result<Probed, JourneyError> {
        let header = imaging::probe(&self.image.bytes, limits)?;
        Ok(Probed { fetched: self, header })
    }
}

impl UploadSpace {
    pub(crate) fn new(share: BudgetShare) -> Self {
        Self { share }
    }

    /// Puts the bytes in this space, returns what they do not need, and computes their digest.
    /// Reading them began at `started`; the event shows the time as that of fetching.
    ///
    /// # Panics
    /// Panics if the runtime stops.
    pub async fn filled(mut self, bytes: Bytes, started: Instant) -> Upload {
        self.share.shrink_to(bytes.len() as u64);
        let image = FetchedImage::hashed(bytes).await.expect("hashing does not panic");
        let fetched = Fetched { image, share: self.share };
        Upload { fetched, started, receiving: started.elapsed() }
    }
}

impl Upload {
    /// Returns the time at which reading the image began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Returns the SHA-256 of the bytes.
    pub fn sha256(&self) -> [u8; 32] {
        self.fetched.image.sha256
    }

    /// Returns the image as if it had been fetched, with the time for reading it.
    pub(crate) fn into_fetched(self) -> (Fetched, Duration) {
        (self.fetched, self.receiving)
    }
}
