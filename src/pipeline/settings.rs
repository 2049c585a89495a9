//! Settings of the pipeline: limits on memory, concurrency and time.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::imaging::{CropMargin, CropMode};
use crate::method::{self, SettingsError, Standard};
use crate::metrics::Metric;
use crate::pipeline::duplicates::DuplicateSettings;
use crate::reasons::ReasonTexts;

/// Settings of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Maximum fetched bytes of all images in flight. An image reserves `storage.bytes_max` until
    /// its size is known, so at least `bytes_budget / storage.bytes_max` images are fetched
    /// concurrently.
    pub bytes_budget: ByteSize,
    /// Maximum pixels of all images from decoding until the event is built. Each pixel uses up to
    /// 16 bytes, while it is decoded or together with the crops that are rated, and `measures` add
    /// up to 14. Pixels of a TIFF file count three times while they are decoded.
    pub pixels_budget: u64,
    /// Shape of the region that the scorer rates: `bounding-box` (the paper's choice) or `mask`.
    pub crop: CropMode,
    /// Surroundings that a crop shows, in shares of the bounding box's sides, from 0 to 4: 0.25
    /// extends the box by a quarter of its width to the left and to the right, and by a quarter of
    /// its height upwards and downwards. The paper has none. A model that sees no surroundings may
    /// take a smooth object for a blurred one. With `crop = "mask"` the margin is black.
    pub crop_margin: CropMargin,
    /// Adds the mask of each object to the event, as COCO RLE. Costs a few kB per event.
    pub masks_in_events: bool,
    /// Adds a 64-bit perceptual hash (dHash) of the picture to the event, as `image.phash`.
    /// Takes about 1 ms per megapixel.
    pub phash: bool,
    /// Finds images that look like an earlier one of the same tenant: `duplicate_of` in the event.
    pub duplicates: DuplicateSettings,
    /// Adds hand-crafted metrics of the whole image to the event: `niqe`, `brisque`, `biqi`,
    /// `bliinds2`, `piqe`. They do not affect the score, and use one more CPU thread for each
    /// image. All but `piqe` need parameters, which `dogiqa models pull` fetches.
    pub measures: Vec<Metric>,
    /// Folder of the metrics' parameters, with a folder for each metric. Default: the cache of
    /// `dogiqa models pull`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_parameters: Option<PathBuf>,
    /// Says in every event, in words, why the image is bad: a list of distortions of the image and
    /// of its objects, such as `blurred` or `too_dark`, with a strength from 0 to 1. Costs about
    /// 12 ms of a CPU per megapixel, up to 2 megapixels, at the same time as the engine. Off,
    /// events have no `reasons`, and policies cannot name any.
    pub reasons: bool,
    /// The sentence of each reason in events, for the person who uploaded the image. Replace some
    /// or all of them, for example with those of another language; up to 500 bytes each.
    pub reason_texts: ReasonTexts,
    /// Limits of reading from object storage. The time limits of `storage` apply as well.
    pub fetch: StageLimits,
    /// Limits of decoding.
    pub decode: StageLimits,
    /// Limits of segmentation. The timeout applies to the batch that contains the image; time in
    /// the queue does not count. If the device starts no batch for twice the timeout, it is
    /// considered lost and the worker exits.
    pub segment: StageLimits,
    /// Limits of scoring. The timeout applies to the batch that contains a crop, as in `segment`.
    pub score: StageLimits,
    /// Limits of computing the `measures` of an image, and of its `reasons`. On a busy machine the
    /// engine and the metrics share the CPUs. Reasons that take longer are left out of the event.
    pub measure: StageLimits,
}

/// Limits of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageLimits {
    /// Maximum number of images in the stage. Others wait in front of it, without a time limit.
    pub images: NonZeroUsize,
    /// Maximum time of an image in the stage. After that it becomes a dead letter with the code
    /// `<stage>.timeout`.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Settings {
    /// Builds the standard, and checks the settings of the method alone and with these.
    ///
    /// # Errors
    /// Fails if they are contradictory, or if a policy names reasons that are not measured.
    pub fn check_method(&self, method: &method::Settings) -> Result<Standard, SettingsError> {
        let standard = method.check()?;
        if !self.reasons {
            method.policies.check_without_reasons()?;
        }
        Ok(standard)
    }

    /// Returns true if pictures are hashed, for events or to find duplicates.
    pub(crate) fn hashes_pictures(&self) -> bool {
        self.phash || self.duplicates.last > 0
    }
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
            crop_margin: CropMargin::default(),
            masks_in_events: false,
            phash: false,
            duplicates: DuplicateSettings::default(),
            measures: Vec::new(),
            measure_parameters: None,
            reasons: true,
            reason_texts: ReasonTexts::default(),
            fetch: limits(64, 120),
            decode: limits(8, 60),
            segment: limits(16, 900),
            score: limits(16, 900),
            measure: limits(8, 900),
        }
    }
}
