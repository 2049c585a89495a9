//! mPLUG-Owl3 as a [`Scorer`]: ratings from one forward pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use crate::engine::adapters::loaded_mplug_owl3::{LoadedMplugOwl3, MplugOwl3Error};
use crate::engine::adapters::pixel_identity::DistinctPictures;
use crate::engine::adapters::tensor_error::run_error;
use crate::engine::info::ModelInfo;
use crate::engine::lane::RunError;
use crate::engine::traits::Scorer;
use crate::imaging::{Crop, CropSource};
use crate::method::{GeneratedAnswer, LevelDistribution, Standard};
use crate::models::device::to_cpu;
use crate::models::mplug_owl3::{
    CropContext, Direction, Grid, ImagePosition, LevelHead, LevelSource, Message, Prefix,
    RatedPart, RatingSettings, Turns, answer_text, next_tokens, rating_messages,
};

/// Increased whenever the rating of a crop may change with the same weights and settings.
const VERSION: &str = "1";

/// Rates crops on the levels of a standard, by the probabilities of the level tokens after the
/// prompt.
#[derive(Debug)]
pub struct MplugOwl3Scorer {
    loaded: LoadedMplugOwl3,
    settings: RatingSettings,
    info: ModelInfo,
    rating: Question,
    head: LevelHead,
    second_opinion: Option<SecondOpinion>,
}

/// A crop as the scorer's network reads it.
#[derive(Debug, Clone)]
pub struct CropViews {
    /// `(views, 3, size, size)` u8 on the CPU.
    pub views: Tensor,
    /// Grid of the views, or `None` if the whole crop is the only view.
    grid: Option<Grid>,
    /// Part that the prompt asks about.
    part: RatedPart,
    /// The whole picture, if the prompt shows it before the crop.
    whole: Option<ShownPicture>,
    /// Identity of the crop's pixels. Crops that share them are computed once in a batch.
    pixels: Weak<RgbImage>,
}

/// A picture as the network reads it, without cutting.
#[derive(Debug, Clone)]
struct ShownPicture {
    /// `(1, 3, size, size)` u8 on the CPU.
    views: Tensor,
    /// Identity of its pixels.
    pixels: Weak<RgbImage>,
}

/// A crop that is encoded: its tokens, and those of all images of its prompt.
struct EncodedCrop {
    /// `(views, tokens, hidden)`.
    crop: Tensor,
    /// Those of the whole picture, if the prompt shows it, then those of the crop.
    all: Tensor,
}

/// A prompt of a question: the grid of views, and the part of the picture.
type PromptKey = (Option<Grid>, RatedPart);

/// A conversation about one image, with its cached prefix for each grid of views and each part.
#[derive(Debug)]
struct Question {
    whole: Vec<Message>,
    /// The conversation about a region, if it differs.
    region: Option<(RatedPart, Vec<Message>)>,
    prefixes: Mutex<BTreeMap<PromptKey, Arc<Prefix>>>,
}

/// A second question, rated by the direction of the next word from bad to good quality.
#[derive(Debug)]
struct SecondOpinion {
    question: Question,
    direction: Direction,
}

impl MplugOwl3Scorer {
    /// Opens a checkpoint: a file, an index of shards, or a folder with either.
    ///
    /// # Errors
    /// Fails if the weights or the tokenizer cannot be used, or if a prompt of the standard
    /// contains a placeholder or exceeds the network's context.
    pub fn open(
        path: &Path,
        standard: &Standard,
        settings: RatingSettings,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, MplugOwl3Error> {
        let loaded = LoadedMplugOwl3::load(path, dtype, device)?;
        let (decoder, tokenizer) = (loaded.model.decoder(), &loaded.tokenizer);
        let level_tokens = (1..=standard.k()).map(|level| tokenizer.token(&level.to_string()));
        let head = LevelHead::new(decoder, &level_tokens.collect::<Result<Vec<_>, _>>()?)?;
        let second_opinion = if settings.direction {
            let direction = Direction::new(decoder, tokenizer, &settings.poles)?;
            let question = Question::new(Direction::messages(), None);
            Some(SecondOpinion { question, direction })
        } else {
            None
        };
        let messages = |part| rating_messages(standard, &settings, part);
        let part = RatedPart::of(CropSource::Region(0), &settings);
        let region = (part != RatedPart::Whole).then(|| (part, messages(part)));
        let rating = Question::new(messages(RatedPart::Whole), region);
        // An unusable prompt fails for every image, so every prompt is checked now.
        let grids: Vec<Option<Grid>> =
            if settings.cut { Grid::ALL.map(Some).to_vec() } else { vec![None] };
        let second_question = second_opinion.as_ref().map(|second| &second.question);
        for question in std::iter::once(&rating).chain(second_question) {
            for grid in &grids {
                loaded.prompt(&question.whole, 1, *grid)?;
                if let Some((part, messages)) = &question.region {
                    loaded.prompt(messages, part.images(), *grid)?;
                }
            }
        }
        let cut = if settings.cut { "-cut" } else { "" };
        let last = if settings.image == ImagePosition::Last { "-image-last" } else { "" };
        let turns = if settings.turns == Turns::UserOnly { "-user-only" } else { "" };
        let context = if settings.crop_context == CropContext::Whole { "-in-whole" } else { "" };
        let level = if settings.level == LevelSource::Generated { "-generated" } else { "" };
        let info =
            loaded.info(&format!("{VERSION}{cut}{last}{turns}{context}{level}"), &settings)?;
        Ok(Self { loaded, settings, info, rating, head, second_opinion })
    }

    fn rate_batch(&self, batch: &[CropViews]) -> Result<Vec<LevelDistribution>, MplugOwl3Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let encoded = self.encode(batch)?;
        // The first input of each picture and prompt is rated for all of them.
        let first_equal: Vec<usize> = batch
            .iter()
            .map(|input| {
                let first = batch.iter().position(|other| other.is_equal(input));
                first.expect("an input equals itself")
            })
            .collect();
        let mut groups: BTreeMap<PromptKey, Vec<usize>> = BTreeMap::new();
        for (index, input) in
            batch.iter().enumerate().filter(|(index, _)| first_equal[*index] == *index)
        {
            groups.entry((input.grid, input.part)).or_default().push(index);
        }
        let mut ratings = vec![None; batch.len()];
        for (key, members) in groups {
            let of_members: Vec<&EncodedCrop> =
                members.iter().map(|&index| &encoded[index]).collect();
            let rated = self.rate_group(key, &of_members)?;
            for (index, rating) in members.into_iter().zip(rated) {
                ratings[index] = Some(rating);
            }
        }
        let of = |index: usize| ratings[index].clone().expect("every first input is in one group");
        Ok(first_equal.into_iter().map(of).collect())
    }

    /// Encodes the views of all inputs in one pass of the vision tower, and each picture once.
    fn encode(&self, batch: &[CropViews]) -> Result<Vec<EncodedCrop>, MplugOwl3Error> {
        let shown = batch.iter().flat_map(|input| {
            let whole = input.whole.as_ref().map(|whole| (&whole.views, &whole.pixels));
            whole.into_iter().chain([(&input.views, &input.pixels)])
        });
        let shown: Vec<(&Tensor, &Weak<RgbImage>)> = shown.collect();
        let distinct = DistinctPictures::of(&shown, |(_, pixels)| pixels);
        let views: Vec<&Tensor> = distinct.pictures.iter().map(|(views, _)| *views).collect();
        let all = self.loaded.model.encode(&Tensor::cat(&views, 0)?)?;
        let mut embeds = Vec::with_capacity(views.len());
        let mut start = 0;
        for views in views {
            let count = views.dim(0)?;
            embeds.push(all.narrow(0, start, count)?);
            start += count;
        }
        let mut embeds = distinct.per_input(&embeds).into_iter();
        let mut next = || embeds.next().expect("every shown picture is encoded");
        let encoded = batch.iter().map(|input| {
            let whole = input.whole.is_some().then(&mut next);
            let crop = next();
            let all = match &whole {
                Some(whole) => Tensor::cat(&[whole, &crop], 0)?,
                None => crop.clone(),
            };
            Ok(EncodedCrop { crop, all })
        });
        encoded.collect()
    }

    /// Rates crops of one grid and part, from their encoded views.
    fn rate_group(
        &self,
        key: PromptKey,
        crops: &[&EncodedCrop],
    ) -> Result<Vec<LevelDistribution>, MplugOwl3Error> {
        let LoadedMplugOwl3 { model, tokenizer, .. } = &self.loaded;
        let answer = |question: &Question, views: Vec<&Tensor>| -> Result<Tensor, MplugOwl3Error> {
            let embeds = Tensor::cat(&views, 0)?;
            Ok(question.prefix(key, &self.loaded)?.resume(model, &embeds)?.1)
        };
        let hidden = answer(&self.rating, crops.iter().map(|encoded| &encoded.all).collect())?;
        // The levels' own logits are in f32; those of the whole vocabulary in the network's format.
        let logits = self.head.logits(&hidden)?;
        let next = next_tokens(model.decoder(), &hidden, self.head.tokens())?;
        let mut ratings = Vec::with_capacity(next.len());
        for (logits, next) in logits.iter().zip(next) {
            let mut rating =
                LevelDistribution::from_logits(logits)?.with_off_level(next.off_level)?;
            if self.settings.level == LevelSource::Generated {
                let text = answer_text(tokenizer, next.likeliest)?;
                rating = rating.with_answer(GeneratedAnswer::new(text));
            }
            ratings.push(rating);
        }
        let Some(SecondOpinion { question, direction }) = &self.second_opinion else {
            return Ok(ratings);
        };
        // This question is about the crop alone.
        let hidden = answer(question, crops.iter().map(|encoded| &encoded.crop).collect())?;
        let logits = to_cpu(&model.decoder().logits(&hidden)?)?.to_vec2::<f32>()?;
        let with_direction = ratings
            .into_iter()
            .zip(logits)
            .map(|(rating, logits)| rating.with_direction(direction.score(&logits)));
        Ok(with_direction.collect::<Result<_, _>>()?)
    }
}

impl CropViews {
    /// Returns true if both have the same pixels and prompt, and so the same rating.
    fn is_equal(&self, other: &Self) -> bool {
        let is_whole_equal = match (&self.whole, &other.whole) {
            (Some(whole), Some(other)) => whole.pixels.ptr_eq(&other.pixels),
            (None, None) => true,
            _ => false,
        };
        self.part == other.part && self.pixels.ptr_eq(&other.pixels) && is_whole_equal
    }
}

impl Question {
    fn new(whole: Vec<Message>, region: Option<(RatedPart, Vec<Message>)>) -> Self {
        Self { whole, region, prefixes: Mutex::default() }
    }

    /// Returns the image-independent prefix of a prompt, computed on first use.
    fn prefix(
        &self,
        (grid, part): PromptKey,
        loaded: &LoadedMplugOwl3,
    ) -> Result<Arc<Prefix>, MplugOwl3Error> {
        let (part, messages) = match &self.region {
            Some((of_region, messages)) if *of_region == part => (part, messages),
            _ => (RatedPart::Whole, &self.whole),
        };
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prefix) = prefixes.get(&(grid, part)) {
            return Ok(Arc::clone(prefix));
        }
        let prompt = loaded.prompt(messages, part.images(), grid)?;
        let prefix = Arc::new(Prefix::new(&loaded.model, &prompt)?);
        prefixes.insert((grid, part), Arc::clone(&prefix));
        Ok(prefix)
    }
}

impl Scorer for MplugOwl3Scorer {
    type Input = CropViews;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn prepare(&self, crop: &Crop) -> Result<CropViews, RunError> {
        let grid = self.settings.cut.then(|| self.loaded.grid(crop.pixels.dimensions()));
        let views = self.loaded.views(&crop.pixels, grid).map_err(|error| run_error(&error))?;
        let part = RatedPart::of(crop.source, &self.settings);
        let whole = match part {
            RatedPart::Whole | RatedPart::Region => None,
            RatedPart::RegionInWhole => {
                // A region without its picture, as in a warm-up, is shown as its own.
                let picture = crop.picture.as_ref().unwrap_or(&crop.pixels);
                let views = self.loaded.views(picture, None).map_err(|error| run_error(&error))?;
                Some(ShownPicture { views, pixels: Arc::downgrade(picture) })
            }
        };
        Ok(CropViews { views, grid, part, whole, pixels: Arc::downgrade(&crop.pixels) })
    }

    /// Counts the pixels of all views.
    fn cost(input: &CropViews) -> usize {
        let whole = input.whole.as_ref().map_or(0, |whole| whole.views.elem_count());
        (input.views.elem_count() + whole) / 3
    }

    fn rate(&self, batch: &[CropViews]) -> Result<Vec<LevelDistribution>, RunError> {
        self.rate_batch(batch).map_err(|error| match error {
            MplugOwl3Error::Tensor(error) => run_error(&error),
            MplugOwl3Error::Rating(_) => RunError::NotNumbers(error.to_string().into()),
            other => RunError::Batch(other.to_string().into()),
        })
    }

    fn device(&self) -> &Device {
        self.loaded.model.device()
    }
}
