//! Qwen3.5-VL at the shape of the 0.8B, with 8 of its 24 decoder layers and random weights, on all
//! cores, compared with PyTorch in the same run.
//!
//! ```text
//! cargo bench --bench qwen3_5_vl             all rows; PyTorch in a virtual environment
//! cargo bench --bench qwen3_5_vl -- alone    without PyTorch
//! ```
//!
//! A row is a size and a number of images: vision tower, then one pass over the prompt of each. The
//! ratio of linear to full layers, 3 to 1, is that of the whole network. `scan` is the share of the
//! delta rule alone, measured for the same rows.

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

use candle_core::{DType, Device, Shape, Tensor};
use dog_iqa::models::layers::{Sequences, delta_rule};
use dog_iqa::models::mplug_owl3::Tensors;
use dog_iqa::models::qwen3_5_vl::{
    Config, LayerType, Part, Patches, Qwen3_5Vl, Size, TokenTable, TokenTables, cut,
};
use image::imageops::{FilterType, resize};

use measure::{median, peak_mib, times};
use photo::photo;
use random_tensor::random;

/// Width, height and number of images of each row, and its runs.
const ROWS: [(u32, u32, usize, usize); 6] = [
    (256, 256, 1, 5),
    (256, 256, 8, 3),
    (512, 384, 1, 3),
    (512, 384, 8, 2),
    (1024, 768, 1, 3),
    (1024, 768, 8, 1),
];
/// Decoder layers.
const LAYERS: usize = 8;
/// Tokens of the prompt before and behind the image.
const TEXT: [usize; 2] = [5, 28];
/// Rows of the table of tokens: those of the text only.
const VOCABULARY: usize = 64;

fn main() {
    let is_alone = env::args().any(|argument| argument == "alone");
    let mut config = Config::of_size(Size::B0_8);
    config.text_config.num_hidden_layers = LAYERS;
    let table = random("embed", &Shape::from((VOCABULARY, config.text_config.hidden_size)));
    let table = TokenTable::of_tensor(table.unwrap());
    let (model, _) = random_weights::network(|vb| {
        let tables = TokenTables { embedding: table.clone(), head: table };
        Qwen3_5Vl::new(&config, &Tensors::new(vb, None), tables)
    });
    println!(
        "          row | ours, s | PyTorch, s | PyTorch / ours | scan, % of ours | peak memory, MiB"
    );
    for (width, height, count, runs) in ROWS {
        // Ours and the peer alternate, so that a change of the machine's load affects both.
        let (mut ours, mut theirs, mut scans) = (Vec::new(), Vec::new(), Vec::new());
        let images = images(width, height, count);
        for _ in 0..2 {
            ours.extend(times(runs, || rate(&model, &images)));
            scans.extend(scan_seconds(&config, &images, runs));
            if !is_alone {
                theirs.extend(pytorch_seconds((width, height, count), runs));
            }
        }
        let (ours, scan) = (median(ours), 100.0 * median(scans));
        let (peer, ratio) = if is_alone {
            ("-".to_owned(), "-".to_owned())
        } else {
            let theirs = median(theirs);
            (format!("{theirs:.3}"), format!("{:.2}", theirs / ours))
        };
        let row = format!("{count} × {width}×{height}");
        let share = scan / ours;
        println!(
            "{row:>13} | {ours:>7.3} | {peer:>10} | {ratio:>14} | {share:>15.1} | {:>16}",
            peak_mib()
        );
    }
}

fn images(width: u32, height: u32, count: usize) -> Vec<Patches> {
    let image = |seed| cut(&resize(&photo(seed), width, height, FilterType::Triangle));
    (0..count).map(image).collect()
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
fn scan_seconds(config: &Config, images: &[Patches], runs: usize) -> Vec<f64> {
    let text = &config.text_config;
    let heads = text.delta_heads();
    let layers = (0..LAYERS).filter(|layer| text.layer_type(*layer) == LayerType::Linear).count();
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
    times(runs, || {
        for _ in 0..layers {
            black_box(delta_rule(&qkv, &gates, &sequences, &memories, heads).unwrap());
        }
    })
}

/// Returns the seconds of each run in PyTorch.
fn pytorch_seconds((width, height, count): (u32, u32, usize), runs: usize) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/qwen3_5_vl_torch.py");
    let threads = std::thread::available_parallelism().unwrap().to_string();
    let numbers = [width.to_string(), height.to_string(), count.to_string(), runs.to_string()];
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python).arg(script).args(numbers).arg(threads).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = printed.lines().last().unwrap_or_default().split_whitespace();
    let seconds: Result<Vec<f64>, _> = seconds.map(str::parse).collect();
    seconds.ok().filter(|seconds| seconds.len() == runs).unwrap_or_else(|| {
        panic!("the peer failed: {printed}{}", String::from_utf8_lossy(&output.stderr))
    })
}
