//! SAM 2 with published shapes and random weights on all cores, compared with PyTorch in the same
//! run.
//!
//! ```text
//! cargo bench --bench sam2                 tiny and large; PyTorch in a virtual environment
//! cargo bench --bench sam2 -- tiny alone   one size, without PyTorch
//! cargo bench --bench sam2 -- memory       peak memory of the large one for 12-megapixel photos
//! ```
//!
//! - `encoder`: one image of 1024 × 1024.
//! - `decoder`: 64 clicks on that image, all three masks of each click upscaled.
//! - `whole`: resizing, 32 × 32 clicks, filters, suppression and encoding for a 1024 × 768 photo.
//!   Ours runs twice: half of the masks pass the threshold, then all of them;
//!   the peer's time does not depend on it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

#[path = "support/measure.rs"]
mod measure;
#[path = "support/photo.rs"]
mod photo;
#[path = "../tests/support/random_tensor.rs"]
mod random_tensor;
#[path = "../tests/support/random_weights.rs"]
mod random_weights;

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};
use dog_iqa::models::sam2::amg::{AmgSettings, MaskGenerator, prepare};
use dog_iqa::models::sam2::{Config, MASKS, PointLabel, Prompts, Sam2, Size, preprocess};
use image::RgbImage;

use measure::{median, peak_mib, times};
use photo::photo;

const CLICKS: usize = 64;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    let is_any_named = is_named("tiny") || is_named("large");
    let sizes =
        [Size::Tiny, Size::Large].into_iter().filter(|size| !is_any_named || is_named(size.name()));
    if is_named("memory") {
        return memory();
    }
    println!("  size | stage            | ours, s | PyTorch, s | PyTorch / ours");
    let peer = if is_named("alone") { Peer::None } else { Peer::PyTorch };
    for size in sizes {
        let bench = Bench::new(size);
        for (stage, runs) in [("encoder", 3), ("decoder", 3), ("whole", 1)] {
            bench.print_rows(stage, runs, peer);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    PyTorch,
    None,
}

struct Bench {
    size: Size,
    model: Sam2,
    photo: RgbImage,
}

impl Bench {
    fn new(size: Size) -> Self {
        let (model, _) = random_weights::network(|vb| Sam2::new(&Config::of_size(size), &vb));
        Self { size, model, photo: photo(0) }
    }

    /// Prints the rows of a stage. Ours and the peer alternate, so that a change of the machine's
    /// load affects both.
    fn print_rows(&self, stage: &str, runs: usize, peer: Peer) {
        let variants: &[&str] =
            if stage == "whole" { &["whole, half pass", "whole, all pass"] } else { &[stage] };
        let mut ours = vec![Vec::new(); variants.len()];
        let mut theirs = Vec::new();
        for _ in 0..if runs > 1 { 2 } else { 1 } {
            for (variant, ours) in variants.iter().zip(&mut ours) {
                ours.extend(self.ours(variant, runs));
            }
            if peer == Peer::PyTorch {
                theirs.extend(pytorch_seconds(self.size, stage, runs));
            }
        }
        for (variant, ours) in variants.iter().zip(ours) {
            let ours = median(ours);
            let (peer, ratio) = if peer == Peer::PyTorch {
                let theirs = median(theirs.clone());
                (format!("{theirs:.3}"), format!("{:.2}", theirs / ours))
            } else {
                ("-".to_owned(), "-".to_owned())
            };
            let size = self.size.name();
            println!("{size:>6} | {variant:<16} | {ours:>7.3} | {peer:>10} | {ratio:>14}");
        }
    }

    fn ours(&self, stage: &str, runs: usize) -> Vec<f64> {
        match stage {
            "encoder" => {
                let input = preprocess(&self.photo, 1024).unwrap().unsqueeze(0).unwrap();
                times(runs, || drop(black_box(self.model.encode(&input).unwrap())))
            }
            "decoder" => self.decoder(runs),
            "whole, half pass" => self.whole(runs, self.median_iou()),
            "whole, all pass" => self.whole(runs, 0.0),
            _ => panic!("no stage `{stage}`"),
        }
    }

    fn decoder(&self, runs: usize) -> Vec<f64> {
        let input = preprocess(&self.photo, 1024).unwrap().unsqueeze(0).unwrap();
        let encoded = self.model.encode(&input).unwrap();
        let (points, labels, image_of) = clicks();
        let prompts =
            Prompts { image_of: &image_of, points: &points, labels: &labels, masks: None };
        times(runs, || {
            let decoded = self.model.decode(&encoded, &prompts, |_| {}).unwrap();
            let decoder = self.model.mask_decoder();
            let masks = decoder.masks(&decoded, &encoded.fine, &image_of, 1..MASKS);
            drop(black_box(masks.unwrap()));
        })
    }

    fn whole(&self, runs: usize, pred_iou_thresh: f64) -> Vec<f64> {
        let settings =
            AmgSettings { pred_iou_thresh, stability_score_thresh: 0.0, ..AmgSettings::default() };
        let generator = MaskGenerator::new(self.model.clone(), settings).unwrap();
        let mut found = 0;
        let times = times(runs, || {
            let prepared = prepare(&self.photo, generator.settings(), 1024).unwrap();
            found = generator.generate(&[prepared]).unwrap()[0].len();
        });
        assert!(found > 0);
        times
    }

    /// Returns the threshold that half of the masks pass.
    fn median_iou(&self) -> f64 {
        let input = preprocess(&self.photo, 1024).unwrap().unsqueeze(0).unwrap();
        let encoded = self.model.encode(&input).unwrap();
        let (points, labels, image_of) = clicks();
        let prompts =
            Prompts { image_of: &image_of, points: &points, labels: &labels, masks: None };
        let iou = self.model.decode(&encoded, &prompts, |_| {}).unwrap().iou;
        let iou = iou.narrow(1, 1, 3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        median(iou.into_iter().map(f64::from).collect())
    }
}

/// Prints the memory of the large network with 1,024 clicks for one photo of 12 megapixels after
/// another. Half of the masks pass; the published thresholds do not fit random weights.
fn memory() {
    let bench = Bench::new(Size::Large);
    let settings = AmgSettings {
        pred_iou_thresh: bench.median_iou(),
        stability_score_thresh: 0.0,
        ..AmgSettings::default()
    };
    let photo = image::imageops::resize(&bench.photo, 4000, 3000, image::imageops::Triangle);
    let generator = MaskGenerator::new(bench.model, settings).unwrap();
    println!("photos | seconds | masks | peak memory, MiB");
    println!("     0 |       - |     - | {:>16}", peak_mib());
    for count in 1..=3 {
        let mut masks = 0;
        let seconds = times(1, || {
            let prepared = prepare(&photo, generator.settings(), 1024).unwrap();
            masks = generator.generate(&[prepared]).unwrap()[0].len();
        })[0];
        println!("{count:>6} | {seconds:>7.1} | {masks:>5} | {:>16}", peak_mib());
    }
}

/// Returns points, labels and image indices of 64 clicks spread over one image.
fn clicks() -> (Tensor, Vec<PointLabel>, Vec<usize>) {
    let coordinate = |index: usize| 64.0 + 128.0 * index as f32;
    let points: Vec<f32> =
        (0..CLICKS).flat_map(|index| [coordinate(index % 8), coordinate(index / 8)]).collect();
    let points = Tensor::from_vec(points, (CLICKS, 1, 2), &Device::Cpu).unwrap();
    (points, vec![PointLabel::Foreground; CLICKS], vec![0; CLICKS])
}

/// Returns the seconds of each run in PyTorch.
fn pytorch_seconds(size: Size, stage: &str, runs: usize) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/sam2_torch.py");
    let threads = std::thread::available_parallelism().unwrap().to_string();
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python)
        .arg(script)
        .args([size.name(), stage, &runs.to_string(), &threads])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = printed.lines().last().unwrap_or_default().split_whitespace();
    let seconds: Result<Vec<f64>, _> = seconds.map(str::parse).collect();
    seconds.ok().filter(|seconds| seconds.len() == runs).unwrap_or_else(|| {
        panic!("the peer failed: {printed}{}", String::from_utf8_lossy(&output.stderr))
    })
}
