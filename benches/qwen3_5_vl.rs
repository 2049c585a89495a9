//! Qwen3.5-VL at the shape of the 0.8B, with random weights, on all cores, compared with PyTorch in
//! the same run.
//!
//! ```text
//! cargo bench --bench qwen3_5_vl              8 of the 24 decoder layers, one image and eight
//! cargo bench --bench qwen3_5_vl -- whole     all layers, one image
//! cargo bench --bench qwen3_5_vl -- alone     without PyTorch; also with `whole`
//! cargo bench --bench qwen3_5_vl -- memory    peak memory of a rating, in f32 and in q8-0
//! ```
//!
//! A row is a size and a number of images: vision tower, then one pass over the prompt of each. The
//! ratio of linear to full layers, 3 to 1, is that of the whole network. `scan` is the share of the
//! delta rule alone, measured for the same rows. The peer is a process that waits while ours runs.
//!
//! `memory` writes a checkpoint in `bf16`, quantises it as `dogiqa models quantize` does, and rates
//! one image in a process of its own for each row, with the scorer that the engine opens.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[path = "support/measure.rs"]
mod measure;
#[path = "support/photo.rs"]
mod photo;
#[path = "../tests/support/qwen3_5_tokenizer.rs"]
mod qwen3_5_tokenizer;
#[expect(dead_code, reason = "only shards are written here")]
#[path = "../tests/support/random_checkpoint.rs"]
mod random_checkpoint;
#[path = "../tests/support/random_tensor.rs"]
mod random_tensor;
#[path = "../tests/support/random_weights.rs"]
mod random_weights;
#[path = "support/torch_peer.rs"]
mod torch_peer;

use std::collections::BTreeMap;
use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use dog_iqa::checkpoints::{BlockFormat, Qwen3_5VlCheckpoint};
use dog_iqa::engine::{Qwen3_5VlScorer, Scorer};
use dog_iqa::imaging::{Crop, CropSource};
use dog_iqa::method::{Standard, StandardSettings};
use dog_iqa::models::layers::{Sequences, delta_rule};
use dog_iqa::models::mplug_owl3::Tensors;
use dog_iqa::models::qwen3_5_vl::{
    Config, LayerType, Part, Patches, QRealignSettings, Qwen3_5Vl, Size, TokenTable, TokenTables,
    cut,
};
use image::RgbImage;
use image::imageops::{FilterType, resize};

use measure::{median, peak_mib, status_mib, times};
use photo::photo;
use qwen3_5_tokenizer::tokenizer_json;
use random_checkpoint::write_sharded;
use random_tensor::random;
use torch_peer::TorchPeer;

/// A row: width and height of the images, their number, and the runs of each program.
#[derive(Clone, Copy)]
struct Row {
    width: u32,
    height: u32,
    count: usize,
    runs: usize,
}

const fn row(width: u32, height: u32, count: usize, runs: usize) -> Row {
    Row { width, height, count, runs }
}

/// The rows of a part of the decoder. Large ones are long, and therefore measured less often.
const PART: [Row; 6] = [
    row(256, 256, 1, 6),
    row(256, 256, 8, 3),
    row(512, 384, 1, 4),
    row(512, 384, 8, 2),
    row(1024, 768, 1, 2),
    row(1024, 768, 8, 1),
];
/// The rows of the whole network.
const WHOLE: [Row; 2] = [row(512, 384, 1, 3), row(1024, 768, 1, 2)];
/// Decoder layers of the rows in [`PART`].
const PART_LAYERS: usize = 8;
/// Tokens of the prompt before and behind the image.
const TEXT: [usize; 2] = [5, 28];
/// Rows of the table of tokens: those of the text only.
const VOCABULARY: usize = 64;

fn main() {
    let is_named = |name: &str| env::args().any(|argument| argument == name);
    if is_named("memory") {
        return memory();
    }
    let mut config = Config::of_size(Size::B0_8);
    let rows = if is_named("whole") {
        &WHOLE[..]
    } else {
        config.text_config.num_hidden_layers = PART_LAYERS;
        &PART[..]
    };
    let layers = config.text_config.num_hidden_layers;
    println!("{layers} decoder layers");
    println!(
        "          row | ours, s | PyTorch, s | PyTorch / ours | scan, % of ours | peak memory, MiB"
    );
    let (model, _) = network(&config);
    let mut peer = (!is_named("alone"))
        .then(|| TorchPeer::start("qwen3_5_vl_torch.py", &[&layers.to_string()]));
    for row in rows {
        print_row(*row, &model, peer.as_mut());
    }
}

/// Builds a network with random weights, and a small table of tokens. Returns it with the names and
/// shapes of its tensors.
fn network(config: &Config) -> (Qwen3_5Vl, BTreeMap<String, Shape>) {
    let table = random("embed", &Shape::from((VOCABULARY, config.text_config.hidden_size)));
    let table = TokenTable::of_tensor(table.unwrap());
    random_weights::network(|vb| {
        let tables = TokenTables { embedding: table.clone(), head: table };
        Qwen3_5Vl::new(config, &Tensors::new(vb, None), tables)
    })
}

/// Prints a row. Ours and the peer alternate, so that a change of the machine's load affects both.
fn print_row(row: Row, model: &Qwen3_5Vl, mut peer: Option<&mut TorchPeer>) {
    let (mut ours, mut theirs, mut scans) = (Vec::new(), Vec::new(), Vec::new());
    let images = images(row);
    let Row { width, height, count, .. } = row;
    for _ in 0..row.runs {
        ours.extend(times(1, || rate(model, &images)));
        scans.extend(scan_seconds(model.config(), &images));
        if let Some(peer) = &mut peer {
            theirs.push(peer.seconds(&format!("{width} {height} {count}")));
        }
    }
    let (ours, scan) = (median(ours), 100.0 * median(scans));
    let (peer, ratio) = if theirs.is_empty() {
        ("-".to_owned(), "-".to_owned())
    } else {
        let theirs = median(theirs);
        (format!("{theirs:.3}"), format!("{:.2}", theirs / ours))
    };
    let name = format!("{count} × {width}×{height}");
    let share = scan / ours;
    println!(
        "{name:>13} | {ours:>7.3} | {peer:>10} | {ratio:>14} | {share:>15.1} | {:>16}",
        peak_mib()
    );
}

fn picture(number: usize, width: u32, height: u32) -> RgbImage {
    resize(&photo(number), width, height, FilterType::Triangle)
}

fn images(Row { width, height, count, .. }: Row) -> Vec<Patches> {
    (0..count).map(|number| cut(&picture(number, width, height))).collect()
}

/// Reads the prompts of all images.
fn rate(model: &Qwen3_5Vl, images: &[Patches]) {
    let decoder = model.decoder();
    let [before, after] = TEXT.map(|count| {
        let tokens: Vec<u32> = (0..u32::try_from(count).unwrap()).collect();
        decoder.embed(&tokens).unwrap()
    });
    let encoded = model.encode(images).unwrap();
    let prompts: Vec<Vec<Part<'_>>> = encoded
        .iter()
        .map(|image| vec![Part::Text(&before), Part::Image(image), Part::Text(&after)])
        .collect();
    let mut states = vec![decoder.empty_state(); prompts.len()];
    black_box(model.read(&prompts, &mut states).unwrap());
}

/// Returns the seconds of the delta rule in all linear layers, for as many tokens.
fn scan_seconds(config: &Config, images: &[Patches]) -> Vec<f64> {
    let text = &config.text_config;
    let heads = text.delta_heads();
    let layers = 0..text.num_hidden_layers;
    let layers = layers.filter(|layer| text.layer_type(*layer) == LayerType::Linear).count();
    let lengths: Vec<usize> =
        images.iter().map(|image| image.grid.tokens() + TEXT[0] + TEXT[1]).collect();
    let rows = lengths.iter().sum::<usize>();
    // Keys of about the length 1, and gates with a slow decay.
    let shape = Shape::from((rows, heads.columns()));
    let scale = (heads.columns() as f64 / heads.key_dim as f64).sqrt();
    let qkv = (random("rows", &shape).unwrap() * scale).unwrap();
    let gates = Tensor::full(-0.1_f32, (rows, heads.value_heads), &Device::Cpu).unwrap();
    let gates = Tensor::cat(&[&gates.neg().unwrap(), &gates], 1).unwrap();
    let memory = (heads.value_heads, heads.key_dim, heads.value_dim);
    let memory = Tensor::zeros(memory, DType::F32, &Device::Cpu).unwrap();
    let memories = vec![memory; images.len()];
    let sequences = Sequences::new(lengths);
    times(1, || {
        for _ in 0..layers {
            black_box(delta_rule(&qkv, &gates, &sequences, &memories, heads).unwrap());
        }
    })
}

/// Writes a 0.8B with random weights in `bf16` and a quantised copy. Prints the peak memory of
/// processes that rate one image each.
fn memory() {
    let arguments = env::args().skip_while(|argument| argument != "rate").skip(1);
    if let [path, width, height] = &arguments.collect::<Vec<_>>()[..] {
        return rate_once(Path::new(path), width.parse().unwrap(), height.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("model.safetensors.index.json");
    write_checkpoint(folder.path());
    let quantised = folder.path().join("q8-0.gguf");
    let checkpoint = Qwen3_5VlCheckpoint::open(&original).unwrap();
    checkpoint.quantize(BlockFormat::Q8_0, &quantised, |_, _| {}).unwrap();
    drop(checkpoint);
    println!("0.8B, one image     | peak memory, MiB | of it files that are mapped, MiB");
    for (name, path) in [("f32", &original), ("q8-0", &quantised)] {
        for (width, height) in [("512", "384"), ("1024", "768")] {
            let child = Command::new(env::current_exe().unwrap())
                .args(["memory", "rate", path.to_str().unwrap(), width, height])
                .output()
                .unwrap();
            let printed = String::from_utf8_lossy(&child.stdout).into_owned();
            let numbers: Vec<&str> = printed.split_whitespace().collect();
            let &[peak, mapped] = &numbers[..] else {
                panic!("{name}: {}", String::from_utf8_lossy(&child.stderr))
            };
            let row = format!("{name}, {width} × {height}");
            println!("{row:<19} | {peak:>16} | {mapped:>32}");
        }
    }
}

/// Writes all tensors in `bf16` as shards, with configuration and tokenizer.
fn write_checkpoint(folder: &Path) {
    let config = Config::of_size(Size::B0_8);
    let (model, mut shapes) = network(&config);
    drop(model);
    let table = Shape::from((config.text_config.vocab_size, config.text_config.hidden_size));
    for name in ["model.language_model.embed_tokens.weight", "lm_head.weight"] {
        shapes.insert(name.to_owned(), table.clone());
    }
    write_sharded(folder, shapes.keys(), 3, |name| {
        random(name, &shapes[name]).unwrap().to_dtype(DType::BF16).unwrap()
    });
    std::fs::write(folder.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer_json()).unwrap();
}

/// Rates one image. Prints the peak memory of this process, and the part of its memory at the end
/// that is pages of files, which the system can take back.
fn rate_once(path: &Path, width: u32, height: u32) {
    let standard = Standard::from_settings(&StandardSettings::default()).unwrap();
    let settings = QRealignSettings::default();
    let scorer =
        Qwen3_5VlScorer::open(path, &standard, settings, DType::F32, &Device::Cpu).unwrap();
    let pixels = Arc::new(picture(0, width, height));
    let crop = Crop { source: CropSource::Whole, pixels, picture: None };
    black_box(scorer.rate(&[scorer.prepare(&crop).unwrap()]).unwrap());
    println!("{} {}", peak_mib(), status_mib("RssFile"));
}
