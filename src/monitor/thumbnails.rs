//! Thumbnails of rejected images, fetched when a person looks at them.
//!
//! An image is read through the allow-list and the limits of `storage`, must have the SHA-256 of
//! its event, and is decoded within the limits of `imaging`. Few are fetched at a time, and all
//! images that are being decoded have at most `imaging.pixels_max` pixels.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::imaging::{self, DecodeError, ProbedFile, decode_probed, probe, shrink_pixels};
use crate::monitor::limits::{THUMBNAILS_KEPT, THUMBNAILS_WAITING_MAX};
use crate::monitor::rejected_images::RejectedImage;
use crate::monitor::settings::Settings;
use crate::storage::{FetchError, FetchRequest, FetchedImage, Stores};

const JPEG_QUALITY: u8 = 82;
/// Time for which a failure is repeated without another attempt.
const FAILURE_KEPT: Duration = Duration::from_secs(30);
/// Pixels of one permit of the budget.
const BUDGET_UNIT: u64 = 1024;

/// The reason why an image has no thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoThumbnail {
    /// Status code of HTTP.
    pub(crate) status: u16,
    /// Code of the error, such as `uri.forbidden_bucket`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Fetches thumbnails and keeps the latest.
#[derive(Debug)]
pub(crate) struct Thumbnails {
    stores: Stores,
    imaging: imaging::Settings,
    side_px: u32,
    waiting: Semaphore,
    running: Semaphore,
    pixels: Arc<Semaphore>,
    pixels_units: u32,
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    since: Instant,
    result: Result<Bytes, NoThumbnail>,
}

impl Thumbnails {
    pub(crate) fn new(settings: &Settings, stores: Stores, imaging: imaging::Settings) -> Self {
        let pixels_units = units(imaging.pixels_max);
        Self {
            stores,
            side_px: settings.thumbnail_side_px,
            waiting: Semaphore::new(THUMBNAILS_WAITING_MAX),
            running: Semaphore::new(settings.thumbnails_concurrent.get()),
            pixels: Arc::new(Semaphore::new(pixels_units as usize)),
            pixels_units,
            kept: Mutex::new(VecDeque::with_capacity(THUMBNAILS_KEPT)),
            imaging,
        }
    }

    /// Returns the thumbnail of an image as JPEG.
    ///
    /// Cancel safe: an abandoned fetch ends, an abandoned decode runs to its end on its thread.
    pub(crate) async fn get(&self, image: &RejectedImage) -> Result<Bytes, NoThumbnail> {
        let number = image.card.number;
        if let Some(result) = self.kept(number) {
            return result;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let message = "too many thumbnails are being fetched; reload later".to_owned();
            return Err(NoThumbnail { status: 503, code: "monitor.busy", message });
        };
        let _running = self.running.acquire().await.expect("the semaphore is never closed");
        // Another page may have asked for the same one.
        if let Some(result) = self.kept(number) {
            return result;
        }
        let result = self.make(image).await;
        self.keep(Kept { number, since: Instant::now(), result: result.clone() });
        result
    }

    async fn make(&self, image: &RejectedImage) -> Result<Bytes, NoThumbnail> {
        if image.uri.is_empty() {
            let message = "the URI of the event is too long".to_owned();
            return Err(NoThumbnail { status: 422, code: "uri.invalid", message });
        }
        let sha256 = (!image.sha256.is_empty()).then_some(image.sha256.as_str());
        let request = FetchRequest { sha256, ..FetchRequest::new(&image.uri) };
        let fetched = self.stores.fetch(&request).await.map_err(|error| not_fetched(&error))?;
        let FetchedImage { bytes, sha256, .. } = fetched;
        let header = probe(&bytes, &self.imaging).map_err(|error| not_decoded(&error))?;
        let share = units(header.decoding_cost()).min(self.pixels_units);
        let budget = Arc::clone(&self.pixels).acquire_many_owned(share).await;
        let (settings, side_px) = (self.imaging.clone(), self.side_px);
        let shrink = move || {
            let _budget = budget.expect("the semaphore is never closed");
            encode(ProbedFile { bytes: &bytes, header, sha256 }, &settings, side_px)
        };
        spawn_blocking(shrink).await.unwrap_or_else(|_| {
            let message = "the thumbnail was interrupted".to_owned();
            Err(NoThumbnail { status: 500, code: "monitor.interrupted", message })
        })
    }

    fn kept(&self, number: u64) -> Option<Result<Bytes, NoThumbnail>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|kept| kept.number == number)?;
        let is_valid = found.result.is_ok() || found.since.elapsed() < FAILURE_KEPT;
        is_valid.then(|| found.result.clone())
    }

    fn keep(&self, thumbnail: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.number != thumbnail.number);
        if kept.len() == THUMBNAILS_KEPT {
            kept.pop_front();
        }
        kept.push_back(thumbnail);
    }
}

fn units(pixels: u64) -> u32 {
    u32::try_from(pixels.div_ceil(BUDGET_UNIT).max(1)).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3)
}

fn encode(
    file: ProbedFile<'_>,
    settings: &imaging::Settings,
    side_px: u32,
) -> Result<Bytes, NoThumbnail> {
    let picture = decode_probed(file, settings).map_err(|error| not_decoded(&error))?;
    let shrunk = shrink_pixels(picture.pixels(), side_px);
    let mut jpeg = Cursor::new(Vec::new());
    let pixels = shrunk.as_ref().unwrap_or_else(|| picture.pixels());
    let encoded = JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode_image(pixels);
    encoded.map_err(|error| NoThumbnail {
        status: 500,
        code: "monitor.not_encoded",
        message: error.to_string(),
    })?;
    Ok(jpeg.into_inner().into())
}

fn not_fetched(error: &FetchError) -> NoThumbnail {
    let code = error.code();
    let status = match code {
        _ if code.starts_with("uri.") => 403,
        "fetch.not_found" => 404,
        "fetch.sha256_mismatch" => 409,
        _ => 502,
    };
    NoThumbnail { status, code, message: error.to_string() }
}

fn not_decoded(error: &DecodeError) -> NoThumbnail {
    NoThumbnail { status: 422, code: error.code(), message: error.to_string() }
}
