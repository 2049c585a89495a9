//! The paper's engine with small random networks: an input that fails alone, and a lost device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use dog_iqa::engine::{
    ClipIqaScorer, CropPatches, CropViews, Engine, EngineLimits, FittedCrop, LaneLimits, ModelInfo,
    MplugOwl3Scorer, Qwen3_5VlScorer, RunError, Sam2Segmenter, Scorer, Segmenter,
};
use dog_iqa::imaging::{Crop, Picture, crop_whole};
use dog_iqa::method::{LevelDistribution, RawMask, Standard, StandardForm};
use dog_iqa::models::clip_iqa::ClipIqaSettings;
use dog_iqa::models::mplug_owl3::RatingSettings;
use dog_iqa::models::qwen3_5_vl::QRealignSettings;
use dog_iqa::models::sam2::amg::{AmgSettings, PreparedImage};
use dog_iqa::stream::StreamError;
use futures::future::join_all;
use image::{Rgb, RgbImage};

use crate::clip::clip;
use crate::engine_conformance::{lenient, sam2_on};
use crate::qwen3_5::q_realign;
use crate::small_networks::checkpoint_with_real_vocabulary;
use crate::stream::Scene;

/// Longer than any batch here takes.
const LIMIT: Duration = Duration::from_mins(10);
/// Width of pictures whose inputs have a shape that the networks refuse.
const MALFORMED: u32 = 13;

/// A model whose device is lost after `batches_left` batches.
struct Mortal<M> {
    model: M,
    batches_left: Arc<AtomicUsize>,
}

impl<M> Mortal<M> {
    fn new(model: M, batches: usize) -> Self {
        Self { model, batches_left: Arc::new(AtomicUsize::new(batches)) }
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

/// An input of a scorer that a test can spoil.
trait Malform {
    /// Gives the input a shape that the network refuses.
    fn malform(&mut self);
}

impl Malform for CropViews {
    fn malform(&mut self) {
        self.views = maybe_malformed(self.views.clone(), MALFORMED);
    }
}

impl Malform for CropPatches {
    fn malform(&mut self) {
        self.patches.samples = maybe_malformed(self.patches.samples.clone(), MALFORMED);
    }
}

impl Malform for FittedCrop {
    fn malform(&mut self) {
        self.pixels = Arc::new(RgbImage::new(7, 5));
    }
}

impl<S: Scorer<Input: Malform>> Scorer for Mortal<S> {
    type Input = S::Input;

    fn info(&self) -> ModelInfo {
        self.model.info()
    }

    fn prepare(&self, crop: &Crop) -> Result<S::Input, RunError> {
        let mut input = self.model.prepare(crop)?;
        if crop.pixels.width() == MALFORMED {
            input.malform();
        }
        Ok(input)
    }

    fn cost(_: &S::Input) -> usize {
        1
    }

    fn rate(&self, batch: &[S::Input]) -> Result<Vec<LevelDistribution>, RunError> {
        self.live()?.rate(batch)
    }
}

/// An engine of small networks, and the batches after which its scorer loses its device.
struct MortalEngine {
    engine: Engine,
    ratings_left: Arc<AtomicUsize>,
}

/// Returns an engine whose segmenter loses its device after `batches`.
fn engine_of<S: Scorer<Input: Malform>>(scorer: S, batches: usize) -> MortalEngine {
    let few = AmgSettings { points_per_side: 3, ..lenient() };
    let segmenter = Mortal::new(sam2_on(few, DType::F32, &Device::Cpu), batches);
    // All waiting inputs form one batch.
    let lane = LaneLimits { queue: 64, batch_cost: usize::MAX };
    let limits = EngineLimits { segment: lane, score: lane };
    let scorer = Mortal::new(scorer, usize::MAX);
    let ratings_left = Arc::clone(&scorer.batches_left);
    let engine = Engine::new("dog-iqa", "1", segmenter, scorer, limits).unwrap();
    MortalEngine { engine, ratings_left }
}

fn owl(batches: usize) -> MortalEngine {
    let (folder, settings) =
        (checkpoint_with_real_vocabulary("mplug_owl3_241101"), RatingSettings::default());
    let scorer =
        MplugOwl3Scorer::open(folder.path(), &standard(), settings, DType::F32, &Device::Cpu);
    engine_of(scorer.unwrap(), batches)
}

fn realign(batches: usize) -> MortalEngine {
    let (folder, settings) = (q_realign(), QRealignSettings::default());
    let scorer =
        Qwen3_5VlScorer::open(folder.path(), &standard(), settings, DType::F32, &Device::Cpu);
    engine_of(scorer.unwrap(), batches)
}

fn clip_iqa(batches: usize) -> MortalEngine {
    let (folder, settings) = (clip("vit"), ClipIqaSettings::default());
    let scorer =
        ClipIqaScorer::open(folder.path(), &standard(), settings, DType::F32, &Device::Cpu);
    engine_of(scorer.unwrap(), batches)
}

fn standard() -> Standard {
    Standard::builtin(7, StandardForm::Word).unwrap()
}

fn picture(width: u32) -> Picture {
    let shade = |position: u32| u8::try_from(position * 9 % 256).unwrap();
    Picture::from_rgb(RgbImage::from_fn(width, 20, |x, y| Rgb([shade(x), shade(y), 40])))
}

async fn assert_a_malformed_input_fails_alone(engine: &Engine) {
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
async fn a_malformed_input_fails_alone() {
    for open in [owl, realign, clip_iqa] {
        assert_a_malformed_input_fails_alone(&open(usize::MAX).engine).await;
    }
}

/// Two images pass one by one; the device is lost with the next one, while `waiting - 1` others
/// wait. `lose` is called after the second.
async fn assert_a_successor_finishes(
    dying: Engine,
    living: Engine,
    waiting: usize,
    lose: impl FnOnce(),
) {
    let mut scene = Scene::with_engine(1, || dying).await;
    let worker = scene.start().await;
    scene.refer("first", 1, "a.png").await;
    scene.events(1).await;
    scene.refer("second", 1, "a.png").await;
    scene.events(2).await;
    scene.until_offsets(|offsets| offsets == [(2, 2)]).await;
    lose();
    scene.refer("lost", waiting, "a.png").await;
    let error = worker.end().await.unwrap_err();
    assert!(matches!(error, StreamError::EngineLost { .. }), "{error}");
    assert!(error.to_string().contains("CUDA_ERROR_ECC_UNCORRECTABLE"), "{error}");
    let all = i64::try_from(2 + waiting).unwrap();
    assert_eq!(scene.offsets().await, [(2, all)]);

    scene.engine = living;
    let worker = scene.start().await;
    scene.until_offsets(|offsets| offsets == [(all, all)]).await;
    assert_eq!(crate::stream::ids(&scene.events(2 + waiting).await).len(), 2 + waiting);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_device_is_lost_commits_nothing_unanswered_and_its_successor_finishes() {
    assert_a_successor_finishes(owl(2).engine, owl(usize::MAX).engine, 12, || {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scorer_whose_device_is_lost_commits_nothing_unanswered_and_its_successor_finishes() {
    for open in [owl, realign, clip_iqa] {
        let MortalEngine { engine, ratings_left } = open(usize::MAX);
        let lose = move || ratings_left.store(0, Ordering::SeqCst);
        assert_a_successor_finishes(engine, open(usize::MAX).engine, 6, lose).await;
    }
}
