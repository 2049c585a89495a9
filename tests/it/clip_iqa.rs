//! CLIP-IQA as a scorer, from its checkpoint to events, with small random networks: their ratings
//! have the form of real ones, and no meaning.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{ClipCheckpoint, ScorerCheckpoint, WeightsError};
use dog_iqa::engine::{ClassicSegmenter, ClipIqaScorer, Engine, EngineLimits, RunError, Scorer};
use dog_iqa::imaging::{Crop, CropSource};
use dog_iqa::method::{LevelDistribution, Standard, StandardSettings};
use dog_iqa::models::clip_iqa::{Clip, ClipIqaSettings, Config, ConfigHints, Pairs};
use dog_iqa::models::device::dry_run::{dry_run, placeholder_weights};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{command, photo, text};
use crate::clip::{clip, clip_tensors, golden_clip, write_clip};
use crate::conformance;
use crate::goldens::picture;
use crate::hub::{COMMIT, Repository};
use crate::models_hub::{Home, succeeded};
use crate::small_networks::{SmallNetworks, number};
use crate::stream::{Scene, header};

const NAMES: [&str; 2] = ["resnet", "vit"];

fn standard() -> Standard {
    Standard::from_settings(&StandardSettings::default()).unwrap()
}

fn open(folder: &Path, settings: ClipIqaSettings) -> ClipIqaScorer {
    ClipIqaScorer::open(folder, &standard(), settings, DType::F32, &Device::Cpu).unwrap()
}

fn crop(width: u32, height: u32) -> Crop {
    let shade = |x: u32, y: u32| Rgb([3 * x, 5 * y, x + y].map(|value| value.to_le_bytes()[0]));
    Crop {
        source: CropSource::Whole,
        pixels: Arc::new(RgbImage::from_fn(width, height, shade)),
        picture: None,
    }
}

fn rate(scorer: &ClipIqaScorer, crop: &Crop) -> LevelDistribution {
    scorer.rate(&[scorer.prepare(crop).unwrap()]).unwrap().remove(0)
}

#[test]
fn the_scorer_conforms_and_a_batch_changes_no_bit() {
    for name in NAMES {
        let folder = clip(name);
        for pairs in [Pairs::Paper, Pairs::IqaPytorch] {
            let settings = ClipIqaSettings { pairs, ..ClipIqaSettings::default() };
            let scorer = open(folder.path(), settings);
            assert_eq!(scorer.info().name, "clip-iqa-custom");
            assert_eq!(scorer.info().weights.len(), 1);
            conformance::scorer(&scorer, 7, |a, b| a == b);
            let rating = rate(&scorer, &crop(100, 80));
            let raw = rating.raw().unwrap();
            assert_eq!(raw.mapping, pairs.mapping());
            assert!((0.0..=1.0).contains(&raw.value));
            assert!((rating.expected() - (1.0 + 6.0 * raw.value)).abs() < 1e-9);
        }
    }
}

#[test]
fn every_setting_changes_the_rating_and_the_version() {
    let folder = clip("resnet");
    let default = ClipIqaSettings::default();
    let all = [
        default,
        ClipIqaSettings { pairs: Pairs::IqaPytorch, ..default },
        ClipIqaSettings { pixels_max: 50_176, ..default },
    ];
    let rated = all.map(|settings| {
        let scorer = open(folder.path(), settings);
        (scorer.info().version, rate(&scorer, &crop(300, 200)).raw().unwrap().value.to_bits())
    });
    for (index, one) in rated.iter().enumerate() {
        for other in &rated[..index] {
            assert!(one.0 != other.0 && one.1 != other.1, "{index}: {one:?}, {other:?}");
        }
    }
    ClipIqaSettings { pixels_max: 50_175, ..default }.check().unwrap_err();
    ClipIqaSettings { pixels_max: (1 << 26) + 1, ..default }.check().unwrap_err();
}

#[test]
fn attributes_are_added_to_the_same_rating_and_named_in_the_version() {
    let crop = crop(100, 80);
    for name in NAMES {
        let folder = clip(name);
        let scorers = [false, true].map(|attributes| {
            open(folder.path(), ClipIqaSettings { attributes, ..ClipIqaSettings::default() })
        });
        assert_ne!(scorers[0].info().version, scorers[1].info().version);
        let [without, with] = scorers.each_ref().map(|scorer| rate(scorer, &crop));
        assert!(without.attributes().is_empty());
        let names: Vec<&str> = with.attributes().iter().map(|attribute| attribute.name).collect();
        assert_eq!(names, ["bright", "sharp", "clean", "colourful"]);
        for attribute in with.attributes() {
            assert!((0.0..=1.0).contains(&attribute.probability), "{attribute:?}");
        }
        let shares = with.attributes().iter().map(|attribute| attribute.probability.to_bits());
        assert_eq!(shares.collect::<std::collections::BTreeSet<_>>().len(), 4, "{with:?}");
        assert_eq!(with.with_attributes(Vec::new()), without);
    }
}

#[test]
fn crops_are_resized_only_if_the_network_cannot_read_them() {
    let folder = clip("resnet");
    let settings = ClipIqaSettings { pixels_max: 50_176, ..ClipIqaSettings::default() };
    let scorer = open(folder.path(), settings);
    let size = |width, height| {
        let crop = crop(width, height);
        let input = scorer.prepare(&crop).unwrap();
        assert_eq!(Arc::ptr_eq(&input.pixels, &crop.pixels), input.pixels == crop.pixels);
        let (wide, high) = input.pixels.dimensions();
        assert_eq!(ClipIqaScorer::cost(&input), (wide * high) as usize);
        (wide, high)
    };
    assert_eq!(size(224, 224), (224, 224));
    assert_eq!(size(1568, 32), (1568, 32));
    assert_eq!(size(448, 224), (316, 158));
    assert_eq!(size(5, 3), (53, 32));
    let folder = clip("vit");
    let scorer = open(folder.path(), settings);
    let input = scorer.prepare(&crop(70, 300)).unwrap();
    assert_eq!(input.pixels.dimensions(), (32, 32), "the golden network's side");
}

#[test]
fn a_stripe_is_refused_as_an_image_and_rated_as_an_object() {
    for name in NAMES {
        let folder = clip(name);
        let settings = ClipIqaSettings { pixels_max: 50_176, ..ClipIqaSettings::default() };
        let scorer = open(folder.path(), settings);
        for (width, height) in [(603, 3), (3, 603), (65_535, 1)] {
            let error = scorer.prepare(&crop(width, height)).unwrap_err();
            let RunError::Batch(message) = &error else { panic!("{error}") };
            let size = format!("{width}×{height}");
            assert!(
                message.contains(&size) && message.contains("clip_iqa.pixels_max"),
                "{message}"
            );
            rate(&scorer, &Crop { source: CropSource::Region(0), ..crop(width, height) });
        }
        rate(&scorer, &crop(120, 3));
    }
    // Too long to be reduced to what the network reads.
    let folder = clip("resnet");
    let settings = ClipIqaSettings { pixels_max: 50_176, ..ClipIqaSettings::default() };
    let error = open(folder.path(), settings).prepare(&crop(3000, 40)).unwrap_err();
    assert!(error.to_string().contains("3000×40"), "{error}");
}

#[test]
fn weights_that_are_not_numbers_are_an_error_and_never_a_score() {
    for (name, tensor) in [
        ("resnet", "visual.layer3.0.bn2.running_var"),
        ("resnet", "visual.attnpool.c_proj.bias"),
        ("resnet", "ln_final.weight"),
        ("vit", "vision_model.post_layernorm.weight"),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let mut tensors = clip_tensors(name);
            let changed = tensors.get_mut(tensor).unwrap();
            *changed = Tensor::full(value, changed.shape(), &Device::Cpu).unwrap();
            let folder = tempfile::tempdir().unwrap();
            write_clip(folder.path(), name, &tensors);
            let scorer = open(folder.path(), ClipIqaSettings::default());
            let rated = scorer.rate(&[scorer.prepare(&crop(64, 64)).unwrap()]);
            // A variance of infinity is a scale of zero.
            if value.is_infinite() && tensor.ends_with("running_var") {
                rated.unwrap();
                continue;
            }
            let error = rated.unwrap_err();
            assert!(matches!(error, RunError::NotNumbers(_)), "{tensor} {value}: {error}");
        }
    }
}

/// A copy of a golden network that a test may change.
struct Copy {
    name: &'static str,
    folder: TempDir,
    tensors: HashMap<String, Tensor>,
}

impl Copy {
    fn new(name: &'static str) -> Self {
        let path = golden_clip(name).join("model.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        Self { name, folder: tempfile::tempdir().unwrap(), tensors }
    }

    fn zeros(mut self, name: &str, shape: &[usize]) -> Self {
        let zeros = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        self.tensors.insert(name.to_owned(), zeros);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.tensors.remove(name).unwrap();
        self
    }

    fn load(&self) -> Result<Clip, WeightsError> {
        write_clip(self.folder.path(), self.name, &self.tensors);
        ClipCheckpoint::open(self.folder.path())?.load(DType::F32, &Device::Cpu)
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

#[test]
fn a_file_of_another_shape_is_named_with_its_tensor() {
    for (copy, part) in [
        (Copy::new("resnet").without("logit_scale"), "`logit_scale` is missing"),
        (Copy::new("vit").without("logit_scale"), "`logit_scale` is missing"),
        (Copy::new("resnet").zeros("logit_scale", &[2]), "`logit_scale` has the shape [2]"),
        (Copy::new("resnet").zeros("visual.conv2.weight", &[7]), "`visual.conv2.weight`"),
        (Copy::new("resnet").without("visual.layer2.1.bn3.bias"), "visual.layer2.1.bn3.bias"),
        (Copy::new("resnet").zeros("visual.layer5.0.conv1.weight", &[3]), "visual.layer5"),
        (Copy::new("resnet").without("visual.layer3.0.conv1.weight"), "bottlenecks"),
        (Copy::new("resnet").zeros("ln_final.weight", &[17]), "`ln_final.weight`"),
        (Copy::new("vit").zeros("text_projection.weight", &[16, 17]), "`text_projection.weight`"),
        (
            Copy::new("vit").zeros("vision_model.embeddings.position_embedding.weight", &[16, 24]),
            "16 positions",
        ),
        (Copy::new("vit").zeros("visual_projection.weight", &[0, 24]), "visual_projection"),
        (Copy::new("vit").without("text_model.encoder.layers.0.mlp.fc1.weight"), "mlp.fc1.weight"),
    ] {
        let message = copy.error();
        assert!(message.contains(part), "{part}: {message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
    for value in [f32::NAN, 9.0] {
        let mut copy = Copy::new("vit");
        let scale = Tensor::full(value, 1, &Device::Cpu).unwrap();
        copy.tensors.insert("logit_scale".to_owned(), scale);
        assert!(copy.error().contains("`logit_scale` is"), "{}", copy.error());
    }
}

#[test]
fn what_programs_store_besides_the_weights_is_skipped() {
    let copy = Copy::new("resnet")
        .zeros("visual.layer1.0.bn1.num_batches_tracked", &[])
        .zeros("attn_mask", &[12, 12])
        .zeros("context_length", &[]);
    copy.load().unwrap();
    Copy::new("vit").zeros("text_model.embeddings.position_ids", &[1, 12]).load().unwrap();
    // The scale of a published file has no dimension.
    Copy::new("vit").zeros("logit_scale", &[]).load().unwrap();
    // The prefix of a wrapper.
    let mut copy = Copy::new("resnet");
    copy.tensors =
        copy.tensors.into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor)).collect();
    copy.load().unwrap();
}

/// The first values of the feature that `open_clip` 3.3 computes of `odd.png` with the golden
/// ResNet's weights and heads of 32 values. Heads of 64 change each by 3e-4 to 7e-4.
const FEATURE_OF_NARROW_HEADS: [f32; 4] = [-0.671_782_6, 0.561_146_8, 0.477_242_68, -0.198_708_42];

#[test]
fn an_attention_pool_has_the_heads_that_the_configuration_states() {
    let odd = picture(&golden_clip("../metrics/images").join("odd.png"));
    let copy = Copy::new("resnet");
    copy.load().unwrap();
    let config_path = copy.folder.path().join("config.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(&config_path).unwrap()).unwrap();
    let differs = |stated: &dyn Fn(&mut Value)| {
        let mut config = golden.clone();
        stated(&mut config);
        std::fs::write(&config_path, config.to_string()).unwrap();
        let checkpoint = ClipCheckpoint::open(copy.folder.path()).unwrap();
        let clip = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
        let feature = clip.image.feature(odd.pixels()).unwrap();
        let pairs = feature.iter().zip(FEATURE_OF_NARROW_HEADS);
        pairs.map(|(ours, expected)| (ours - expected).abs()).fold(0.0, f32::max)
    };
    assert!(differs(&|_| ()) > 2e-4, "the golden network has wide heads");
    assert!(differs(&|config| config["visual_heads"] = 4.into()) < 1e-5);
    let by_width = differs(&|config| {
        config.as_object_mut().unwrap().remove("visual_heads");
        config["vision_cfg"]["head_width"] = 32.into();
    });
    assert!(by_width < 1e-5, "{by_width}");
}

#[test]
fn other_files_are_refused_with_what_to_use() {
    let copy = Copy::new("vit");
    let folder = copy.folder.path();
    let open = || ClipCheckpoint::open(folder).unwrap_err().to_string();
    let scorer = |folder: &Path| {
        let settings = ClipIqaSettings::default();
        ClipIqaScorer::open(folder, &standard(), settings, DType::F32, &Device::Cpu).unwrap_err()
    };
    copy.load().unwrap();
    assert!(scorer(folder).to_string().contains("60 tokens"), "{}", scorer(folder));
    // Heads and activation are in the configuration.
    std::fs::write(folder.join("config.json"), r#"{"vision_config": {"hidden_act": "gelu"}}"#)
        .unwrap();
    assert!(open().contains("quick_gelu"), "{}", open());
    std::fs::write(folder.join("config.json"), "{").unwrap();
    assert!(open().contains("config.json") && open().contains("JSON"), "{}", open());
    std::fs::remove_file(folder.join("config.json")).unwrap();
    assert!(open().contains("number of heads"), "{}", open());
    // The ViT of OpenCLIP, and the image tower of another program.
    let zeros = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    for (name, part) in [("visual.class_embedding", "clip-iqa-vit-b-16"), ("stem", "not the")] {
        let tensors = HashMap::from([(name.to_owned(), zeros.clone())]);
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
        assert!(open().contains(part), "{}", open());
        let refused = ScorerCheckpoint::open(folder).unwrap_err().to_string();
        assert_eq!(refused.contains(" CLIP "), name.starts_with("visual"), "{refused}");
    }
}

#[test]
fn half_formats_rate_from_the_same_file() {
    for name in NAMES {
        let folder = clip(name);
        let settings = ClipIqaSettings::default();
        let raw = |dtype| {
            let scorer =
                ClipIqaScorer::open(folder.path(), &standard(), settings, dtype, &Device::Cpu);
            let scorer = scorer.unwrap();
            assert!(scorer.info().version.contains(dtype.as_str()));
            rate(&scorer, &crop(80, 64)).raw().unwrap().value
        };
        let single = raw(DType::F32);
        for dtype in [DType::BF16, DType::F16] {
            assert!((raw(dtype) - single).abs() < 0.05, "{name} {dtype:?}");
        }
    }
}

#[test]
fn a_gpu_runs_recorded_operations_only() {
    for (name, (width, height)) in NAMES.into_iter().zip([(64, 48), (32, 32)]) {
        let weights = Copy::new(name);
        write_clip(weights.folder.path(), name, &weights.tensors);
        let config = ClipCheckpoint::open(weights.folder.path()).unwrap().config().clone();
        let build = || Clip::new(&config, &placeholder_weights(DType::BF16)).unwrap();
        let (clip, _) = dry_run(|_, _| 0.0, build);
        let rgb = crop(width, height).pixels;
        let (feature, launches) = dry_run(|_, _| 0.5, || clip.image.feature(&rgb).unwrap());
        assert_eq!(feature.len(), 16);
        assert!(launches.len() > 20, "{}", launches.len());
    }
}

#[test]
fn the_shape_is_read_from_the_tensors() {
    for name in NAMES {
        let checkpoint = ClipCheckpoint::open(&golden_clip(name)).unwrap();
        assert_eq!((checkpoint.config().embed_dim, checkpoint.config().name()), (16, "custom"));
        // Without the configuration the heads are unknown.
        let shapes = checkpoint.weights().shapes();
        assert!(Config::of_shapes(shapes, ConfigHints::default()).is_err());
    }
}

#[test]
fn a_whole_clip_is_pulled_and_not_the_image_tower_next_to_it() {
    let folder = clip("resnet");
    let repository = Repository::default()
        .with("model.safetensors", b"the image tower of another program".to_vec())
        .with("config.json", b"{\"architecture\": \"resnet50_clip\"}".to_vec())
        .with_file("open_clip_model.safetensors", &folder.path().join("model.safetensors"))
        .with_file("open_clip_config.json", &folder.path().join("config.json"));
    let home = Home::new(repository);
    succeeded(&home.pull("some/clip"));
    let snapshot = home.repository("models--some--clip").join("snapshots").join(COMMIT);
    assert!(!snapshot.join("model.safetensors").exists());
    assert!(snapshot.join("open_clip_config.json").exists());
    let checkpoint = ClipCheckpoint::open(&snapshot).unwrap();
    checkpoint.load(DType::F32, &Device::Cpu).unwrap();
    let verified = home.run(&["models", "verify", "some/clip"], &[]);
    assert!(succeeded(&verified).contains("some/clip: CLIP custom"), "{verified:?}");
}

/// Returns the arguments of a command with the small SAM 2 and a CLIP.
fn settings(networks: &SmallNetworks, clip: &Path, more: &[&str]) -> Vec<String> {
    let scorer = format!("engine.dog_iqa.scorer={}", clip.display());
    let more = more.iter().map(|setting| (*setting).to_owned());
    let all = networks.settings().into_iter().chain([scorer]).chain(more);
    all.flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

#[test]
fn an_event_names_the_scorer_its_own_score_and_the_mapping() {
    let networks = SmallNetworks::new();
    for name in NAMES {
        let folder = clip(name);
        let attributes = "engine.dog_iqa.clip_iqa.attributes=true";
        let more = ["engine.dog_iqa.clip_iqa.pairs=iqa-pytorch", attributes];
        let output = command(&["score", "--format", "jsonl"])
            .args(settings(&networks, folder.path(), &more))
            .arg(photo("cat.jpg"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let event: Value = serde_json::from_str(text(&output.stdout).trim()).unwrap();
        let engine = &event["engine"];
        assert!(engine["scorer"].as_str().unwrap().starts_with("clip-iqa-custom/1-cpu-f32-"));
        let changed = &engine["changed_settings"]["engine.dog_iqa.clip_iqa.pairs"];
        assert_eq!(changed, "iqa-pytorch", "{engine}");
        let ran_with = json!({"clip_iqa": {"pairs": "iqa-pytorch", "pixels_max": 1 << 22}});
        assert_eq!(engine["scorer_settings"], ran_with);
        let objects = event["objects"].as_array().unwrap();
        assert!(!objects.is_empty());
        let ratings = objects.iter().map(|object| &object["rating"]).chain([&event["global"]]);
        for rating in ratings {
            assert_eq!(rating["mapping"], "clip-iqa-pytorch-pairs-linear");
            let attributes = rating["attributes"].as_object().unwrap();
            assert_eq!(
                attributes.keys().collect::<Vec<_>>(),
                ["bright", "clean", "colourful", "sharp"]
            );
            let (raw, expected) = (number(&rating["raw"]), number(&rating["expected"]));
            assert!((expected - (1.0 + 6.0 * raw)).abs() < 1e-9, "{rating}");
        }
    }
}

#[test]
fn check_reports_the_engine_and_wrong_settings() {
    let networks = SmallNetworks::new();
    let folder = clip("resnet");
    let line = |more: &[&str]| {
        let kafka = ["kafka.bootstrap_servers=127.0.0.1:9", "kafka.probe_timeout=10ms"];
        let output = command(&["check"])
            .args(settings(&networks, folder.path(), &[&kafka[..], more].concat()))
            .env("HF_HOME", folder.path())
            .env_remove("HF_HUB_CACHE")
            .output()
            .unwrap();
        let lines = text(&output.stdout).lines().map(str::to_owned);
        lines.into_iter().find(|line| line.contains(" engine: ")).unwrap()
    };
    let valid = line(&[]);
    assert!(valid.starts_with("ok ") && valid.contains("dog-iqa"), "{valid}");
    let wrong = line(&["engine.dog_iqa.clip_iqa.pixels_max=7"]);
    assert!(wrong.starts_with("broken") && wrong.contains("clip_iqa: pixels_max is 7"), "{wrong}");
    let absent = line(&["engine.dog_iqa.scorer=clip-iqa"]);
    for part in ["`dogiqa models pull clip-iqa`", "408", "MIT"] {
        assert!(absent.contains(part), "{part}: {absent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_stream_it_rates_and_refuses_a_stripe() {
    let folder = clip("resnet");
    let engine = move || {
        let settings = ClipIqaSettings { pixels_max: 50_176, ..ClipIqaSettings::default() };
        let scorer = open(folder.path(), settings);
        let segmenter = ClassicSegmenter::new();
        Engine::new("test", "1", segmenter, scorer, EngineLimits::default()).unwrap()
    };
    let mut scene = Scene::with_engine(1, engine).await;
    let mut stripe = std::io::Cursor::new(Vec::new());
    crop(900, 2).pixels.write_to(&mut stripe, image::ImageFormat::Png).unwrap();
    scene.objects.push(("stripe.png".to_owned(), stripe.into_inner()));
    let worker = scene.start().await;
    scene.refer("photo", 2, "a.png").await;
    scene.refer("stripe", 1, "stripe.png").await;
    for event in &scene.events(2).await {
        assert_eq!(event["global"]["mapping"], "clip-paper-pair-linear", "{event}");
        assert!((0.0..=1.0).contains(&number(&event["global"]["raw"])));
    }
    let dead_letters = scene.dead_letters(1).await;
    assert_eq!(header(&dead_letters[0], "dogiqa.error.code").unwrap(), "score.failed");
    let message = header(&dead_letters[0], "dogiqa.error.message").unwrap();
    assert!(message.contains("900×2") && message.contains("pixels_max"), "{message}");
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.dead_letters), (2, 1));
}
