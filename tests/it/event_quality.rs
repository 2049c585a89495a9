//! Quality events: their fields, ids and headers, and reading them again.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dog_iqa::event::cloudevent_headers::headers_for;
use dog_iqa::event::{
    EngineProvenance, EventImage, EventMeasure, EventParts, ImageReference, QualityEvent,
    ScorerSettings, Source, TimingsMs, TraceContext,
};
use dog_iqa::method::{
    AggregationSettings, Assessment, Formula, GeneratedAnswer, LevelDistribution, Mask, MaskBonus,
    ObjectAssessment, PolicyOutcome, PolicyVerdict, RawMask, RegionKind, RegionSettings, Rle,
    Segmentation, Standard, StandardForm, assess, select_regions,
};
use dog_iqa::metrics::{Metric, Undefined};
use proptest::prelude::*;
use serde_json::Value;

/// An assessed picture, from which [`EventParts`] borrow.
struct Assessed {
    reference: ImageReference,
    assessment: Assessment,
    segmentation: Segmentation,
    standard: Standard,
    aggregation: AggregationSettings,
}

fn rating(logits: &[f64]) -> LevelDistribution {
    LevelDistribution::from_logits(logits).expect("the logits are finite")
}

/// Returns an assessment of a picture of 40 × 20 pixels whose left half is an object.
fn assessed() -> Assessed {
    let rle = Rle::from_row_major(40, 20, |x, _| x < 20).expect("the frame has pixels");
    let mask = Mask::new(rle).expect("half of the pixels are set");
    let raw = RawMask { mask, predicted_iou: Some(0.9), stability_score: None };
    let segmentation = select_regions(40, 20, vec![raw], &RegionSettings::default())
        .expect("the mask is of this picture");
    let objects = segmentation.regions.iter().enumerate().map(|(index, region)| {
        let logits = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6 + index as f64, 0.0];
        ObjectAssessment { region: region.clone(), rating: rating(&logits) }
    });
    let global = rating(&[0.0, 0.3, 1.0, 0.1, 0.0, 0.0, 0.7]);
    let aggregation = AggregationSettings::default();
    Assessed {
        assessment: assess(global, objects.collect(), &aggregation),
        aggregation,
        segmentation,
        standard: Standard::builtin(7, StandardForm::Word).expect("seven levels are built in"),
        reference: ImageReference::new("s3://photos/a.jpg"),
    }
}

fn parts(assessed: &Assessed, source: Option<Source>) -> EventParts<'_> {
    EventParts {
        reference: &assessed.reference,
        assessment: &assessed.assessment,
        segmentation: &assessed.segmentation,
        measures: Vec::new(),
        reasons: None,
        standard: &assessed.standard,
        image: EventImage {
            width: 40,
            height: 20,
            format: "png".to_owned(),
            bytes: 1234,
            sha256: "ab".repeat(32),
            etag: None,
            phash: None,
        },
        engine: EngineProvenance {
            preset: None,
            formula: Some(Formula::Paper),
            name: "classic".to_owned(),
            version: "1".to_owned(),
            segmenter: "s".to_owned(),
            scorer: "r".to_owned(),
            scorers: Vec::new(),
            scorer_settings: ScorerSettings::default(),
            standard: assessed.standard.name(),
            objects: None,
            settings: "5f0c19aa".to_owned(),
            changed_settings: BTreeMap::new(),
            weights: Vec::new(),
            servers: Vec::new(),
        },
        verdict: None,
        timings: TimingsMs::default(),
        source,
        time: time(0),
        include_masks: true,
        aggregation: &assessed.aggregation,
        score_mos: None,
    }
}

fn time(after_ms: i64) -> DateTime<Utc> {
    let time = DateTime::from_timestamp_millis(1_790_000_000_042 + after_ms);
    time.expect("the time is in this century") + Duration::from_nanos(999)
}

fn record(offset: i64) -> Source {
    Source { topic: "t".to_owned(), partition: 3, offset, timestamp: Some(7), index: None }
}

#[test]
fn an_event_has_the_fields_of_the_assessment() {
    let assessed = assessed();
    let event = QualityEvent::new(parts(&assessed, Some(record(5))));
    assert_eq!(event.schema_version, 1);
    assert!((event.score - assessed.assessment.score).abs() < 1e-15);
    assert_eq!((event.global.level, event.global.word.as_str()), (3, "Bad"));
    assert_eq!(event.segmentation.mask_count, 2);
    assert!((event.segmentation.score - 14.0 / 71.0).abs() < 1e-12);

    let [object, remainder] = event.objects.as_slice() else { panic!("{:?}", event.objects) };
    assert_eq!((object.index, remainder.index), (0, 1));
    assert_eq!(object.bbox, [0, 0, 20, 20].into());
    assert_eq!((object.area, object.predicted_iou), (400, Some(0.9)));
    assert!((object.area_fraction - 0.5).abs() < 1e-15);
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["objects"][1]["kind"], "remainder");
    assert_eq!(json["objects"][1].get("predicted_iou"), None, "unknown values are omitted");
    assert_eq!(json["objects"][0]["mask"]["size"], serde_json::json!([20, 40]));
}

#[test]
fn an_event_names_the_answer_the_weights_and_the_settings_of_the_authors_program() {
    let mut assessed = assessed();
    let region = &mut assessed.assessment.objects[1].region;
    (region.kind, region.weight_px) = (RegionKind::Remainder, 123);
    assessed.aggregation.mask_bonus = MaskBonus::Each(0.1);
    let answered = |text: &str| {
        rating(&[0.0; 7])
            .with_off_level(0.75)
            .unwrap()
            .with_answer(GeneratedAnswer::new(text.to_owned()))
    };
    assessed.assessment.global = answered("9");
    assessed.assessment.objects[0].rating = answered("");
    let mut parts = parts(&assessed, None);
    let setting = ("method.regions.remainder".to_owned(), serde_json::json!("arithmetic"));
    parts.engine.changed_settings = BTreeMap::from([setting]);
    let json = serde_json::to_value(QualityEvent::new(parts)).unwrap();
    let global = &json["global"];
    assert_eq!((&global["level"], &global["confidence"]), (&9.into(), &0.0.into()));
    assert_eq!(global["word"], "Perfect", "the nearest level's word");
    assert_eq!(global["answer"], serde_json::json!({"text": "9", "kind": "number"}));
    assert_eq!(global["off_level"], 0.75);
    let objects = &json["objects"];
    assert_eq!(objects[0]["rating"]["answer"]["kind"], "empty");
    assert_eq!((&objects[0]["weight_px"], &objects[1]["weight_px"]), (&Value::Null, &123.into()));
    assert_eq!(json["segmentation"]["mask_bonus"], 0.1);
    assert_eq!(json["engine"]["changed_settings"]["method.regions.remainder"], "arithmetic");
    let again: QualityEvent = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), json);
}

#[test]
fn an_event_has_the_verdict_with_its_reasons() {
    let assessed = assessed();
    let reasons = vec!["the score is low".to_owned()];
    let verdict =
        PolicyVerdict { policy: "shop".to_owned(), outcome: PolicyOutcome::Review, reasons };
    let event = QualityEvent::new(EventParts { verdict: Some(verdict), ..parts(&assessed, None) });
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["verdict"]["outcome"], "review");
    assert_eq!(json["verdict"]["reasons"][0], "the score is low");
}

#[test]
fn a_measure_has_a_value_or_a_reason_and_never_changes_the_id() {
    let assessed = assessed();
    let small = Undefined::TooSmall { width: 40, height: 20, side_min: 96 };
    let measures = vec![
        EventMeasure::new(Metric::Piqe, Ok(27.5), "1".to_owned()),
        EventMeasure::new(Metric::Niqe, Err(small), "1/fa2aa4d1".to_owned()),
    ];
    let event = QualityEvent::new(EventParts { measures, ..parts(&assessed, None) });
    assert_eq!(event.event_id, QualityEvent::new(parts(&assessed, None)).event_id);
    let json = serde_json::to_value(&event).unwrap();
    let expected = serde_json::json!([
        {"name": "piqe", "value": 27.5, "better": "lower", "version": "1"},
        {
            "name": "niqe",
            "reason": "the image has 40×20 px, the metric needs 96×96",
            "better": "lower",
            "version": "1/fa2aa4d1",
        },
    ]);
    assert_eq!(json["measures"], expected);
    assert_eq!(serde_json::from_value::<QualityEvent>(json).unwrap(), event);
    let without = serde_json::to_value(QualityEvent::new(parts(&assessed, None))).unwrap();
    assert_eq!(without.get("measures"), None);
    assert_eq!(without["timings_ms"].get("measure"), None);
}

/// The ids were computed with Python's `uuid.uuid5`. They must never change.
#[test]
fn the_id_depends_only_on_the_record() {
    let assessed = assessed();
    let id = |parts| QualityEvent::new(parts).event_id;
    let first = id(parts(&assessed, Some(record(5))));
    assert_eq!(first, "8b0a0c0f-497a-536c-9cdf-6750feb3dffc");
    assert_eq!(id(parts(&assessed, None)), "575b7a4b-5db4-5d57-8f3a-e80c4e878426");

    let later = EventParts {
        time: time(9000),
        timings: TimingsMs { total: 5.0, ..TimingsMs::default() },
        include_masks: false,
        ..parts(&assessed, Some(Source { timestamp: None, ..record(5) }))
    };
    assert_eq!(id(later), first);
    assert_ne!(id(parts(&assessed, Some(record(6)))), first);
    let other_partition = Source { partition: 4, ..record(5) };
    assert_ne!(id(parts(&assessed, Some(other_partition))), first);
    let of_several = |index| Some(Source { index: Some(index), ..record(5) });
    let [zeroth, next] = [0, 1].map(|index| id(parts(&assessed, of_several(index))));
    assert!(zeroth != first && next != first && zeroth != next);
    assert_eq!(id(parts(&assessed, of_several(0))), zeroth);
}

#[test]
fn without_a_record_the_id_depends_on_the_image_and_the_engine() {
    let assessed = assessed();
    let first = QualityEvent::new(parts(&assessed, None)).event_id;
    let mut other = parts(&assessed, None);
    other.image.sha256 = "cd".repeat(32);
    assert_ne!(QualityEvent::new(other).event_id, first);
    let mut other = parts(&assessed, None);
    other.engine.version = "2".to_owned();
    assert_ne!(QualityEvent::new(other).event_id, first);
    let mut other = parts(&assessed, None);
    other.engine.settings = "5f0c19ab".to_owned();
    assert_ne!(QualityEvent::new(other).event_id, first);
}

#[test]
fn the_headers_are_those_of_a_cloudevent_with_the_trace_of_the_reference() {
    let assessed = assessed();
    let event = QualityEvent::new(parts(&assessed, Some(record(5))));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::parse(parent, Some("a=b")).unwrap().child([1; 8]);
    let headers = headers_for(&event, Some(&trace));
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", &event.event_id),
        ("ce_source", "/dogiqa/classic"),
        ("ce_type", "dogiqa.image.quality.v1"),
        ("ce_time", "2026-09-21T14:13:20.042Z"),
        ("content-type", "application/json"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0101010101010101-01"),
        ("tracestate", "a=b"),
    ];
    let expected: Vec<(String, String)> =
        expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(headers, expected);
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["event_time"], "2026-09-21T14:13:20.042Z", "as in ce_time");
}

#[test]
fn masks_can_be_removed_from_an_event() {
    let assessed = assessed();
    let mut event = QualityEvent::new(parts(&assessed, None));
    let with_masks = serde_json::to_string(&event).unwrap();
    event.remove_masks();
    assert_eq!(
        event,
        QualityEvent::new(EventParts { include_masks: false, ..parts(&assessed, None) })
    );
    let without = serde_json::to_string(&event).unwrap();
    assert!(with_masks.contains("\"mask\"") && !without.contains("\"mask\""));
}

#[test]
fn a_reader_ignores_unknown_fields() {
    let assessed = assessed();
    let event = QualityEvent::new(parts(&assessed, None));
    let mut json = serde_json::to_value(&event).unwrap();
    json["added_later"] = Value::Bool(true);
    json["global"]["added_later"] = Value::Bool(true);
    json["source"] = Value::Null;
    assert_eq!(serde_json::from_value::<QualityEvent>(json).unwrap(), event);
}

#[test]
fn timings_are_milliseconds_to_the_microsecond() {
    assert!((TimingsMs::of(Duration::from_nanos(1_234_567)) - 1.235).abs() < 1e-12);
}

proptest! {
    #[test]
    fn every_number_survives_json(
        global in prop::collection::vec(-9.0..9.0_f64, 7),
        time_ms in 0..1_000_000_i64,
    ) {
        let mut assessed = assessed();
        let objects = assessed.assessment.objects.clone();
        assessed.assessment = assess(rating(&global), objects, &AggregationSettings::default());
        let event = QualityEvent::new(EventParts { time: time(time_ms), ..parts(&assessed, None) });
        let json = serde_json::to_string(&event).unwrap();
        let back: QualityEvent = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(serde_json::to_string(&back).unwrap(), json);
        prop_assert_eq!(back, event);
    }
}
