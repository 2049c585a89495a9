//! How much of everything may be on the road at once, and for how long.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::imaging::CropMode;

/// Settings of the journey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Fetched bytes of all images in flight. An image reserves `storage.bytes_max` until its size
    /// is known, so `bytes_budget / storage.bytes_max` images are fetched at once at the least.
    pub bytes_budget: ByteSize,
    /// Pixels of all images from decoding to the event. Each takes up to 16 bytes while it is decoded, and with the
    /// crops that are rated; those of a TIFF file count three times while they are decoded.
    pub pixels_budget: u64,
    /// What of a region the scorer sees: `bounding-box` (the paper's choice) or `mask`.
    pub crop: CropMode,
    /// Whether events carry the mask of each object as COCO RLE. Costs a few kB per event.
    pub masks_in_events: bool,
    /// Limits of reading from object storage. Its time is bounded by `storage`.
    pub fetch: StageLimits,
    /// Limits of decoding.
    pub decode: StageLimits,
    /// Limits of segmentation. Its time is what the device may take for the batch that an image is in; waiting for
    /// the device does not count. A device that takes nothing for twice as long is given up, and the worker ends.
    pub segment: StageLimits,
    /// Limits of scoring. Its time is what the device may take for the batch that a crop is in, as in `segment`.
    pub score: StageLimits,
}

/// Limits of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageLimits {
    /// Images inside the stage at once; the others wait before it, without a time limit.
    pub images: NonZeroUsize,
    /// Time an image may spend inside; then it ends as a dead letter `<stage>.timeout`.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = |images: usize, seconds| StageLimits {
            images: NonZeroUsize::MIN.saturating_add(images - 1),
            timeout: Duration::from_secs(seconds),
        };
        Self {
            bytes_budget: ByteSize::mib(512),
            pixels_budget: 100_000_000,
            crop: CropMode::BoundingBox,
            masks_in_events: false,
            fetch: limits(64, 120),
            decode: limits(8, 60),
            segment: limits(16, 900),
            score: limits(16, 900),
        }
    }
}
