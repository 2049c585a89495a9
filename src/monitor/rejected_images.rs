//! The latest images that a policy rejected, for the gallery of the page.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::monitor::answer_record::{EventRecord, ReasonRecord, VerdictRecord};
use crate::monitor::counts::SeriesKey;
use crate::monitor::limits::{REGIONS_BYTES_MAX, REJECTED_KEPT, TEXT_BYTES_MAX, URI_BYTES_MAX};
use crate::monitor::short_text::short;
use crate::redact::uri;

/// A rejected image.
#[derive(Debug, Clone)]
pub(crate) struct RejectedImage {
    pub(crate) card: RejectedCard,
    pub(crate) series: SeriesKey,
    /// Location of the image, as in the event. Empty if it is too long.
    pub(crate) uri: String,
    /// SHA-256 of the image that was rejected, in hexadecimal.
    pub(crate) sha256: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// The regions in JSON. `None` if there are none, or their masks are too large.
    pub(crate) regions: Option<String>,
}

/// A rejected image as the page shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RejectedCard {
    /// Number of the image since the monitor started.
    pub(crate) number: u64,
    /// Time of the record in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// The sender's id.
    pub(crate) id: String,
    /// Location without credentials.
    pub(crate) uri: String,
    pub(crate) score: f64,
    pub(crate) policy: String,
    /// Sentences of the policy.
    pub(crate) sentences: Vec<String>,
    pub(crate) reasons: Vec<RejectedReason>,
    pub(crate) has_regions: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct RejectedReason {
    pub(crate) code: String,
    pub(crate) text: String,
}

/// The rejection of an event.
#[derive(Debug)]
pub(crate) struct Rejection<'a> {
    pub(crate) verdict: &'a VerdictRecord<'a>,
    pub(crate) reasons: &'a [ReasonRecord<'a>],
    pub(crate) series: SeriesKey,
    pub(crate) at_ms: i64,
}

/// The latest rejected images, oldest first.
#[derive(Debug)]
pub(crate) struct RejectedImages {
    images: VecDeque<RejectedImage>,
    next: u64,
}

impl RejectedImages {
    pub(crate) fn new() -> Self {
        Self { images: VecDeque::with_capacity(REJECTED_KEPT), next: 1 }
    }

    pub(crate) fn add(&mut self, event: &EventRecord<'_>, rejection: &Rejection<'_>) {
        let Rejection { verdict, reasons, series, at_ms } = *rejection;
        if self.images.len() == REJECTED_KEPT {
            self.images.pop_front();
        }
        let (reference, image) = (&event.reference, &event.image);
        let regions = event.objects.map(RawValue::get);
        let regions = regions.filter(|json| json.len() <= REGIONS_BYTES_MAX && *json != "[]");
        let is_kept = reference.uri.len() <= URI_BYTES_MAX;
        let shown = |text: &str| short(text, TEXT_BYTES_MAX);
        let card = RejectedCard {
            number: self.next,
            at_ms,
            id: shown(&reference.id),
            uri: shown(&uri(&reference.uri)),
            score: event.score,
            policy: shown(&verdict.policy),
            sentences: verdict.sentences().iter().map(|text| shown(text)).collect(),
            reasons: reasons
                .iter()
                .map(|reason| RejectedReason {
                    code: shown(&reason.code),
                    text: shown(&reason.text),
                })
                .collect(),
            has_regions: regions.is_some(),
        };
        self.images.push_back(RejectedImage {
            card,
            series,
            uri: if is_kept { reference.uri.clone().into_owned() } else { String::new() },
            sha256: short(&image.sha256, 64),
            width: image.width,
            height: image.height,
            regions: regions.map(str::to_owned),
        });
        self.next += 1;
    }

    pub(crate) fn find(&self, number: u64) -> Option<&RejectedImage> {
        let oldest = self.images.front()?.card.number;
        self.images.get(usize::try_from(number.checked_sub(oldest)?).ok()?)
    }

    /// Returns the images, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &RejectedImage> {
        self.images.iter().rev()
    }
}
