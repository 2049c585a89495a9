//! CLIP-IQA with the RN50 at its published shape and random weights on all cores, compared with
//! PyTorch in the same run.
//!
//! ```text
//! cargo bench --bench clip_iqa             all rows; PyTorch in a virtual environment
//! cargo bench --bench clip_iqa -- alone    without PyTorch
//! ```
//!
//! - `whole`: a photo of 1024 × 768 at its full resolution.
//! - `objects`: nine crops of it with a third of its sides each.
//! - `large`: 2048 × 2048, the default's largest area.
//! - `prompts`: the text tower for the ten prompts of IQA-PyTorch, which runs once at start.

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

use dog_iqa::models::clip_iqa::{
    Clip, Config, Pairs, Prompt, ResNetConfig, TextConfig, VisionConfig,
};
use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};

use measure::{median, peak_mib, times};
use photo::photo;

/// Rows, and the runs of each.
const ROWS: [(&str, usize); 4] = [("whole", 3), ("objects", 3), ("large", 1), ("prompts", 3)];

fn main() {
    let is_alone = env::args().any(|argument| argument == "alone");
    let config = Config {
        embed_dim: 1024,
        vision: VisionConfig::ResNet(ResNetConfig { width: 64, layers: [3, 4, 6, 3], heads: 32 }),
        text: TextConfig {
            width: 512,
            inner: 2048,
            layers: 12,
            heads: 8,
            context: 77,
            vocabulary: Prompt::vocabulary(),
        },
    };
    let (clip, _) = random_weights::network(|vb| Clip::new(&config, &vb));
    println!("    row | ours, s | PyTorch, s | PyTorch / ours | peak memory, MiB");
    for (row, runs) in ROWS {
        // Ours and the peer alternate, so that a change of the machine's load affects both.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            ours.extend(seconds(&clip, row, runs));
            if !is_alone {
                theirs.extend(pytorch_seconds(row, runs));
            }
        }
        let ours = median(ours);
        let (peer, ratio) = if is_alone {
            ("-".to_owned(), "-".to_owned())
        } else {
            let theirs = median(theirs);
            (format!("{theirs:.3}"), format!("{:.2}", theirs / ours))
        };
        println!("{row:>7} | {ours:>7.3} | {peer:>10} | {ratio:>14} | {:>16}", peak_mib());
    }
}

fn seconds(clip: &Clip, row: &str, runs: usize) -> Vec<f64> {
    let feature = |image: &RgbImage| drop(black_box(clip.image.feature(image).unwrap()));
    let photo = photo(0);
    let whole = resize(&photo, 1024, 768, FilterType::Triangle);
    match row {
        "whole" => times(runs, || feature(&whole)),
        "objects" => {
            let crop = |index: u32| {
                let (left, top) = (index % 3 * 341, index / 3 * 256);
                crop_imm(&whole, left, top, 341, 256).to_image()
            };
            let crops: Vec<RgbImage> = (0..9).map(crop).collect();
            times(runs, || crops.iter().for_each(feature))
        }
        "large" => {
            let large = resize(&photo, 2048, 2048, FilterType::Triangle);
            times(runs, || feature(&large))
        }
        _ => {
            let prompts = Pairs::IqaPytorch.prompts().iter().flatten().map(Prompt::tokens);
            let prompts: Vec<Vec<u32>> = prompts.collect();
            times(runs, || drop(black_box(clip.text.rows(&prompts).unwrap())))
        }
    }
}

/// Returns the seconds of each run in PyTorch.
fn pytorch_seconds(row: &str, runs: usize) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/clip_iqa_torch.py");
    let threads = std::thread::available_parallelism().unwrap().to_string();
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output =
        Command::new(python).arg(script).args([row, &runs.to_string(), &threads]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = printed.lines().last().unwrap_or_default().split_whitespace();
    let seconds: Result<Vec<f64>, _> = seconds.map(str::parse).collect();
    seconds.ok().filter(|seconds| seconds.len() == runs).unwrap_or_else(|| {
        panic!("the peer failed: {printed}{}", String::from_utf8_lossy(&output.stderr))
    })
}
