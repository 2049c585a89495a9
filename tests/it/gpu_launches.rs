//! The launches of one image on a GPU, counted by dry runs of the real networks at their real
//! shapes. `docs/gpu.md` has the tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use candle_core::{DType, Device, Tensor};
use dog_iqa::models::device::dry_run::{Kernel, Launch, dry_run, placeholder, placeholder_weights};
use dog_iqa::models::mplug_owl3::{
    Config, Generation, LevelHead, MplugOwl3, Prefix, Prompt, Release, Tensors, next_tokens,
};
use dog_iqa::models::qwen3_5_vl::{
    Config as QwenConfig, Grid as QwenGrid, Part, Patches, Qwen3_5Vl, Size as QwenSize, TokenTable,
    TokenTables,
};
use dog_iqa::models::sam2::amg::{AmgPreset, AmgSettings, MaskGenerator, PreparedImage};
use dog_iqa::models::sam2::{Config as Sam2Config, PointLabel, Prompts, Sam2, Size};

use crate::golden_folders::announce;
use crate::gpu_cost::{Cost, Rates};

/// Images of a batch of the segmenter on a GPU.
const IMAGES: usize = 4;
/// Crops of a batch of the scorer on a GPU.
const CROPS: usize = 32;
/// Crops of an image: the whole, and the mean number of objects.
const CROPS_PER_IMAGE: f64 = 9.0;

/// The stages of the method, each with its launches for one image.
struct Stages {
    rows: Vec<(&'static str, Cost)>,
    /// The launches of all batches, each with the share that belongs to one image.
    launches: Vec<(Launch, f64)>,
}

impl Stages {
    fn add(&mut self, name: &'static str, launches: &[Launch], factor: f64) {
        self.rows.push((name, cost_of(launches, factor)));
        self.launches.extend(launches.iter().map(|launch| (*launch, factor)));
    }

    fn sum(&self) -> Cost {
        let mut sum = Cost::default();
        for (_, cost) in &self.rows {
            add(&mut sum, cost, 1.0);
        }
        sum
    }
}

/// Every mask passes the first filter. A fifth of each mask is near an object.
fn value_on_host(shape: &[usize], index: usize) -> f32 {
    match shape {
        [_, 4] => 1.0,
        // Blocks of background: 16 in a row of a mask, 256 rows, a fifth of which have an object.
        [_, 1] => f32::from(u8::from(index % 4096 / 16 >= 51)),
        _ => -8.0,
    }
}

fn sam2(dtype: DType) -> Sam2 {
    let config = Sam2Config::of_size(Size::Large);
    dry_run(|_, _| 0.0, || Sam2::new(&config, &placeholder_weights(dtype)).unwrap()).0
}

fn owl(dtype: DType) -> (MplugOwl3, LevelHead, Prefix) {
    let config = Config::of_release(Release::B7V241101);
    // The paper's prompt: 128 tokens, the image in the middle.
    let prompt = Prompt { ids: vec![7; 128], image_starts: vec![86] };
    let build = || {
        let tensors = Tensors::new(placeholder_weights(dtype), None);
        let model = MplugOwl3::new(&config, Generation::V241101, &tensors).unwrap();
        let head = LevelHead::new(model.decoder(), &[16, 17, 18, 19, 20, 21, 22]).unwrap();
        let prefix = Prefix::new(&model, &prompt).unwrap();
        (model, head, prefix)
    };
    dry_run(|_, _| 0.0, build).0
}

fn blank_images() -> Vec<PreparedImage> {
    let crops = Tensor::zeros((1, 3, 1024, 1024), DType::F32, &Device::Cpu).unwrap();
    (0..IMAGES).map(|_| PreparedImage { crops: crops.clone(), size: (640, 480) }).collect()
}

/// The generator of the reference: 1,024 clicks an image, of which every mask is drawn.
fn segmentation(stages: &mut Stages, model: &Sam2, settings: &AmgSettings) {
    let images = blank_images();
    let stacked = Tensor::zeros((IMAGES, 3, 1024, 1024), DType::F32, &Device::Cpu).unwrap();
    let (encoded, launches) = dry_run(value_on_host, || model.encode(&stacked).unwrap());
    let (_, all) = dry_run(value_on_host, || {
        let whole = MaskGenerator::new(model.clone(), settings.clone()).unwrap();
        whole.generate(&images).unwrap()
    });
    let share = 1.0 / IMAGES as f64;
    stages.rows.push(("SAM 2.1 large: encoder", cost_of(&launches, share)));

    let count = settings.points_per_batch;
    let batches = (settings.points_per_side.pow(2) as f64) / count as f64;
    let points = placeholder((count, 1, 2), DType::F32).unwrap();
    let labels = vec![PointLabel::Foreground; count];
    let image_of = vec![0; count];
    let prompts = Prompts { image_of: &image_of, points: &points, labels: &labels, masks: None };
    let (_, decoding) =
        dry_run(value_on_host, || model.decode(&encoded, &prompts, |_| {}).unwrap());
    let name = "SAM 2.1 large: prompts and transformer";
    stages.rows.push((name, cost_of(&decoding, batches)));
    // The rest of a run: upscaling, the product with the masks' vectors, and the copies.
    let mut rest = Cost::default();
    add(&mut rest, &Cost::of(&all), 1.0 / IMAGES as f64);
    for (_, cost) in &stages.rows {
        add(&mut rest, cost, -1.0);
    }
    stages.rows.push(("SAM 2.1 large: masks", rest));
    stages.launches.extend(all.into_iter().map(|launch| (launch, 1.0 / IMAGES as f64)));
}

fn scoring(stages: &mut Stages, dtype: DType) {
    let (model, head, prefix) = owl(dtype);
    let share = CROPS_PER_IMAGE / CROPS as f64;
    let views = Tensor::zeros((CROPS, 3, 378, 378), DType::U8, &Device::Cpu).unwrap();
    let (embeds, launches) = dry_run(value_on_host, || model.encode(&views).unwrap());
    stages.add("mPLUG-Owl3 7B: views", &launches, share);
    let ((_, hidden), launches) =
        dry_run(value_on_host, || prefix.resume(&model, &embeds).unwrap());
    stages.add("mPLUG-Owl3 7B: text", &launches, share);
    let (_, launches) = dry_run(value_on_host, || {
        head.logits(&hidden).unwrap();
        next_tokens(model.decoder(), &hidden, head.tokens()).unwrap()
    });
    stages.add("mPLUG-Owl3 7B: levels", &launches, share);
}

fn full_method(settings: &AmgSettings, dtype: DType) -> Stages {
    let mut stages = Stages { rows: Vec::new(), launches: Vec::new() };
    segmentation(&mut stages, &sam2(dtype), settings);
    scoring(&mut stages, dtype);
    stages
}

/// Returns `factor` times the cost of launches.
fn cost_of(launches: &[Launch], factor: f64) -> Cost {
    let mut cost = Cost::default();
    add(&mut cost, &Cost::of(launches), factor);
    cost
}

/// Adds `factor` times a cost.
fn add(sum: &mut Cost, cost: &Cost, factor: f64) {
    sum.launches += factor * cost.launches;
    sum.gigabytes += factor * cost.gigabytes;
    sum.tera_operations += factor * cost.tera_operations;
    for (ms, other) in sum.ms.iter_mut().zip(cost.ms) {
        *ms += factor * other;
    }
    sum.to_host_mb += factor * cost.to_host_mb;
    sum.to_device_mb += factor * cost.to_device_mb;
}

/// Returns a row of a Markdown table.
fn row(name: &str, cost: &Cost) -> String {
    let [central, fast, slow] = cost.ms;
    format!(
        "| {name} | {:.0} | {:.1} | {:.2} | {central:.0} ({fast:.0} to {slow:.0}) | {:.1} | {:.1} |\n",
        cost.launches, cost.gigabytes, cost.tera_operations, cost.to_device_mb, cost.to_host_mb
    )
}

/// Returns the launches and predicted milliseconds of each kind of kernel, the largest first.
fn by_kernel(launches: &[(Launch, f64)]) -> Vec<(String, f64, f64)> {
    let mut kinds: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (launch, share) in launches {
        let name = match launch.kernel {
            Kernel::Product { width: 4, .. } => "product, f32".to_owned(),
            Kernel::Product { is_aligned: false, .. } => "product, not aligned".to_owned(),
            Kernel::Product { .. } => "product".to_owned(),
            Kernel::Softmax { .. } => "softmax".to_owned(),
            Kernel::Norm { .. } => "norm".to_owned(),
            Kernel::Strided { rank } => format!("strided, {rank} dimensions"),
            Kernel::Upload | Kernel::Download => continue,
            other => format!("{other:?}").to_lowercase(),
        };
        let (count, ms) = kinds.entry(name).or_default();
        *count += share;
        *ms += share * 1e3 * Rates::CENTRAL.seconds(launch);
    }
    let mut kinds: Vec<_> =
        kinds.into_iter().map(|(name, (count, ms))| (name, count, ms)).collect();
    kinds.sort_by(|one, other| other.2.total_cmp(&one.2));
    kinds
}

/// Returns the predicted milliseconds if some kinds of kernel ran at the speed of memory, or not at
/// all.
fn what_if(launches: &[(Launch, f64)], replaced: fn(&Kernel) -> Option<bool>) -> f64 {
    let milliseconds = |(launch, share): &(Launch, f64)| {
        let as_copy = Launch { kernel: Kernel::Elementwise, ..*launch };
        let seconds = match (launch.kernel, replaced(&launch.kernel)) {
            (Kernel::Upload | Kernel::Download, _) | (_, Some(false)) => 0.0,
            (_, Some(true)) => Rates::CENTRAL.seconds(&as_copy),
            (_, None) => Rates::CENTRAL.seconds(launch),
        };
        1e3 * share * seconds
    };
    launches.iter().map(milliseconds).sum()
}

/// Prints the stages and the heaviest kernels as tables.
fn print(title: &str, stages: &Stages) {
    let mut text = format!(
        "\n{title}, for one image\n\n\
         | stage | launches | GB | TFLOP | predicted ms | MB to device | MB to host |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for (name, cost) in &stages.rows {
        text += &row(name, cost);
    }
    text += &row("sum", &stages.sum());
    text += "\n| kernel | launches | predicted ms |\n|---|---|---|\n";
    for (name, count, ms) in by_kernel(&stages.launches).iter().take(14) {
        writeln!(text, "| {name} | {count:.0} | {ms:.1} |").unwrap();
    }
    let at_memory_speed =
        |kernel: &Kernel| matches!(kernel, Kernel::Strided { .. }).then_some(true);
    let without_scores = |kernel: &Kernel| match kernel {
        Kernel::Softmax { .. } | Kernel::Cast => Some(false),
        Kernel::Strided { .. } => Some(true),
        _ => None,
    };
    let strided = what_if(&stages.launches, at_memory_speed);
    let fused = what_if(&stages.launches, without_scores);
    writeln!(text, "\nstrided kernels at the speed of memory: {strided:.0} ms").unwrap();
    writeln!(text, "and no scores in memory, no conversions: {fused:.0} ms").unwrap();
    announce(&text);
}

#[test]
fn the_full_method_stays_within_its_launches_and_its_predicted_time() {
    let stages = full_method(&AmgPreset::Sam2Default.settings(), DType::BF16);
    print("1,024 clicks, every mask drawn", &stages);
    let sum = stages.sum();
    // The figures of `docs/gpu.md`, and two percent.
    assert!(sum.launches <= 5430.0, "{} launches", sum.launches);
    assert!(sum.ms[0] <= 317.0, "{} ms", sum.ms[0]);
    assert!(sum.to_host_mb <= 100.0, "{} MB to the host", sum.to_host_mb);
    // The arithmetic does not depend on how it is launched.
    assert!((12.5..15.0).contains(&sum.tera_operations), "{} TFLOP", sum.tera_operations);
}

#[test]
fn every_crop_is_uploaded_once() {
    let settings = AmgSettings { crop_n_layers: 1, points_per_side: 4, ..AmgSettings::default() };
    let crops = Tensor::zeros((5, 3, 1024, 1024), DType::F32, &Device::Cpu).unwrap();
    let image = PreparedImage { crops, size: (640, 480) };
    let model = sam2(DType::BF16);
    let (_, launches) = dry_run(value_on_host, || {
        let generator = MaskGenerator::new(model, settings).unwrap();
        generator.generate(&[image]).unwrap()
    });
    let uploaded = Cost::of(&launches).to_device_mb;
    let of_crops = f64::from(5 * 3 * 1024 * 1024 * 4) / 1e6;
    assert!((of_crops..1.1 * of_crops).contains(&uploaded), "{uploaded} MB for {of_crops} MB");
}

/// Launches of Q-ReAlign 0.8B for one image of 1024 × 768 pixels, which is not resized.
#[test]
fn q_realign_stays_within_its_launches() {
    let config = QwenConfig::of_size(QwenSize::B0_8);
    let (hidden, vocabulary) = (config.text_config.hidden_size, config.text_config.vocab_size);
    let build = || -> candle_core::Result<Qwen3_5Vl> {
        let table = TokenTable::of_tensor(placeholder((vocabulary, hidden), DType::BF16)?);
        let tables = TokenTables { embedding: table.clone(), head: table };
        Qwen3_5Vl::new(&config, &Tensors::new(placeholder_weights(DType::BF16), None), tables)
    };
    let model = dry_run(|_, _| 0.0, build).0.unwrap();
    let grid = QwenGrid { rows: 48, columns: 64 };
    let samples = Tensor::zeros((grid.len(), 768), DType::U8, &Device::Cpu).unwrap();
    let patches = [Patches { samples, grid }];
    let (images, tower) = dry_run(value_on_host, || model.encode(&patches).unwrap());
    let (_, decoder) = dry_run(value_on_host, || {
        let text = model.decoder().embed(&[7; 14]).unwrap();
        let parts = vec![Part::Text(&text), Part::Image(&images[0]), Part::Text(&text)];
        let mut states = [model.decoder().empty_state()];
        model.read(&[parts], &mut states).unwrap()
    });
    let [tower, decoder] = [tower, decoder].map(|launches| cost_of(&launches, 1.0));
    announce(&format!(
        "Q-ReAlign 0.8B, one image of 1024 x 768\n{}{}",
        row("tower", &tower),
        row("decoder", &decoder)
    ));
    // The figures of `docs/gpu.md`, and two percent.
    assert!(tower.launches <= 1039.0, "{} launches of the tower", tower.launches);
    assert!(decoder.launches <= 4602.0, "{} launches of the decoder", decoder.launches);
}
