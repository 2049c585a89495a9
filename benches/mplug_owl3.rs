//! mPLUG-Owl3 1B and 2B with published shapes and random weights on all cores, compared with
//! PyTorch in the same run.
//!
//! ```text
//! cargo bench --bench mplug_owl3                 both sizes; PyTorch in a virtual environment
//! cargo bench --bench mplug_owl3 -- 1b alone     one size, without PyTorch
//! cargo bench --bench mplug_owl3 -- 1b parts     time of each part for one crop
//! cargo bench --bench mplug_owl3 -- memory       peak memory of a 2B: load in bf16, run in q4-k
//! ```
//!
//! Rows, each for batches of 1, 4 and 16 crops with the paper's prompt of seven level words:
//!
//! - `plain`: the whole prompt for each crop, then the logits of the K level tokens.
//! - `prefix`: like `plain`, but the image-independent prefix is computed once and reused.
//! - `greedy`: greedy generation as in the reference: the logits of the whole vocabulary, then one
//!   step for the token that ends the answer.
//!
//! The peer has `plain` and `greedy`. `prefix` is compared with its `plain`, which returns the same
//! ratings.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[path = "support/measure.rs"]
mod measure;
#[path = "../tests/support/qwen2.rs"]
mod qwen2;
#[path = "../tests/support/random_tensor.rs"]
mod random_tensor;
#[path = "../tests/support/random_weights.rs"]
mod random_weights;
#[path = "support/rating_prompt.rs"]
mod rating_prompt;
#[path = "support/torch_peer.rs"]
mod torch_peer;

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{BlockFormat, MplugOwl3Checkpoint};
use dog_iqa::models::mplug_owl3::{
    Config, Greedy, LevelHead, MplugOwl3, Prefix, Prompt, Release, Tensors,
};

use measure::{median, peak_mib, times};
use qwen2::tokenizer_json;
use rating_prompt::{RatingGigaFlop, paper_prompt};
use torch_peer::TorchPeer;

const BATCHES: [usize; 3] = [1, 4, 16];
/// Token ids of the seven levels.
const LEVELS: [u32; 7] = [16, 17, 18, 19, 20, 21, 22];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    if is_named("memory") {
        return memory();
    }
    let sizes = [("1b", Release::B1V241014), ("2b", Release::B2V241014)].into_iter();
    let sizes = sizes.filter(|(name, _)| !(is_named("1b") || is_named("2b")) || is_named(name));
    if !is_named("parts") {
        println!("size | row    | batch | ours, crops/s | PyTorch, crops/s | ours / PyTorch");
    }
    for (name, release) in sizes {
        let bench = Bench::new(release);
        if is_named("parts") {
            bench.print_parts();
            continue;
        }
        println!("{}", bench.prediction(name));
        let mut peer = (!is_named("alone")).then(|| start_peer(name, &bench.prompt));
        for batch in BATCHES {
            bench.print_rows(name, batch, peer.as_mut());
        }
    }
}

struct Bench {
    model: MplugOwl3,
    prompt: Prompt,
    prefix: Prefix,
    head: LevelHead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Plain,
    Prefix,
    Greedy,
}

impl Bench {
    fn new(release: Release) -> Self {
        let config = Config::of_release(release);
        let generation = release.generation();
        let build = |vb| MplugOwl3::new(&config, generation, &Tensors::new(vb, None));
        let (model, _) = random_weights::network(build);
        let prompt = paper_prompt();
        Self {
            prefix: Prefix::new(&model, &prompt).unwrap(),
            head: LevelHead::new(model.decoder(), &LEVELS).unwrap(),
            model,
            prompt,
        }
    }

    /// Prints the rows of a batch size. Ours and the peer alternate, so that a change of the
    /// machine's load affects both.
    fn print_rows(&self, size: &str, batch: usize, mut peer: Option<&mut TorchPeer>) {
        let rows = [Row::Plain, Row::Prefix, Row::Greedy];
        let mut ours = [const { Vec::new() }; 3];
        let (mut plain, mut greedy) = (Vec::new(), Vec::new());
        // Small batches are short and therefore measured more often.
        let rounds = if batch == 1 { 4 } else { (8 / batch).max(1) };
        for _ in 0..rounds {
            for (row, ours) in rows.iter().zip(&mut ours) {
                ours.push(self.seconds(*row, batch));
            }
            if let Some(peer) = &mut peer {
                plain.push(peer.seconds(&format!("plain {batch}")));
                greedy.push(peer.seconds(&format!("greedy {batch}")));
            }
        }
        let rate = |seconds: Vec<f64>| batch as f64 / median(seconds);
        for (row, ours) in rows.into_iter().zip(ours) {
            let ours = rate(ours);
            let theirs = if row == Row::Greedy { &greedy } else { &plain };
            let (peer, ratio) = if theirs.is_empty() {
                ("-".to_owned(), "-".to_owned())
            } else {
                let theirs = rate(theirs.clone());
                (format!("{theirs:.3}"), format!("{:.2}", ours / theirs))
            };
            let row = format!("{row:?}").to_lowercase();
            println!("{size:>4} | {row:<6} | {batch:>5} | {ours:>13.3} | {peer:>16} | {ratio:>14}");
        }
    }

    fn seconds(&self, row: Row, batch: usize) -> f64 {
        let crops = crops(batch);
        let decoder = self.model.decoder();
        let started = Instant::now();
        let embeds = self.model.encode(&crops).unwrap();
        match row {
            Row::Prefix => {
                let (_, hidden) = self.prefix.resume(&self.model, &embeds).unwrap();
                drop(black_box(self.head.logits(&hidden).unwrap()));
            }
            Row::Plain | Row::Greedy => {
                let mut cache = decoder.empty_cache(batch);
                decoder.cache_image_kv(&embeds, &mut cache, &self.prompt.image_starts).unwrap();
                let xs = decoder.embed(&vec![&self.prompt.ids[..]; batch]).unwrap();
                let hidden = decoder.run_to_end(xs, 0, &mut cache).unwrap();
                if row == Row::Plain {
                    drop(black_box(self.head.logits(&hidden).unwrap()));
                } else {
                    let mut greedy = Greedy::new(decoder, cache, hidden);
                    let first = greedy.likeliest(151_646).unwrap();
                    greedy.feed(&first).unwrap();
                    drop(black_box(greedy.likeliest(151_646).unwrap()));
                }
            }
        }
        started.elapsed().as_secs_f64()
    }

    /// Returns the speedup by prefix reuse that the arithmetic predicts.
    fn prediction(&self, size: &str) -> String {
        let RatingGigaFlop { plain, with_prefix } =
            RatingGigaFlop::new(self.model.config(), &self.prompt);
        let speedup = plain / with_prefix;
        format!(
            "{size}: {plain:.0} GFLOP plain, {with_prefix:.0} with prefix reuse: predicted speedup {speedup:.2}"
        )
    }

    /// Prints the seconds of each part for one crop. The language model rows with and without
    /// prefix include the computation of the images' keys.
    fn print_parts(&self) {
        let crops = crops(1);
        let decoder = self.model.decoder();
        let time = |name: &str, work: &dyn Fn()| {
            println!("{name:<24} {:>8.3} s", median(times(5, work)));
        };
        let embeds = self.model.encode(&crops).unwrap();
        time("vision and projector", &|| drop(black_box(self.model.encode(&crops).unwrap())));
        time("images' keys", &|| {
            let mut cache = decoder.empty_cache(1);
            decoder.cache_image_kv(&embeds, &mut cache, &self.prompt.image_starts).unwrap();
        });
        time("language model, prefix", &|| {
            drop(black_box(self.prefix.resume(&self.model, &embeds)));
        });
        time("language model, plain", &|| {
            let mut cache = decoder.empty_cache(1);
            decoder.cache_image_kv(&embeds, &mut cache, &self.prompt.image_starts).unwrap();
            let xs = decoder.embed(&[&self.prompt.ids]).unwrap();
            drop(black_box(decoder.run_to_end(xs, 0, &mut cache).unwrap()));
        });
    }
}

/// Returns crops of noise in −1..=1. Uniform images would run faster than real ones.
fn crops(batch: usize) -> Tensor {
    let mut random = fastrand::Rng::with_seed(batch as u64);
    let values: Vec<f32> =
        std::iter::repeat_with(|| 2.0 * random.f32() - 1.0).take(batch * 3 * 384 * 384).collect();
    Tensor::from_vec(values, (batch, 3, 384, 384), &Device::Cpu).unwrap()
}

/// Starts PyTorch with a network of this size. It reads a row's name and a batch size in each line.
fn start_peer(size: &str, prompt: &Prompt) -> TorchPeer {
    let (tokens, start) = (prompt.ids.len().to_string(), prompt.image_starts[0].to_string());
    TorchPeer::start("mplug_owl3_torch.py", &[size, &tokens, &start])
}

/// Writes a 2B with random weights in `bf16` and prints the peak memory of processes that only load
/// it.
fn memory() {
    if let Some(path) = env::args().skip_while(|argument| argument != "load").nth(1) {
        let path = Path::new(&path);
        let model =
            MplugOwl3Checkpoint::open(path).unwrap().load(DType::BF16, &Device::Cpu).unwrap();
        if path.extension().unwrap() == "gguf" {
            // A quantised network allocates a part of its memory in its first run.
            let prefix = Prefix::new(&model, &paper_prompt()).unwrap();
            prefix.resume(&model, &model.encode(&crops(1)).unwrap()).unwrap();
        }
        return println!("{}", peak_mib());
    }
    let folder = tempfile::tempdir().unwrap();
    let config = Config::of_release(Release::B2V241014);
    let generation = Release::B2V241014.generation();
    let build = |vb| MplugOwl3::new(&config, generation, &Tensors::new(vb, None));
    let (_, shapes) = random_weights::network(build);
    let tensors = shapes.iter().map(|(name, shape)| {
        let tensor = random_tensor::random(name, shape).unwrap().to_dtype(DType::BF16).unwrap();
        (name.clone(), tensor)
    });
    let whole = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&tensors.collect(), &whole).unwrap();
    let json = serde_json::to_string(&config).unwrap();
    std::fs::write(folder.path().join("config.json"), json).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    let quantised = folder.path().join("q4-k.gguf");
    let checkpoint = MplugOwl3Checkpoint::open(&whole).unwrap();
    checkpoint.quantize(BlockFormat::Q4K, &quantised, |_, _| {}).unwrap();
    println!("2b                   | file, MiB | peak, MiB | peak / file");
    for (name, path) in [("bf16, loaded", &whole), ("q4-k, loaded and run", &quantised)] {
        let child = Command::new(env::current_exe().unwrap())
            .args(["memory", "load", path.to_str().unwrap()])
            .output()
            .unwrap();
        let file = std::fs::metadata(path).unwrap().len() >> 20;
        let peak: u64 = String::from_utf8_lossy(&child.stdout).trim().parse().unwrap();
        println!("{name:<20} | {file:>9} | {peak:>9} | {:>11.2}", peak as f64 / file as f64);
    }
}
