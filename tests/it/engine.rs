//! The engine as the pipeline uses it: both lanes, their errors, and its health.

use std::time::Duration;

use dog_iqa::engine::{
    ClassicScorer, ClassicSegmenter, Engine, EngineError, EngineLimits, Settings,
};
use dog_iqa::imaging::{Picture, crop_whole};
use dog_iqa::method::{Standard, StandardForm};
use futures::future::join_all;
use image::{Rgb, RgbImage};

use crate::noop::{self, Trouble};

/// Longer than any batch here takes.
const LIMIT: Duration = Duration::from_mins(10);

fn picture(width: u32) -> Picture {
    let shade = |position: u32| u8::try_from(position * 9 % 256).unwrap();
    Picture::from_rgb(RgbImage::from_fn(width, 8, |x, y| Rgb([shade(x), shade(y), 40])))
}

#[tokio::test]
async fn the_classic_engine_opens_with_the_default_settings() {
    let standard = Standard::builtin(5, StandardForm::Word).unwrap();
    let engine = Engine::open(&Settings::default(), &standard).unwrap();
    assert_eq!(
        (engine.info().name.as_str(), engine.info().segmenter.weights.len()),
        ("classic", 0)
    );
    let picture = picture(40);
    assert!(!engine.segment(&picture, LIMIT).await.unwrap().is_empty());
    assert_eq!(engine.rate(crop_whole(&picture), LIMIT).await.unwrap().levels(), 5);
}

#[tokio::test]
async fn answers_do_not_depend_on_concurrent_requests() {
    let (segmenter, scorer) = (ClassicSegmenter::new(), ClassicScorer::new(7));
    let engine = Engine::new("classic", "1", segmenter, scorer, EngineLimits::default()).unwrap();
    let pictures: Vec<Picture> = (1..30).map(|width| picture(5 * width)).collect();
    let together =
        join_all(pictures.iter().map(|picture| engine.rate(crop_whole(picture), LIMIT))).await;
    for (picture, together) in pictures.iter().zip(together) {
        assert_eq!(engine.rate(crop_whole(picture), LIMIT).await.unwrap(), together.unwrap());
    }
}

#[tokio::test]
async fn a_bad_picture_fails_alone() {
    let engine = noop::engine(&[(13, Trouble::Fails), (14, Trouble::Panics)]);
    let pictures: Vec<Picture> = (10..18).map(picture).collect();
    let answers = join_all(pictures.iter().map(|picture| engine.segment(picture, LIMIT))).await;
    for (picture, answer) in pictures.iter().zip(answers) {
        let width = picture.width();
        let code = [13, 14].contains(&width).then_some("segment.failed");
        assert_eq!(answer.err().map(|error| error.code()), code, "width {width}");
    }
    assert!(*engine.healthy().borrow());
}

#[tokio::test]
async fn a_lost_device_fails_all_later_pictures_but_not_the_other_lane() {
    let engine = noop::engine(&[(66, Trouble::LosesDevice)]);
    let mut healthy = engine.healthy();
    let lost = engine.segment(&picture(66), LIMIT).await.unwrap_err();
    assert!(matches!(lost, EngineError::Lost(_)), "{lost}");
    healthy.wait_for(|healthy| !healthy).await.unwrap();
    assert_eq!(engine.segment(&picture(8), LIMIT).await.unwrap_err().code(), "engine.lost");
    assert!(
        engine.rate(crop_whole(&picture(8)), LIMIT).await.is_ok(),
        "the other lane still answers"
    );
}
