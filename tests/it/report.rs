//! The report of an event for a real photo: the table, the annotated picture, the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dog_iqa::event::{
    EngineProvenance, EventImage, EventParts, EventReason, ImageReference, QualityEvent,
    ScorerSettings, TimingsMs,
};
use dog_iqa::imaging::{Picture, Settings, decode};
use dog_iqa::method::{
    AggregationSettings, Formula, LevelDistribution, Mask, ObjectAssessment, PolicyOutcome,
    PolicyVerdict, RawMask, Reason, ReasonCode, RegionSettings, Rle, Scope, Standard, StandardForm,
    assess, select_regions,
};
use dog_iqa::report::{AnnotateError, Page, annotate, table};
use image::RgbImage;

fn photo() -> Picture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos/coffee.jpg");
    let bytes = fs::read(path).expect("the photo is in the repository");
    decode(&bytes, &Settings::default()).expect("it is complete")
}

/// Returns an event with two objects and a remainder.
fn event(picture: &Picture, id: &str) -> QualityEvent {
    let (width, height) = (picture.width(), picture.height());
    let raw = |inside: &dyn Fn(u32, u32) -> bool| {
        let rle = Rle::from_row_major(width, height, inside).expect("the frame has pixels");
        RawMask {
            mask: Mask::new(rle).expect("pixels are set"),
            predicted_iou: None,
            stability_score: None,
        }
    };
    let masks = vec![raw(&|x, _| x < width / 3), raw(&|x, y| x > width / 2 && y < height / 2)];
    let segmentation = select_regions(width, height, masks, &RegionSettings::default())
        .expect("the masks are of this picture");
    let rating = |level: usize| {
        let mut logits = [0.0; 7];
        logits[level - 1] = 3.0;
        LevelDistribution::from_logits(&logits).expect("the logits are finite")
    };
    let objects = segmentation
        .regions
        .iter()
        .zip([7, 1, 4])
        .map(|(region, level)| ObjectAssessment { region: region.clone(), rating: rating(level) });
    let assessment = assess(rating(6), objects.collect(), &AggregationSettings::default());
    let standard = Standard::builtin(7, StandardForm::Word).expect("it is built in");
    let reasons = vec!["score 4.9 is near 5".to_owned()];
    QualityEvent::new(EventParts {
        reference: &ImageReference {
            id: id.to_owned(),
            ..ImageReference::new(format!("s3://photos/{id}"))
        },
        assessment: &assessment,
        segmentation: &segmentation,
        measures: Vec::new(),
        reasons: Some(reasons_found()),
        standard: &standard,
        image: EventImage {
            width,
            height,
            format: picture.format().name().to_owned(),
            bytes: picture.bytes_len(),
            sha256: hex::encode(picture.sha256()),
            etag: None,
            phash: None,
        },
        engine: provenance(),
        verdict: Some(PolicyVerdict {
            policy: "shop".to_owned(),
            outcome: PolicyOutcome::Review,
            reasons,
        }),
        timings: TimingsMs::default(),
        source: None,
        time: chrono::DateTime::from_timestamp_millis(1_790_000_000_000)
            .expect("the time is in this century"),
        include_masks: true,
        aggregation: &AggregationSettings::default(),
        score_mos: None,
    })
}

fn provenance() -> EngineProvenance {
    EngineProvenance {
        preset: None,
        formula: Some(Formula::Paper),
        name: "classic".to_owned(),
        version: "1".to_owned(),
        segmenter: "s".to_owned(),
        scorer: "r".to_owned(),
        scorers: Vec::new(),
        scorer_settings: ScorerSettings::default(),
        standard: "word-7".to_owned(),
        objects: None,
        settings: "5f0c19aa".to_owned(),
        changed_settings: BTreeMap::new(),
        weights: Vec::new(),
        servers: Vec::new(),
    }
}

fn reasons_found() -> Vec<EventReason> {
    let found = [
        (ReasonCode::Noisy, 0.4, Scope::IMAGE),
        (ReasonCode::Borders, 0.2, Scope::IMAGE),
        (ReasonCode::Noisy, 0.6, Scope::Region(0)),
        (ReasonCode::Noisy, 0.5, Scope::Region(2)),
    ];
    let with_text = |(code, strength, scope)| {
        EventReason::new(Reason { code, strength, scope }, "Take <b>more</b> light.")
    };
    found.map(with_text).into()
}

#[test]
fn a_line_is_aligned_with_its_header() {
    let event = event(&photo(), "coffee.jpg");
    let (header, line) = (table::header(), table::line(&event));
    assert_eq!(header, " score  expected  global         local  regions  verdict  image");
    assert!(line.starts_with(&format!("{:>6.2}  {:>8.2}  6 ", event.score, event.score_expected)));
    assert!(line.ends_with("  review   coffee.jpg"), "{line}");
    assert_eq!(header.find("image"), line.find("coffee.jpg"));
}

#[test]
fn reasons_are_grouped_by_code_with_the_greatest_strength() {
    let event = event(&photo(), "coffee.jpg");
    assert_eq!(
        table::reason_lines(&event),
        [
            "        noisy 0.60 (image, regions 0, 2): Take <b>more</b> light.",
            "        borders 0.20 (image): Take <b>more</b> light.",
        ]
    );
    let mut page = Page::default();
    page.add(&event, "coffee.jpg");
    let html = page.render();
    let item = "<li title=\"image, regions 0, 2\"><b>noisy</b> 0.60 <span class=\"quiet\">\
                Take &lt;b&gt;more&lt;/b&gt; light.</span></li>";
    assert!(html.contains(item), "{html}");
    let without = QualityEvent { reasons: None, ..event };
    assert!(table::reason_lines(&without).is_empty());
}

#[test]
fn a_hostile_name_writes_no_terminal_commands() {
    let line = table::line(&event(&photo(), "a\x1b[2J\nb"));
    assert!(!line.contains(['\x1b', '\n']), "{line:?}");
}

#[test]
fn the_annotated_picture_shows_regions_and_a_banner() {
    let picture = photo();
    let mut event = event(&picture, "coffee.jpg");
    let annotated = annotate(&picture, &event).unwrap();
    assert_eq!(annotated.width(), picture.width());
    assert!(annotated.height() > picture.height() + 20, "a banner below");
    let changed = |annotated: &RgbImage| {
        let pairs = picture.pixels().pixels().zip(annotated.pixels());
        pairs.filter(|(before, after)| before != after).count()
    };
    let share = changed(&annotated) as f64 / f64::from(picture.width() * picture.height());
    assert!((0.01..0.2).contains(&share), "outlines and labels only: {share}");

    // Without masks it draws the boxes.
    event.remove_masks();
    let boxes = annotate(&picture, &event).unwrap();
    assert_eq!(boxes.dimensions(), annotated.dimensions());
    assert!(changed(&boxes) > 0);
}

#[test]
fn pictures_of_any_size_can_be_annotated() {
    for (width, height, expected) in [(1, 1, 480), (3, 700, 480), (5000, 40, 1600)] {
        let picture = Picture::from_rgb(RgbImage::new(width, height));
        let mut event = event(&photo(), "x");
        event.image.width = width;
        event.image.height = height;
        event.objects.clear();
        assert_eq!(annotate(&picture, &event).unwrap().width(), expected, "{width}×{height}");
    }
}

#[test]
fn an_event_of_another_picture_is_refused() {
    let event = event(&photo(), "coffee.jpg");
    let other = Picture::from_rgb(RgbImage::new(10, 10));
    let error = annotate(&other, &event).unwrap_err();
    assert!(matches!(error, AnnotateError::OtherPicture { width: 10, .. }), "{error}");
}

#[test]
fn the_page_has_every_event_and_loads_nothing_from_elsewhere() {
    let picture = photo();
    let mut page = Page::default();
    page.add(&event(&picture, "coffee.jpg"), "000-coffee.jpg");
    page.add(&event(&picture, "<img src=x onerror=alert(1)>\" x=\""), "001-_.jpg");
    let html = page.render();
    assert_eq!(html.matches("<article ").count(), 2);
    assert!(html.contains("href=\"./000-coffee.jpg\""));
    assert!(!html.contains("<img src=x"), "names are escaped");
    assert!(!html.contains("\" x=\""), "also in attributes");
    for outside in ["http://", "https://", "src=\"//", "url(", "@import", "fetch("] {
        assert!(!html.contains(outside), "{outside} would leave the page");
    }
    // Every opening tag has a closing tag.
    for tag in ["article", "div", "details", "table", "tr", "span", "dl", "label", "button"] {
        let starts =
            html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        assert_eq!(starts, html.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
}
