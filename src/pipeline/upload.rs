//! An image that arrives with its request, in memory that was reserved for it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::pipeline::budget::BudgetShare;
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

impl AsRef<[u8]> for Fetched {
    fn as_ref(&self) -> &[u8] {
        &self.image.bytes
    }
}

impl UploadSpace {
    pub(crate) fn new(share: BudgetShare) -> Self {
        Self { share }
    }

    /// Puts the bytes in this space and returns what they do not need. Reading them began at
    /// `started`; the event shows the time as that of fetching.
    pub fn filled(mut self, bytes: Bytes, started: Instant) -> Upload {
        self.share.shrink_to(bytes.len() as u64);
        let image = FetchedImage { bytes, etag: None, content_type: None, attempts: 1 };
        let fetched = Fetched { image, share: self.share };
        Upload { fetched, started, receiving: started.elapsed() }
    }
}

impl Upload {
    /// Returns the time at which reading the image began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Returns the image as if it had been fetched, with the time for reading it.
    pub(crate) fn into_fetched(self) -> (Fetched, Duration) {
        (self.fetched, self.receiving)
    }
}
