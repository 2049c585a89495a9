//! The pipeline with a store in memory and the no-op engine: its stages, limits and failures.

use std::io::Cursor;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use dog_iqa::checkpoints::metrics::load_all_parameters;
use dog_iqa::event::{ImageReference, QualityEvent};
use dog_iqa::imaging;
use dog_iqa::method::{self, PolicySettings};
use dog_iqa::metrics::Metric;
use dog_iqa::pipeline::{Journey, JourneyError, JourneyParts, Settings};
use dog_iqa::storage::{self, Scheme, Stores};
use dog_iqa::telemetry::Stage;
use image::{ImageFormat, Rgb, RgbImage};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::measures::golden_parameters;
use crate::noop::{self, Trouble};

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, Rgb([90, 120, 150]));
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Returns a journey with these objects in the bucket `photos`.
async fn journey(
    objects: &[(&str, Vec<u8>)],
    troubles: &[(u32, Trouble)],
    change: impl FnOnce(&mut Settings, &mut method::Settings),
) -> Journey {
    let store = Arc::new(InMemory::new());
    for (key, bytes) in objects {
        store.put(&Path::from(*key), bytes.clone().into()).await.unwrap();
    }
    let store: Arc<dyn ObjectStore> = store;
    let stores =
        Stores::new(&storage::Settings::default()).unwrap().with_store(Scheme::S3, "photos", store);
    let (mut settings, mut method) = (Settings::default(), method::Settings::default());
    change(&mut settings, &mut method);
    let imaging = imaging::Settings::default();
    let troubles = troubles.to_vec();
    let engine = tokio::task::spawn_blocking(move || noop::engine(&troubles)).await.unwrap();
    let measures = load_all_parameters(&settings.measures, Some(&golden_parameters())).unwrap();
    let measures = measures.into_iter().map(Arc::new).collect();
    Journey::new(JourneyParts { settings, imaging, method, stores, engine, measures }).unwrap()
}

async fn assess(journey: &Journey, key: &str) -> Result<QualityEvent, JourneyError> {
    journey.assess(ImageReference::new(format!("s3://photos/{key}")), None).await
}

#[tokio::test]
async fn a_reference_becomes_an_event() {
    let journey = journey(&[("a.png", png(40, 30))], &[], |_, _| {}).await;
    let event = assess(&journey, "a.png").await.unwrap();
    assert_eq!((event.image.width, event.image.height), (40, 30));
    assert_eq!(event.image.format, "png");
    assert_eq!(event.global.level, 4);
    assert_eq!(event.engine.name, "no-op");
    assert!(event.timings_ms.total >= event.timings_ms.decode);
    // The no-op engine finds no objects, so the remainder is the whole image, with the same rating.
    assert_eq!(event.objects.len(), 1);
    assert!((event.score - (4.0 + 7.0 / 71.0)).abs() < 1e-12);
}

/// The no-op engine rates every image with level 4.
#[tokio::test]
async fn objects_are_segmented_only_if_the_rating_of_the_whole_is_in_range() {
    use method::ObjectsWhen::{Always, Cascade, Never};
    for (when, from, name, skipped) in [
        (Always, 5.0, None, false),
        (Never, 0.0, Some("never"), true),
        (Cascade, 0.0, Some("cascade-0-7-0"), false),
        (Cascade, 5.0, Some("cascade-5-7-0"), true),
    ] {
        let journey = journey(&[("a.png", png(40, 30))], &[], |_, method| {
            method.objects.when = when;
            (method.objects.expected_from, method.objects.expected_to) = (from, 7.0);
            method.objects.confidence_below = 0.0;
        })
        .await;
        let event = assess(&journey, "a.png").await.unwrap();
        assert_eq!((event.engine.objects.as_deref(), event.segmentation.skipped), (name, skipped));
        assert_eq!(event.objects.is_empty(), skipped);
        let score = if skipped { 4.0 } else { 4.0 + 7.0 / 71.0 };
        assert!((event.score - score).abs() < 1e-12, "{when:?}: {}", event.score);
    }
}

#[tokio::test]
async fn a_single_pixel_is_scored_as_a_whole_without_regions() {
    let journey = journey(&[("dot.png", png(1, 1))], &[], |_, _| {}).await;
    let event = assess(&journey, "dot.png").await.unwrap();
    assert!(event.objects.is_empty() && event.local.is_none());
    assert!((event.score - 4.0).abs() < 1e-12);
}

#[tokio::test]
async fn each_failure_has_its_stage_and_code() {
    let mut truncated = png(64, 64);
    truncated.truncate(60);
    let objects = [
        ("html.jpg", b"<html></html>".to_vec()),
        ("empty.png", Vec::new()),
        ("truncated.png", truncated),
    ];
    let journey = journey(&objects, &[], |_, _| {}).await;
    for (key, stage, code) in [
        ("absent.png", Stage::Fetch, "fetch.not_found"),
        ("a//b.png", Stage::Fetch, "fetch.unsupported_key"),
        ("html.jpg", Stage::Decode, "decode.unsupported_format"),
        ("empty.png", Stage::Decode, "decode.empty"),
        ("truncated.png", Stage::Decode, "decode.truncated"),
    ] {
        let failure = assess(&journey, key).await.unwrap_err();
        assert_eq!((failure.stage, failure.code), (stage, code), "{key}: {failure}");
        assert!(!failure.transient && !failure.fatal, "{key}");
    }
}

#[tokio::test]
async fn a_failing_image_fails_no_other_image() {
    let objects = [("bad.png", png(13, 9)), ("worse.png", png(17, 9)), ("good.png", png(20, 9))];
    let troubles = [(13, Trouble::Fails), (17, Trouble::Panics)];
    let journey = journey(&objects, &troubles, |_, _| {}).await;
    let (bad, worse, good) = tokio::join!(
        assess(&journey, "bad.png"),
        assess(&journey, "worse.png"),
        assess(&journey, "good.png"),
    );
    assert_eq!(bad.unwrap_err().code, "segment.failed");
    assert_eq!(worse.unwrap_err().code, "segment.failed");
    assert!(good.is_ok());
}

#[tokio::test]
async fn a_lost_device_is_fatal_for_all_later_images() {
    let objects = [("last.png", png(13, 9)), ("after.png", png(20, 9))];
    let journey = journey(&objects, &[(13, Trouble::LosesDevice)], |_, _| {}).await;
    for key in ["last.png", "after.png"] {
        let failure = assess(&journey, key).await.unwrap_err();
        assert!(failure.fatal && failure.transient, "{key}: {failure:?}");
    }
    assert!(!*journey.engine().healthy().borrow());
}

#[tokio::test]
async fn a_blocked_stage_ends_at_its_timeout() {
    let blocked = [(13, Trouble::Blocks(Duration::from_secs(1)))];
    let journey = journey(&[("blocked.png", png(13, 9))], &blocked, |settings, _| {
        settings.segment.timeout = Duration::from_millis(200);
    })
    .await;
    let failure = assess(&journey, "blocked.png").await.unwrap_err();
    assert_eq!((failure.stage, failure.code), (Stage::Segment, "segment.timeout"));
    assert!(failure.message.contains("pipeline.segment.timeout"), "{failure}");
}

#[tokio::test]
async fn a_slow_measurement_ends_at_the_timeout_of_its_own_stage_and_returns_its_pixels() {
    let names = ["first.png", "second.png"];
    let objects = names.map(|name| (name, png(900, 900)));
    let journey = journey(&objects, &[], |settings, _| {
        settings.measures = vec![Metric::Piqe, Metric::Bliinds2];
        settings.measure.timeout = Duration::from_millis(1);
        settings.pixels_budget = 1;
    })
    .await;
    for name in names {
        let failure = assess(&journey, name).await.unwrap_err();
        assert_eq!((failure.stage, failure.code), (Stage::Measure, "measure.timeout"), "{name}");
        assert!(failure.message.contains("pipeline.measure.timeout"), "{failure}");
        assert!(!failure.transient && !failure.fatal && failure.store.is_none());
    }
}

#[tokio::test]
async fn measures_change_nothing_else_in_the_event_and_are_part_of_the_memory() {
    let objects = [("a.png", png(200, 130))];
    let plain = journey(&objects, &[], |settings, _| settings.reasons = false).await;
    let measuring = journey(&objects, &[], |settings, _| {
        settings.measures = vec![Metric::Piqe, Metric::Biqi];
        settings.reasons = false;
    })
    .await;
    let expected = assess(&plain, "a.png").await.unwrap();
    let mut event = assess(&measuring, "a.png").await.unwrap();
    assert!(event.timings_ms.measure.is_some() && expected.timings_ms.measure.is_none());
    assert_eq!(std::mem::take(&mut event.measures).len(), 2);
    event.timings_ms = expected.timings_ms;
    event.event_time = expected.event_time;
    assert_eq!(event, expected, "also its id and its engine");

    let bytes = |journey: &Journey| {
        let memory = journey.memory();
        memory.iter().find(|part| part.setting == "pipeline.measures").map(|part| part.bytes)
    };
    let pixels = Settings::default().pixels_budget;
    assert_eq!((bytes(&plain), bytes(&measuring)), (None, Some(14 * pixels)));
}

/// A flat dark picture: it has no detail to be blurred.
fn dark() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(500, 400, Rgb([9, 8, 7]));
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn reasons_change_nothing_else_in_the_event_and_are_part_of_the_memory() {
    let objects = [("a.png", dark())];
    let without = journey(&objects, &[], |settings, _| settings.reasons = false).await;
    let with = journey(&objects, &[], |settings, _| {
        let texts = r#"{"too_dark": "Zu dunkel."}"#;
        settings.reason_texts = serde_json::from_str(texts).unwrap();
    })
    .await;
    let expected = assess(&without, "a.png").await.unwrap();
    assert_eq!((&expected.reasons, expected.timings_ms.measure), (&None, None));
    let mut event = assess(&with, "a.png").await.unwrap();
    assert!(event.timings_ms.measure.is_some());
    let json = serde_json::to_value(&event).unwrap();
    // The only region is the whole picture and has no reasons of its own.
    let found: Vec<_> = json["reasons"].as_array().unwrap().iter().collect();
    let codes: Vec<_> = found.iter().map(|reason| reason["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["too_dark", "low_contrast", "monochrome_flat"]);
    assert!(found.iter().all(|reason| reason["scope"] == "image"), "{found:?}");
    assert_eq!(found[0]["text"], "Zu dunkel.");
    assert_eq!(found[0].as_object().unwrap().len(), 4, "{found:?}");
    event.reasons = None;
    event.timings_ms = expected.timings_ms;
    event.event_time = expected.event_time;
    assert_eq!(event, expected, "also its id and its engine");

    let bytes = |journey: &Journey| {
        let memory = journey.memory();
        memory.iter().find(|part| part.setting == "pipeline.reasons").map(|part| part.bytes)
    };
    let images = Settings::default().measure.images.get() as u64;
    assert_eq!((bytes(&without), bytes(&with)), (None, Some(images * (12 << 20))));
}

#[tokio::test]
async fn reasons_that_are_late_are_left_out_and_a_policy_that_names_any_does_not_pass() {
    let naming = |conditions: &[&str]| PolicySettings {
        reject_reasons: conditions.iter().map(|text| text.parse().unwrap()).collect(),
        ..PolicySettings::default()
    };
    let policies = |method: &mut method::Settings| {
        method.policies.named.insert("light".to_owned(), naming(&["too_dark:0.3"]));
        method.policies.named.insert("sharp".to_owned(), naming(&["blurred"]));
    };
    let judged = async |journey: &Journey, policy: &str| {
        let policy = Some(policy.to_owned());
        let reference = ImageReference { policy, ..ImageReference::new("s3://photos/a.png") };
        let event = journey.assess(reference, None).await.unwrap();
        let verdict = event.verdict.unwrap();
        (event.reasons.is_some(), verdict.outcome, verdict.reasons.join("; "))
    };
    let in_time = journey(&[("a.png", dark())], &[], |_, method| policies(method)).await;
    let (is_measured, outcome, why) = judged(&in_time, "light").await;
    assert_eq!((is_measured, outcome), (true, method::PolicyOutcome::Reject));
    assert!(why.starts_with("the image is too_dark (0."), "{why}");
    let (_, outcome, why) = judged(&in_time, "sharp").await;
    assert_eq!((outcome, why.as_str()), (method::PolicyOutcome::Pass, ""));

    let late = journey(&[("a.png", dark())], &[], |settings, method| {
        settings.measure.timeout = Duration::ZERO;
        policies(method);
    })
    .await;
    let (is_measured, outcome, why) = judged(&late, "sharp").await;
    assert_eq!((is_measured, outcome), (false, method::PolicyOutcome::Review));
    assert_eq!(why, "reasons were not measured");
}

#[tokio::test]
async fn images_larger_than_a_budget_pass_one_at_a_time() {
    let names: Vec<String> = (0..20).map(|index| format!("{index}.png")).collect();
    let objects: Vec<_> = names.iter().map(|name| (name.as_str(), png(64, 64))).collect();
    let journey = journey(&objects, &[], |settings, _| {
        settings.bytes_budget = bytesize::ByteSize::b(1);
        settings.pixels_budget = 1;
        settings.score.images = NonZeroUsize::MIN;
    })
    .await;
    let all = futures::future::join_all(names.iter().map(|name| assess(&journey, name))).await;
    assert!(all.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_named_policy_gives_a_verdict_and_an_unknown_one_is_refused() {
    let journey = journey(&[("a.png", png(40, 30))], &[], |_, method| {
        let strict = PolicySettings { score_min: Some(6.0), ..PolicySettings::default() };
        method.policies.named.insert("strict".to_owned(), strict);
    })
    .await;
    let reference = |policy: &str| ImageReference {
        policy: Some(policy.to_owned()),
        ..ImageReference::new("s3://photos/a.png")
    };
    let verdict = journey.assess(reference("strict"), None).await.unwrap().verdict.unwrap();
    assert_eq!(
        (verdict.policy.as_str(), verdict.outcome),
        ("strict", method::PolicyOutcome::Reject)
    );
    let failure = journey.assess(reference("lax"), None).await.unwrap_err();
    assert_eq!((failure.stage, failure.code), (Stage::Reference, "policy.unknown"));
}

#[tokio::test]
async fn the_same_image_gives_the_same_event_except_its_times() {
    let journey = journey(&[("a.png", png(40, 30))], &[], |_, _| {}).await;
    let mut first = assess(&journey, "a.png").await.unwrap();
    let second = assess(&journey, "a.png").await.unwrap();
    first.timings_ms = second.timings_ms;
    first.event_time = second.event_time;
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_dropped_journey_releases_its_budgets() {
    let journey = journey(&[("a.png", png(40, 30))], &[], |settings, _| {
        settings.pixels_budget = 1;
        settings.bytes_budget = bytesize::ByteSize::b(1);
    })
    .await;
    // On a busy machine a journey may finish during its first poll. Then try another one.
    let mut is_pending = false;
    while !is_pending {
        let mut dropped = Box::pin(assess(&journey, "a.png"));
        is_pending = futures::poll!(&mut dropped).is_pending();
    }
    assert!(assess(&journey, "a.png").await.is_ok());
}
