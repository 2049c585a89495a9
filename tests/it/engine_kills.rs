//! The paper's engine with small random networks: an input that fails alone, and a lost device.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use dog_iqa::engine::{
    CropViews, Engine, EngineLimits, LaneLimits, ModelInfo, MplugOwl3Scorer, RunError,
    Sam2Segmenter, Scorer, Segmenter,
};
use dog_iqa::imaging::{Crop, Picture, crop_whole};
use dog_iqa::method::{LevelDistribution, RawMask, Standard, StandardForm};
use dog_iqa::models::mplug_owl3::RatingSettings;
use dog_iqa::models::sam2::amg::{AmgSettings, PreparedImage};
use dog_iqa::stream::StreamError;
use futures::future::join_all;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use crate::engine_conformance::{lenient, sam2_on};
use crate::small_networks::checkpoint_with_real_vocabulary;
use crate::stream::Scene;

/// Longer than any batch here takes.
const LIMIT: Duration = Duration::from_mins(10);
/// Width of pictures whose inputs have a shape that the networks refuse.
const MALFORMED: u32 = 13;

/// A model whose device is lost after `batches_left` batches.
struct Mortal<M> {
    model: M,
    batches_left: AtomicUsize,
}

impl<M> Mortal<M> {
    fn new(model: M, batches: usize) -> Self {
        Self { model, batches_left: AtomicUsize::new(batches) }
    }

    fn live(&self) -> Result<&M, RunError> {
        let left = |left: usize| left.checked_sub(1);
        match self.batches_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) {
            Ok(_) => Ok(&self.model),
            Err(_) => Err(RunError::Device("CUDA_ERROR_ECC_UNCORRECTABLE".into())),
        }
    }
}

/// Returns the tensor of an input, or one of another shape for a malformed picture.
fn maybe_malformed(tensor: Tensor, width: u32) -> Tensor {
    if width != MALFORMED {
        return tensor;
    }
    Tensor::zeros((1, 3, 7, 5), tensor.dtype(), &Device::Cpu).unwrap()
}

impl Segmenter for Mortal<Sam2Segmenter> {
    type Input = PreparedImage;

    fn info(&self) -> ModelInfo {
        self.model.info()
    }

    fn prepare(&self, picture: &Picture) -> Result<PreparedImage, RunError> {
        let PreparedImage { crops, size } = self.model.prepare(picture)?;
        Ok(PreparedImage { crops: maybe_malformed(crops, picture.width()), size })
    }

    fn cost(_: &PreparedImage) -> usize {
        1
    }

    fn segment(&self, batch: &[PreparedImage]) -> Result<Vec<Vec<RawMask>>, RunError> {
        self.live()?.segment(batch)
    }
}

impl Scorer for Mortal<MplugOwl3Scorer> {
    type Input = CropViews;

    fn info(&self) -> ModelInfo {
        self.model.info()
    }

    fn prepare(&self, crop: &Crop) -> Result<CropViews, RunError> {
        let mut input = self.model.prepare(crop)?;
        input.views = maybe_malformed(input.views, crop.pixels.width());
        Ok(input)
    }

    fn cost(_: &CropViews) -> usize {
        1
    }

    fn rate(&self, batch: &[CropViews]) -> Result<Vec<LevelDistribution>, RunError> {
        self.live()?.rate(batch)
    }
}

/// Returns an engine of the small networks whose segmenter loses its device after `batches`.
fn engine(owl: &TempDir, batches: usize) -> Engine {
    let few = AmgSettings { points_per_side: 3, ..lenient() };
    let segmenter = Mortal::new(sam2_on(few, DType::F32, &Device::Cpu), batches);
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    let (path, settings) = (owl.path(), RatingSettings::default());
    let scorer =
        MplugOwl3Scorer::open(path, &standard, settings, DType::F32, &Device::Cpu).unwrap();
    // All waiting inputs form one batch.
    let lane = LaneLimits { queue: 64, batch_cost: usize::MAX };
    let limits = EngineLimits { segment: lane, score: lane };
    Engine::new("dog-iqa", "1", segmenter, Mortal::new(scorer, usize::MAX), limits).unwrap()
}

fn picture(width: u32) -> Picture {
    let shade = |position: u32| u8::try_from(position * 9 % 256).unwrap();
    Picture::from_rgb(RgbImage::from_fn(width, 20, |x, y| Rgb([shade(x), shade(y), 40])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_input_fails_alone() {
    let owl = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let engine = engine(&owl, usize::MAX);
    let pictures: Vec<Picture> = (MALFORMED - 3..MALFORMED + 3).map(picture).collect();
    let masks = join_all(pictures.iter().map(|picture| engine.segment(picture, LIMIT))).await;
    let ratings =
        join_all(pictures.iter().map(|picture| engine.rate(crop_whole(picture), LIMIT))).await;
    for ((picture, masks), rating) in pictures.iter().zip(masks).zip(ratings) {
        if picture.width() == MALFORMED {
            assert_eq!(masks.unwrap_err().code(), "segment.failed");
            assert_eq!(rating.unwrap_err().code(), "score.failed");
        } else {
            let alone = engine.segment(picture, LIMIT).await.unwrap();
            assert_eq!(masks.unwrap().len(), alone.len());
            let alone = engine.rate(crop_whole(picture), LIMIT).await.unwrap();
            assert_eq!(rating.unwrap().level(), alone.level());
        }
    }
    assert!(*engine.healthy().borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_device_is_lost_commits_nothing_unanswered_and_its_successor_finishes() {
    let owl = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let (dying, living) = (engine(&owl, 2), engine(&owl, usize::MAX));
    let mut scene = Scene::with_engine(1, || dying).await;
    let worker = scene.start().await;
    // Two images pass one by one; the device is lost with the next one, while others wait.
    scene.refer("first", 1, "a.png").await;
    scene.events(1).await;
    scene.refer("second", 1, "a.png").await;
    scene.events(2).await;
    scene.until_offsets(|offsets| offsets == [(2, 2)]).await;
    scene.refer("lost", 12, "a.png").await;
    let error = worker.end().await.unwrap_err();
    assert!(matches!(error, StreamError::EngineLost { .. }), "{error}");
    assert!(error.to_string().contains("CUDA_ERROR_ECC_UNCORRECTABLE"), "{error}");
    assert_eq!(scene.offsets().await, [(2, 14)]);

    scene.engine = living;
    let worker = scene.start().await;
    scene.until_offsets(|offsets| offsets == [(14, 14)]).await;
    assert_eq!(crate::stream::ids(&scene.events(14).await).len(), 14);
    worker.stop().await;
}
