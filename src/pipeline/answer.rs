//! Everything that an event says about an image itself: what a cache may keep.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::event::{EventImage, EventMeasure};
use crate::imaging::{PerceptualHash, Picture};
use crate::method::{
    Attribute, FurtherRating, GeneratedAnswer, LevelDistribution, Mask, ObjectAssessment, RawScore,
    Reason, Region, RegionKind, Rle, Segmentation, Served, ServedBy,
};

/// Image, ratings and measures, without anything of the reference. Score, verdict and event are
/// computed from it again, by the settings of the moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The image; its `etag` belongs to the reference and is absent.
    pub(crate) image: EventImage,
    pub(crate) global: LevelDistribution,
    pub(crate) objects: Vec<ObjectAssessment>,
    pub(crate) segmentation: Segmentation,
    pub(crate) measures: Vec<EventMeasure>,
    /// `None` if they are off or could not be measured.
    pub(crate) reasons: Option<Vec<Reason>>,
}

/// Describes a picture, without the `etag` of its reference.
pub(crate) fn event_image(picture: &Picture, hash: Option<PerceptualHash>) -> EventImage {
    EventImage {
        width: picture.width(),
        height: picture.height(),
        format: picture.format().name().to_owned(),
        bytes: picture.bytes_len(),
        sha256: hex::encode(picture.sha256()),
        etag: None,
        phash: hash.map(|hash| hash.to_string()),
    }
}

/// The form of an answer in the cache, as JSON.
#[derive(Serialize, Deserialize)]
struct SavedAnswer {
    image: EventImage,
    global: SavedRating,
    objects: Vec<SavedObject>,
    coverage: f64,
    is_skipped: bool,
    measures: Vec<EventMeasure>,
    reasons: Option<Vec<Reason>>,
}

#[derive(Serialize, Deserialize)]
struct SavedObject {
    kind: RegionKind,
    mask: Rle,
    weight_px: u64,
    predicted_iou: Option<f32>,
    stability_score: Option<f32>,
    rating: SavedRating,
}

#[derive(Serialize, Deserialize)]
struct SavedRating {
    probabilities: Vec<f64>,
    off_level: Option<f64>,
    answer: Option<String>,
    direction: Option<f64>,
    raw: Option<(f64, String)>,
    served: Option<SavedServer>,
    further: Vec<(String, Self)>,
    attributes: Vec<(String, f64)>,
}

#[derive(Serialize, Deserialize)]
struct SavedServer {
    model: Option<String>,
    system_fingerprint: Option<String>,
    unreported: Option<f64>,
}

impl Answer {
    /// Returns the form for the cache.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let saved = SavedAnswer {
            image: self.image.clone(),
            global: SavedRating::of(&self.global),
            objects: self.objects.iter().map(SavedObject::of).collect(),
            coverage: self.segmentation.coverage,
            is_skipped: self.segmentation.is_skipped,
            measures: self.measures.clone(),
            reasons: self.reasons.clone(),
        };
        serde_json::to_vec(&saved).expect("an answer is plain data")
    }

    /// Reads an answer from the cache. Returns `None` if it is not one, or not equal to what was
    /// written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let saved: SavedAnswer = serde_json::from_slice(bytes).ok()?;
        let objects: Option<Vec<_>> = saved.objects.into_iter().map(SavedObject::restore).collect();
        let objects = objects?;
        let segmentation = Segmentation {
            width: saved.image.width,
            height: saved.image.height,
            regions: objects.iter().map(|object| object.region.clone()).collect(),
            coverage: saved.coverage,
            is_skipped: saved.is_skipped,
        };
        Some(Self {
            image: saved.image,
            global: saved.global.restore()?,
            objects,
            segmentation,
            measures: saved.measures,
            reasons: saved.reasons,
        })
    }
}

impl SavedObject {
    fn of(object: &ObjectAssessment) -> Self {
        let Region { kind, mask, weight_px, predicted_iou, stability_score } = &object.region;
        Self {
            kind: *kind,
            mask: mask.rle().clone(),
            weight_px: *weight_px,
            predicted_iou: *predicted_iou,
            stability_score: *stability_score,
            rating: SavedRating::of(&object.rating),
        }
    }

    fn restore(self) -> Option<ObjectAssessment> {
        let mask = if self.mask.area() == 0 {
            Mask::without_pixels(self.mask.width(), self.mask.height())
        } else {
            Mask::new(self.mask)
        };
        let region = Region {
            kind: self.kind,
            mask: mask.ok()?,
            weight_px: self.weight_px,
            predicted_iou: self.predicted_iou,
            stability_score: self.stability_score,
        };
        Some(ObjectAssessment { region, rating: self.rating.restore()? })
    }
}

impl SavedRating {
    fn of(rating: &LevelDistribution) -> Self {
        Self {
            probabilities: rating.probabilities().to_vec(),
            off_level: rating.off_level(),
            answer: rating.answer().map(|answer| answer.text().to_owned()),
            direction: rating.direction(),
            raw: rating.raw().map(|raw| (raw.value, raw.mapping.to_owned())),
            served: rating.served().map(|served| SavedServer {
                model: served.by.model.clone(),
                system_fingerprint: served.by.system_fingerprint.clone(),
                unreported: served.unreported,
            }),
            further: rating
                .further()
                .iter()
                .map(|further| (further.question.to_owned(), Self::of(&further.rating)))
                .collect(),
            attributes: rating
                .attributes()
                .iter()
                .map(|attribute| (attribute.name.to_owned(), attribute.probability))
                .collect(),
        }
    }

    fn restore(self) -> Option<LevelDistribution> {
        let mut rating = LevelDistribution::restored(self.probabilities).ok()?;
        if let Some(off_level) = self.off_level {
            rating = rating.with_off_level(off_level).ok()?;
        }
        if let Some(text) = self.answer {
            rating = rating.with_answer(GeneratedAnswer::new(text));
        }
        if let Some(direction) = self.direction {
            rating = rating.with_direction(direction).ok()?;
        }
        if let Some((value, mapping)) = self.raw {
            rating = rating.with_raw(RawScore { value, mapping: known_name(&mapping)? });
        }
        if let Some(SavedServer { model, system_fingerprint, unreported }) = self.served {
            let by = Arc::new(ServedBy { model, system_fingerprint });
            rating = rating.with_served(Served { by, unreported }).ok()?;
        }
        let further = self.further.into_iter().map(|(question, rating)| {
            Some(FurtherRating { question: known_name(&question)?, rating: rating.restore()? })
        });
        let attributes = self
            .attributes
            .into_iter()
            .map(|(name, probability)| Some(Attribute { name: known_name(&name)?, probability }));
        Some(
            rating
                .with_further(further.collect::<Option<_>>()?)
                .with_attributes(attributes.collect::<Option<_>>()?),
        )
    }
}

/// Maximum number of names of mappings, questions and attributes in a process. An engine has few.
const NAMES_MAX: usize = 64;

/// Returns a name with the lifetime that ratings need. Each name is kept once.
fn known_name(name: &str) -> Option<&'static str> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() == NAMES_MAX {
        return None;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    Some(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::method::{ReasonCode, Scope};
    use crate::metrics::{Metric, Undefined};

    fn image(width: u32, height: u32) -> EventImage {
        EventImage {
            width,
            height,
            format: "png".to_owned(),
            bytes: 123,
            sha256: "ab".repeat(32),
            etag: None,
            phash: Some("0123456789abcdef".to_owned()),
        }
    }

    fn object(mask: Mask, rating: LevelDistribution) -> ObjectAssessment {
        let region = Region {
            predicted_iou: Some(0.1),
            stability_score: None,
            weight_px: 77,
            ..Region::new(RegionKind::Remainder, mask)
        };
        ObjectAssessment { region, rating }
    }

    #[test]
    fn everything_that_a_scorer_may_add_is_restored() {
        let plain = LevelDistribution::new(vec![0.25, 0.75]).unwrap();
        let by = ServedBy { model: Some("m".to_owned()), system_fingerprint: None };
        let served = Served { by: Arc::new(by), unreported: Some(0.125) };
        let full = LevelDistribution::from_logits(&[0.1, 0.7, -3.0])
            .unwrap()
            .with_off_level(0.3)
            .unwrap()
            .with_answer(GeneratedAnswer::new(" 85".to_owned()))
            .with_direction(-1.7)
            .unwrap()
            .with_raw(RawScore { value: 0.3, mapping: "five-words-linear" })
            .with_served(served)
            .unwrap()
            .with_further(vec![FurtherRating { question: "aesthetics", rating: plain.clone() }])
            .with_attributes(vec![Attribute { name: "bright", probability: 0.1 + 0.2 }]);
        let some = Mask::new(Rle::from_counts(4, 5, vec![3, 7, 10]).unwrap()).unwrap();
        let none = Mask::without_pixels(5, 4).unwrap();
        let objects = vec![object(some, full.clone()), object(none, plain.clone())];
        let regions = objects.iter().map(|object| object.region.clone()).collect();
        let flat = Err(Undefined::EmptySide);
        let answer = Answer {
            image: image(5, 4),
            global: full,
            objects,
            segmentation: Segmentation {
                width: 5,
                height: 4,
                regions,
                coverage: 0.1 + 0.2,
                is_skipped: false,
            },
            measures: vec![
                EventMeasure::new(Metric::Piqe, Ok(0.1 + 0.7), "1".to_owned()),
                EventMeasure::new(Metric::Niqe, flat, "1/ab".to_owned()),
            ],
            reasons: Some(vec![
                Reason { code: ReasonCode::Noisy, strength: 0.1 + 0.2, scope: Scope::IMAGE },
                Reason { code: ReasonCode::TooDark, strength: 1.0, scope: Scope::Region(1) },
            ]),
        };
        assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer.clone()));
        let skipped = Answer {
            objects: Vec::new(),
            segmentation: Segmentation::skipped(5, 4),
            global: plain,
            ..answer
        };
        assert_eq!(Answer::from_bytes(&skipped.to_bytes()), Some(skipped));
        assert_eq!(Answer::from_bytes(b"{}"), None);
        assert_eq!(Answer::from_bytes(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn probabilities_are_restored_bit_for_bit(
            logits in prop::collection::vec(-30.0_f64..30.0, 2..=9),
        ) {
            let rating = LevelDistribution::from_logits(&logits).unwrap();
            let json = serde_json::to_vec(&SavedRating::of(&rating)).unwrap();
            let saved: SavedRating = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(saved.restore(), Some(rating));
        }
    }
}
