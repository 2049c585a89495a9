//! The contract of every segmenter and every scorer, for any model.

use std::time::Duration;

use dog_iqa::engine::{Engine, Scorer, Segmenter};
use dog_iqa::imaging::{Crop, CropSource, Picture, crop_whole};
use dog_iqa::method::{LevelDistribution, RawMask};
use futures::future::join_all;
use image::{Rgb, RgbImage};

/// Returns pictures of different size, shape and content. The first has one pixel.
pub(crate) fn pictures() -> Vec<Picture> {
    let sizes = [(1, 1), (2, 3), (17, 5), (64, 64), (320, 200), (90, 410)];
    let mut random = fastrand::Rng::with_seed(11);
    let paint = |(width, height)| {
        let colours: [[u8; 3]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| random.u8(..)));
        Picture::from_rgb(RgbImage::from_fn(width, height, |x, y| {
            let quarter = usize::from(x > width / 3) + 2 * usize::from(y > height / 2);
            Rgb(colours[quarter].map(|value| value / 2 + ((x * 7 + y * 13) % 60) as u8))
        }))
    };
    sizes.map(paint).into()
}

/// Checks the promises of a segmenter. `alike` decides how far answers may differ between batches:
/// not at all on a CPU, by the rounding of the dtype elsewhere.
pub(crate) fn segmenter<M: Segmenter>(model: &M, alike: fn(&[RawMask], &[RawMask]) -> bool) {
    assert!(!model.info().name.is_empty() && !model.info().version.is_empty());
    assert!(model.segment(&[]).unwrap().is_empty(), "an empty batch has no answers");
    let pictures = pictures();
    let prepare = |picture: &Picture| model.prepare(picture).unwrap();
    let inputs: Vec<_> = pictures.iter().map(prepare).collect();
    let batch = model.segment(&inputs).unwrap();
    assert_eq!(batch.len(), inputs.len(), "one answer for each input");
    for ((picture, input), masks) in pictures.iter().zip(&inputs).zip(&batch) {
        assert!(M::cost(input) > 0);
        let single = model.segment(std::slice::from_ref(input)).unwrap();
        assert!(alike(&single[0], masks), "a batch of n equals n single calls, in order");
        let again = model.segment(&[prepare(picture)]).unwrap();
        assert!(alike(&again[0], masks), "the same picture has the same masks");
        for raw in masks {
            let frame = (raw.mask.rle().width(), raw.mask.rle().height());
            let size = (picture.width(), picture.height());
            assert_eq!(frame, size, "masks are in the frame of the picture");
            assert!(raw.mask.area_px() > 0);
        }
    }
}

/// Checks the promises of a scorer that rates on `levels` levels.
pub(crate) fn scorer<M: Scorer>(
    model: &M,
    levels: u8,
    alike: fn(&LevelDistribution, &LevelDistribution) -> bool,
) {
    assert!(!model.info().name.is_empty() && !model.info().version.is_empty());
    assert!(model.rate(&[]).unwrap().is_empty(), "an empty batch has no answers");
    let crops: Vec<Crop> = pictures().iter().map(crop_whole).collect();
    let prepare = |crop: &Crop| model.prepare(crop).unwrap();
    let inputs: Vec<_> = crops.iter().map(prepare).collect();
    let batch = model.rate(&inputs).unwrap();
    assert_eq!(batch.len(), inputs.len(), "one answer for each input");
    for ((crop, input), rating) in crops.iter().zip(&inputs).zip(&batch) {
        assert!(M::cost(input) > 0);
        let single = model.rate(std::slice::from_ref(input)).unwrap();
        assert!(alike(&single[0], rating), "a batch of n equals n single calls, in order");
        let again = model.rate(&[prepare(crop)]).unwrap();
        assert!(alike(&again[0], rating), "the same crop has the same rating");
        assert_is_rating(rating, levels);
    }
}

/// Checks the same promises of an engine's scorers, which are asked at the same time, for the whole
/// pictures and for objects.
pub(crate) async fn scorers(
    engine: &Engine,
    levels: u8,
    alike: fn(&LevelDistribution, &LevelDistribution) -> bool,
) {
    const LIMIT: Duration = Duration::from_mins(5);
    for source in [CropSource::Whole, CropSource::Region(0)] {
        let crops: Vec<Crop> =
            pictures().iter().map(|picture| Crop { source, ..crop_whole(picture) }).collect();
        let rate = |crop: &Crop| engine.rate(crop.clone(), LIMIT);
        let batch = join_all(crops.iter().map(rate)).await;
        for (crop, rating) in crops.iter().zip(batch) {
            let rating = rating.unwrap();
            assert!(alike(&rate(crop).await.unwrap(), &rating), "n at once equal n single calls");
            assert_is_rating(&rating, levels);
        }
    }
}

fn assert_is_rating(rating: &LevelDistribution, levels: u8) {
    assert_eq!(rating.levels(), levels);
    let sum: f64 = rating.probabilities().iter().sum();
    assert!((sum - 1.0).abs() < 1e-9, "probabilities sum to 1, not to {sum}");
    assert!(rating.probabilities().iter().all(|&share| (0.0..=1.0).contains(&share)));
    assert!((1..=levels).contains(&rating.level()));
    assert!((1.0..=f64::from(levels)).contains(&rating.expected()));
}
