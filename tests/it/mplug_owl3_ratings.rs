//! Ratings of mPLUG-Owl3: a single pass with a cached prefix, and batches in any order. The golden
//! networks have 300 tokens, too few for a real prompt. Tests with real prompts use random networks
//! of the same shape with the real vocabulary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::MplugOwl3Checkpoint;
use dog_iqa::engine::{MplugOwl3Error, MplugOwl3Scorer, Scorer};
use dog_iqa::imaging::{Crop, CropSource};
use dog_iqa::method::{
    CustomStandard, LevelDistribution, Standard, StandardForm, StandardSettings,
};
use dog_iqa::models::mplug_owl3::{
    CropContext, Direction, Generation, Greedy, Grid, ImagePosition, LevelHead, LevelSource,
    MplugOwl3, Poles, Prefix, Prompt, RatedPart, RatingSettings, Turns, rating_messages, stack,
    views,
};
use image::{Rgb, RgbImage};

use crate::conformance;
use crate::goldens::tensors;
use crate::goldens_mplug_owl3::all_folders;
use crate::goldens_mplug_owl3_processor::tokenizer;
use crate::qwen2::tokenizer_json;
use crate::small_networks::{VOCABULARY, checkpoint_with_real_vocabulary};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

const GENERATIONS: [&str; 3] = ["mplug_owl3_240728", "mplug_owl3_241014", "mplug_owl3_241101"];

fn standard() -> Standard {
    Standard::from_settings(&StandardSettings::default()).unwrap()
}

fn scorer(folder: &Path, settings: RatingSettings) -> MplugOwl3Scorer {
    MplugOwl3Scorer::open(folder, &standard(), settings, DType::F32, &Device::Cpu).unwrap()
}

/// Returns true if two ratings differ only by rounding, in the sixth digit of their probabilities.
fn alike_to_rounding(a: &LevelDistribution, b: &LevelDistribution) -> bool {
    let near = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance;
    let shares = a.probabilities().iter().zip(b.probabilities());
    let second = match (a.direction(), b.direction()) {
        (Some(a), Some(b)) => near(a, b, 2e-4 * a.abs().max(1.0)),
        (None, None) => true,
        _ => false,
    };
    second && shares.into_iter().all(|(a, b)| near(*a, *b, 2e-5))
}

#[test]
fn the_scorer_conforms_in_every_generation_and_mode() {
    for name in GENERATIONS {
        let folder = checkpoint_with_real_vocabulary(name);
        for settings in [
            RatingSettings::default(),
            RatingSettings { cut: true, direction: true, ..RatingSettings::default() },
            RatingSettings { image: ImagePosition::Last, ..RatingSettings::default() },
            RatingSettings {
                crop_context: CropContext::Whole,
                direction: true,
                ..RatingSettings::default()
            },
        ] {
            conformance::scorer(&scorer(folder.path(), settings), 7, alike_to_rounding);
        }
    }
}

/// Returns objects of one picture, and the picture.
fn objects(count: usize) -> (Vec<Crop>, Crop) {
    let whole = crops(1).remove(0);
    let objects = crops(count).into_iter().enumerate().map(|(index, crop)| Crop {
        source: CropSource::Region(index),
        picture: Some(Arc::clone(&whole.pixels)),
        ..crop
    });
    (objects.collect(), whole)
}

#[test]
fn an_object_next_to_the_whole_picture_has_the_rating_of_the_prompt_with_both() {
    for (name, image) in [
        (GENERATIONS[0], ImagePosition::First),
        (GENERATIONS[1], ImagePosition::Last),
        (GENERATIONS[2], ImagePosition::First),
    ] {
        let folder = checkpoint_with_real_vocabulary(name);
        let alone = RatingSettings { image, ..RatingSettings::default() };
        let settings = RatingSettings { crop_context: CropContext::Whole, ..alone.clone() };
        let scorers = [alone, settings.clone()].map(|settings| scorer(folder.path(), settings));
        assert_ne!(scorers[0].info().version, scorers[1].info().version);
        let (objects, whole) = objects(5);
        let rate = |scorer: &MplugOwl3Scorer, crops: &[Crop]| {
            let inputs: Vec<_> = crops.iter().map(|crop| scorer.prepare(crop).unwrap()).collect();
            scorer.rate(&inputs).unwrap()
        };
        // The whole picture is asked about as without a context.
        let whole = std::slice::from_ref(&whole);
        assert!(alike_to_rounding(&rate(&scorers[0], whole)[0], &rate(&scorers[1], whole)[0]));
        // The network by itself, on the prompt as a whole.
        let checkpoint = MplugOwl3Checkpoint::open(folder.path()).unwrap();
        let model = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
        let tokenizer = checkpoint.tokenizer().unwrap();
        let messages = rating_messages(&standard(), &settings, RatedPart::RegionInWhole);
        let prompt = Prompt::new(&messages, &tokenizer).unwrap();
        assert_eq!(prompt.image_starts.len(), 2);
        let levels: Vec<u32> =
            (1..=7).map(|level: u8| tokenizer.token(&level.to_string()).unwrap()).collect();
        let head = LevelHead::new(model.decoder(), &levels).unwrap();
        let mixed = [&objects[..], whole].concat();
        let together = rate(&scorers[1], &mixed);
        for (object, rating) in objects.iter().zip(&together) {
            let single = rate(&scorers[1], std::slice::from_ref(object)).remove(0);
            assert!(alike_to_rounding(&single, rating), "a batch of n equals n of one");
            assert!(!alike_to_rounding(
                &rate(&scorers[0], std::slice::from_ref(object))[0],
                rating
            ));
            let size = u32::try_from(model.config().vision_config.image_size).unwrap();
            let shown = [&whole[0].pixels, &object.pixels]
                .map(|pixels| views(pixels, size, None).remove(0));
            let embeds = model.encode(&stack(&shown).unwrap()).unwrap();
            let decoder = model.decoder();
            let mut cache = decoder.empty_cache(1);
            decoder.cache_image_kv(&embeds, &mut cache, &prompt.image_starts).unwrap();
            let tokens = decoder.embed(&[&prompt.ids]).unwrap();
            let hidden = decoder.run_to_end(tokens, 0, &mut cache).unwrap();
            let logits = head.logits(&hidden).unwrap().remove(0);
            let expected = LevelDistribution::from_logits(&logits).unwrap();
            for (a, b) in expected.probabilities().iter().zip(rating.probabilities()) {
                assert!((a - b).abs() < 2e-5, "{name}: {expected:?}, {rating:?}");
            }
        }
    }
}

#[test]
fn settings_that_contradict_a_context_are_refused() {
    let whole = RatingSettings { crop_context: CropContext::Whole, ..RatingSettings::default() };
    whole.check().unwrap();
    for settings in [
        RatingSettings { cut: true, ..whole.clone() },
        RatingSettings { turns: Turns::UserOnly, ..whole },
    ] {
        let error = settings.check().unwrap_err();
        assert!(error.contains("crop_context"), "{error}");
    }
}

/// Returns crops of different sizes and contents.
fn crops(count: usize) -> Vec<Crop> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut paint = || {
        let (width, height) = (random.u32(8..200), random.u32(8..200));
        let (step, shift) = (random.u32(1..40), random.u32(0..200));
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([x * step + shift, y * step, (x + y) * shift].map(|value| value.to_le_bytes()[0]))
        })
    };
    (0..count)
        .map(|_| Crop {
            source: CropSource::Whole,
            pixels: std::sync::Arc::new(paint()),
            picture: None,
        })
        .collect()
}

#[test]
fn a_rating_does_not_depend_on_the_batch_or_the_order() {
    for (name, cut) in [
        (GENERATIONS[0], false),
        (GENERATIONS[1], false),
        (GENERATIONS[1], true),
        (GENERATIONS[2], false),
    ] {
        let folder = checkpoint_with_real_vocabulary(name);
        let scorer = scorer(folder.path(), RatingSettings { cut, ..RatingSettings::default() });
        let inputs: Vec<_> = crops(32).iter().map(|crop| scorer.prepare(crop).unwrap()).collect();
        let alone: Vec<LevelDistribution> = inputs
            .iter()
            .map(|input| scorer.rate(std::slice::from_ref(input)).unwrap().remove(0))
            .collect();
        let distinct = alone.iter().any(|rating| !alike_to_rounding(rating, &alone[0]));
        assert!(distinct, "crops have different ratings");
        let mut random = fastrand::Rng::with_seed(9);
        for size in [2, 7, 32] {
            let mut order: Vec<usize> = (0..inputs.len()).collect();
            random.shuffle(&mut order);
            for batch in order.chunks(size) {
                let shuffled: Vec<_> = batch.iter().map(|&index| inputs[index].clone()).collect();
                let together = scorer.rate(&shuffled).unwrap();
                for (&index, rating) in batch.iter().zip(&together) {
                    assert!(alike_to_rounding(rating, &alone[index]), "{size}: crop {index}");
                }
            }
        }
    }
}

/// Returns prompts within the golden networks' 300 tokens, with one or three images.
fn small_prompts(generation: Generation) -> Vec<Prompt> {
    let image = [27, 91, 105, 91, 29];
    let with = |before: &[u32], images: usize, after: &[u32]| {
        let mut ids = before.to_vec();
        let mut image_starts = Vec::new();
        for _ in 0..images {
            image_starts.push(ids.len());
            ids.extend(image);
            ids.push(11);
        }
        ids.extend(after);
        Prompt { ids, image_starts }
    };
    let mut prompts = vec![
        with(&[3, 8, 19, 44, 5, 100, 7], 1, &[9, 201, 33, 280, 5]),
        with(&[], 1, &[9, 201]),
        with(&[250, 4], 3, &[7]),
    ];
    if generation == Generation::V241101 {
        // The placeholder's first token is the last token, and attends to the image.
        prompts.push(Prompt { ids: vec![6, 70, 27], image_starts: vec![2] });
    }
    prompts
}

/// Returns the hidden state of the prompt's last token, computed in one pass.
fn without_prefix(model: &MplugOwl3, prompt: &Prompt, embeds: &Tensor) -> Tensor {
    let decoder = model.decoder();
    let mut cache = decoder.empty_cache(1);
    decoder.cache_image_kv(embeds, &mut cache, &prompt.image_starts).unwrap();
    let xs = decoder.embed(&[&prompt.ids]).unwrap();
    let xs = decoder.run(xs, 0..decoder.layers().len(), &mut cache).unwrap();
    let last = xs.narrow(1, prompt.ids.len() - 1, 1).unwrap().squeeze(1).unwrap();
    decoder.norm().forward(&last).unwrap()
}

fn close(one: &Tensor, other: &Tensor) -> bool {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (one, other) = (values(one), values(other));
    let largest = one.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    one.len() == other.len() && one.iter().zip(&other).all(|(a, b)| (a - b).abs() <= 2e-5 * largest)
}

#[test]
fn a_cached_prefix_gives_the_result_of_the_whole_prompt() {
    for folder in all_folders() {
        let model =
            MplugOwl3Checkpoint::open(&folder).unwrap().load(DType::F32, &Device::Cpu).unwrap();
        let io = tensors(&folder.join("io.safetensors"));
        for prompt in small_prompts(model.generation()) {
            let views = prompt.image_starts.len();
            let prefix = Prefix::new(&model, &prompt).unwrap();
            let images = 7 / views;
            let embeds = io["vision.image_embeds"].narrow(0, 0, images * views).unwrap();
            let (_, hidden) = prefix.resume(&model, &embeds).unwrap();
            for image in 0..images {
                let own = embeds.narrow(0, image * views, views).unwrap();
                let whole = without_prefix(&model, &prompt, &own);
                let reused = hidden.narrow(0, image, 1).unwrap();
                assert!(close(&whole, &reused), "{}: {prompt:?}", folder.display());
            }
        }
    }
}

/// The single pass with a cached prefix picks the level that greedy generation writes after the
/// whole prompt.
#[test]
fn the_single_pass_picks_the_level_that_generation_writes() {
    for folder in all_folders() {
        let model =
            MplugOwl3Checkpoint::open(&folder).unwrap().load(DType::F32, &Device::Cpu).unwrap();
        let decoder = model.decoder();
        let io = tensors(&folder.join("io.safetensors"));
        let prompt = small_prompts(model.generation()).remove(0);
        let prefix = Prefix::new(&model, &prompt).unwrap();
        for image in 0..7 {
            let embeds = io["vision.image_embeds"].narrow(0, image, 1).unwrap();
            let whole = without_prefix(&model, &prompt, &embeds);
            let written =
                Greedy::new(decoder, decoder.empty_cache(1), whole).likeliest(300).unwrap()[0];
            // Nine tokens are the levels, and the written one is one of them.
            let first = written / 9 * 9;
            let tokens: Vec<u32> = (first..(first + 9).min(300)).collect();
            let head = LevelHead::new(decoder, &tokens).unwrap();
            let (_, hidden) = prefix.resume(&model, &embeds).unwrap();
            let logits = head.logits(&hidden).unwrap().remove(0);
            let level = LevelDistribution::from_logits(&logits).unwrap().level();
            assert_eq!(tokens[usize::from(level) - 1], written, "{}", folder.display());
        }
    }
}

/// The prompt of a standard is the concatenation of its parts' tokens.
#[test]
fn the_prompts_of_all_standards_are_the_tokens_of_their_chunks() {
    let tokenizer = tokenizer();
    let ids = |text: &str| tokenizer.encode(text).unwrap();
    for k in [3, 5, 7, 9] {
        for form in [StandardForm::Number, StandardForm::Word, StandardForm::Sentence] {
            let standard = Standard::builtin(k, form).unwrap();
            let (system, user) = (standard.system_message(), standard.user_message());
            let prompt = |image| {
                let settings = RatingSettings { image, ..RatingSettings::default() };
                let messages = rating_messages(&standard, &settings, RatedPart::Whole);
                Prompt::new(&messages, &tokenizer).unwrap()
            };
            let last = prompt(ImagePosition::Last);
            assert_eq!(
                last.ids.len() - last.image_starts[0],
                5 + 5,
                "only the image and the end of the prompt follow"
            );
            let prompt = prompt(ImagePosition::First);
            // 151644 <|im_start|>, 8948 system, 872 user, 77091 assistant, 198 newline,
            // 151645 <|im_end|>.
            let before =
                [&[151_644, 8948, 198], &ids(system)[..], &[151_645, 198, 151_644, 872, 198]];
            let before = before.concat();
            let after =
                [&ids(&format!("\n{user}"))[..], &[151_645, 198, 151_644, 77_091, 198]].concat();
            assert_eq!(prompt.image_starts, [before.len()]);
            assert_eq!(prompt.ids, [&before[..], &[27, 91, 1805, 91, 29], &after].concat());
        }
    }
    for (level, id) in (1..=9).zip(16..) {
        assert_eq!(tokenizer.token(&level.to_string()).unwrap(), id);
    }
}

#[test]
fn a_rating_has_a_direction_only_if_it_is_enabled() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241014");
    let rate = |direction| {
        let settings = RatingSettings { direction, ..RatingSettings::default() };
        let scorer = scorer(folder.path(), settings);
        let input = scorer.prepare(&crops(1)[0]).unwrap();
        scorer.rate(&[input]).unwrap().remove(0)
    };
    let (with, without) = (rate(true), rate(false));
    assert!(with.direction().is_some_and(f64::is_finite));
    assert_eq!(without.direction(), None);
    assert_eq!(with.level(), without.level());
}

/// The whole picture and a region whose box is the whole picture share their pixels. Only the
/// prompt of the authors' program differs for a region.
#[test]
fn crops_that_share_their_pixels_are_rated_alike_unless_their_prompts_differ() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_240728");
    let [one, other] = &crops(2)[..] else { panic!("two crops") };
    let region = Crop { source: CropSource::Region(0), ..one.clone() };
    let copy = Crop { pixels: Arc::new((*one.pixels).clone()), ..one.clone() };
    for turns in [Turns::SystemAndUser, Turns::UserOnly] {
        let scorer = scorer(folder.path(), RatingSettings { turns, ..RatingSettings::default() });
        let mut inputs = [one, &region, other, &copy].map(|crop| scorer.prepare(crop).unwrap());
        let alone = scorer.rate(&inputs[1..2]).unwrap().remove(0);
        // No network reads this view: the pixels are those of the first crop.
        inputs[1].views = Tensor::zeros((1, 3, 5, 5), DType::U8, &Device::Cpu).unwrap();
        let ratings = scorer.rate(&inputs).unwrap();
        assert_eq!(ratings.len(), 4);
        assert_eq!(ratings[0] == ratings[1], turns == Turns::SystemAndUser, "{turns:?}");
        assert_ne!(ratings[0], ratings[2]);
        let apart = (ratings[0].expected() - ratings[3].expected()).abs();
        assert!(apart < 1e-4, "a copy of the pixels has the same rating, up to rounding: {apart}");
        let apart = (ratings[1].expected() - alone.expected()).abs();
        assert!(apart < 1e-4, "the region alone is rated like in the batch: {apart}");
    }
}

#[test]
fn a_prompt_of_the_authors_program_keeps_the_image_between_standard_and_question() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_240728");
    let settings = RatingSettings {
        turns: Turns::UserOnly,
        image: ImagePosition::Last,
        ..RatingSettings::default()
    };
    let message = settings.check().unwrap_err();
    assert!(message.contains("user-only") && message.contains("image"), "{message}");
    let settings = RatingSettings {
        level: LevelSource::Generated,
        turns: Turns::UserOnly,
        ..RatingSettings::default()
    };
    settings.check().unwrap();
    let scorer = scorer(folder.path(), settings);
    assert!(scorer.info().version.contains("-user-only-generated-"), "{}", scorer.info().version);
    let rating = scorer.rate(&[scorer.prepare(&crops(1)[0]).unwrap()]).unwrap().remove(0);
    assert_eq!(rating.level(), rating.answer().unwrap().level());
}

#[test]
fn a_direction_points_from_bad_words_to_good_ones() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let checkpoint = MplugOwl3Checkpoint::open(folder.path()).unwrap();
    let (model, tokenizer) =
        (checkpoint.load(DType::F32, &Device::Cpu).unwrap(), checkpoint.tokenizer().unwrap());
    let one = |word: &str| vec![word.to_owned()];
    let poles = Poles { good: one("perfect"), bad: one("bad") };
    let turned = Poles { good: poles.bad.clone(), bad: poles.good.clone() };
    let direction = |poles| Direction::new(model.decoder(), &tokenizer, poles).unwrap();
    let (direction, turned) = (direction(&poles), direction(&turned));
    let score = |direction: &Direction, word: &str| {
        let mut logits = vec![0.0; VOCABULARY];
        logits[tokenizer.token(word).unwrap() as usize] = 10.0;
        direction.score(&logits)
    };
    // Two random embeddings are nearly orthogonal, so each is about 45 degrees from their
    // difference.
    assert!(score(&direction, " perfect") > 4.0 && score(&direction, " bad") < -4.0);
    for word in [" perfect", " bad", " table"] {
        assert!((score(&direction, word) + score(&turned, word)).abs() < 1e-4, "{word}");
    }
}

#[test]
fn an_invalid_scorer_is_refused_with_a_message() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_240728");
    let open = |path: &Path, standard: &Standard, settings| {
        MplugOwl3Scorer::open(path, standard, settings, DType::F32, &Device::Cpu).unwrap_err()
    };
    let words = ["bad", "as in <|image|>"].map(str::to_owned).to_vec();
    let custom = CustomStandard { name: "odd".to_owned(), words, sentences: Vec::new() };
    let standard_of = |levels, form, own| {
        let own = Some(own);
        let settings = StandardSettings { levels, form, own, ..StandardSettings::default() };
        Standard::from_settings(&settings).unwrap()
    };
    let odd = standard_of(2, StandardForm::Word, custom);
    let error = open(folder.path(), &odd, RatingSettings::default());
    assert!(matches!(error, MplugOwl3Error::Placeholder), "{error}");

    let mut settings = RatingSettings { direction: true, ..RatingSettings::default() };
    settings.poles.bad.clear();
    let message = open(folder.path(), &standard(), settings).to_string();
    assert!(message.contains("needs words"), "{message}");

    // The network has 512 positions, and this standard has more tokens.
    let sentences = ["0 ".repeat(190), "1 ".repeat(190), "2 ".repeat(190)].to_vec();
    let words = ["a", "b", "c"].map(str::to_owned).to_vec();
    let custom = CustomStandard { name: "long".to_owned(), words, sentences };
    let long = standard_of(3, StandardForm::Sentence, custom);
    let error = open(folder.path(), &long, RatingSettings::default());
    assert!(matches!(error, MplugOwl3Error::TooLong { most: 512, .. }), "{error}");

    // The golden network has 300 tokens.
    let small = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("mplug_owl3_240728").join(file), small.path().join(file)).unwrap();
    }
    let message = open(small.path(), &standard(), RatingSettings::default()).to_string();
    assert!(message.contains("tokenizer.json") && message.contains("comes with"), "{message}");
    std::fs::write(small.path().join("tokenizer.json"), "{").unwrap();
    let message = open(small.path(), &standard(), RatingSettings::default()).to_string();
    assert!(message.contains("was the download complete?"), "{message}");
    std::fs::write(small.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    let message = open(small.path(), &standard(), RatingSettings::default()).to_string();
    assert!(message.contains("300 rows"), "{message}");
}

#[test]
fn the_cost_of_a_split_crop_is_that_of_its_views() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241014");
    let crop = &crops(1)[0];
    let cost = |cut| {
        let settings = RatingSettings { cut, ..RatingSettings::default() };
        let views = scorer(folder.path(), settings).prepare(crop).unwrap();
        MplugOwl3Scorer::cost(&views)
    };
    let Grid { rows, columns } = Grid::choose(crop.pixels.width(), crop.pixels.height(), 60);
    assert_eq!(cost(false), 60 * 60);
    assert_eq!(cost(true), 60 * 60 * (rows * columns + 1) as usize);
}
