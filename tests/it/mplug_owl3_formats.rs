//! Other number formats of mPLUG-Owl3 produce the same level as `f32` if the margin between its two
//! likeliest levels exceeds the format's tolerance. Tolerances are shares of the largest logit: 30
//! % for bf16 and 8 bits, 8 % for f16, 40 % for 4 bits. Small random networks are more sensitive
//! than trained ones, most of all those with one softmax over seven images.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{BlockFormat, MplugOwl3Checkpoint};
use dog_iqa::models::mplug_owl3::{
    Config, Generation, LevelHead, MplugOwl3, Prefix, Prompt, Tensors,
};
use tempfile::TempDir;

use crate::goldens::{Comparison, Place};
use crate::goldens_mplug_owl3::{Golden, all_folders, cases};
use crate::random_checkpoint;
use crate::random_weights::network;

/// First tokens of standards with seven levels, within the golden networks' 300 tokens.
const STANDARDS: [u32; 12] = [16, 40, 64, 88, 112, 136, 160, 184, 208, 232, 256, 280];

/// Compares the levels of all standards after the same prompts. Returns the number of levels whose
/// margin exceeds the tolerance.
fn compare(
    comparison: &mut Comparison,
    name: &str,
    [exact, other]: [(&MplugOwl3, &Tensor); 2],
    loss: f64,
) -> usize {
    let logits = |(model, hidden): (&MplugOwl3, &Tensor)| {
        model.decoder().logits(hidden).unwrap().to_dtype(DType::F64).unwrap()
    };
    let expected = logits(exact);
    let largest: f64 =
        expected.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
    comparison.close(name, &logits(other), &expected, loss * largest);
    // Another level would need an error of this size in the difference of two logits.
    let mut decided = 0;
    for first in STANDARDS {
        let levels = |(model, hidden): (&MplugOwl3, &Tensor)| {
            let tokens: Vec<u32> = (first..first + 7).collect();
            LevelHead::new(model.decoder(), &tokens).unwrap().logits(hidden).unwrap()
        };
        for (row, (expected, found)) in levels(exact).iter().zip(levels(other)).enumerate() {
            let (level, margin) = level_and_margin(expected);
            if margin > loss * largest {
                decided += 1;
                let name = format!("{name}, row {row}, levels from {first}");
                comparison.equal(&name, &level_and_margin(&found).0, &level);
            }
        }
    }
    decided
}

fn level_and_margin(logits: &[f64]) -> (usize, f64) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    (order[0], logits[order[0]] - logits[order[1]])
}

/// Writes a golden network as one GGUF file with 8 bits.
fn quantised(folder: &Path) -> TempDir {
    let original = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(folder.join(file), original.path().join(file)).unwrap();
    }
    // The golden networks have no tokenizer, and this test needs none.
    std::fs::write(original.path().join("tokenizer.json"), "{}").unwrap();
    let small = tempfile::tempdir().unwrap();
    let checkpoint = MplugOwl3Checkpoint::open(original.path()).unwrap();
    checkpoint.quantize(BlockFormat::Q8_0, &small.path().join("q8.gguf"), |_, _| {}).unwrap();
    small
}

/// Uses the goldens' prompts and images.
#[test]
fn half_formats_and_eight_bits_keep_the_level_if_the_margin_exceeds_the_tolerance() {
    for (part, dtype, loss) in [
        ("bf16 levels", DType::BF16, 0.3),
        ("f16 levels", DType::F16, 0.08),
        ("q8-0 levels", DType::F32, 0.3),
    ] {
        let mut decided = 0;
        for folder in all_folders() {
            let small = quantised(&folder);
            let path = if dtype == DType::F32 { small.path() } else { &folder };
            let other = MplugOwl3Checkpoint::open(path).unwrap().load(dtype, &Device::Cpu).unwrap();
            let golden = Golden::open(&folder, part, &Place::cpu());
            let mut comparison = Comparison::new(&folder, part);
            for case in cases(&golden) {
                let (_, exact) = case.hidden(&golden.model);
                let (_, found) = case.hidden(&other);
                let both = [(&golden.model, &exact), (&other, &found)];
                decided += compare(&mut comparison, &case.name, both, loss);
            }
            // Rounding may change the number of levels that the margin decides.
            comparison.finish(12);
        }
        assert!(decided >= 30, "{part}: margins decide {decided} levels");
    }
}

/// Four bits need rows of whole blocks of 256 values, which the golden networks do not have.
#[test]
fn four_bits_keep_the_level_if_the_margin_exceeds_the_tolerance() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/mplug_owl3_241101");
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let config = config
        .replace("\"hidden_size\": 64", "\"hidden_size\": 256")
        .replace("\"intermediate_size\": 96", "\"intermediate_size\": 320");
    std::fs::write(folder.path().join("config.json"), &config).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let config = Config::from_json(&config).unwrap();
    let (_, shapes) =
        network(|vb| MplugOwl3::new(&config, Generation::V241101, &Tensors::new(vb, None)));
    let original = folder.path().join("model.safetensors");
    random_checkpoint::write(&original, DType::F32, &shapes);

    let small = tempfile::tempdir().unwrap();
    let path = small.path().join("model.gguf");
    let checkpoint = MplugOwl3Checkpoint::open(folder.path()).unwrap();
    let mut progress = Vec::new();
    checkpoint.quantize(BlockFormat::Q4K, &path, |done, of| progress.push((done, of))).unwrap();
    assert_eq!(progress.last(), Some(&(shapes.len(), shapes.len())));
    let reopened = MplugOwl3Checkpoint::open(small.path()).unwrap();
    let is_quantised = |name: &str| reopened.weights().is_quantised(name);
    assert!(is_quantised("language_model.model.layers.0.mlp.up_proj.weight"));
    // Rows of 320 values are not whole blocks of 256, so they have 8 bits.
    assert!(is_quantised("language_model.model.layers.0.mlp.down_proj.weight"));
    assert!(!is_quantised("vision_model.encoder.layers.0.mlp.fc1.weight"));
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&path) < size(&original) / 3, "{} bytes", size(&path));
    let again = reopened.quantize(BlockFormat::Q4K, &small.path().join("again.gguf"), |_, _| {});
    assert!(again.unwrap_err().to_string().contains("quantised already"));

    let exact = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
    let other = reopened.load(DType::F32, &Device::Cpu).unwrap();
    let views = crate::goldens::tensors(&golden.join("io.safetensors"))["pixel_pool"].clone();
    let prompt =
        Prompt { ids: vec![3, 8, 27, 91, 105, 91, 29, 9, 201, 33, 5], image_starts: vec![2] };
    let hidden = |model: &MplugOwl3| {
        let embeds = model.encode(&views).unwrap();
        Prefix::new(model, &prompt).unwrap().resume(model, &embeds).unwrap().1
    };
    let mut comparison = Comparison::new(folder.path(), "q4-k levels");
    let (expected, found) = (hidden(&exact), hidden(&other));
    let both = [(&exact, &expected), (&other, &found)];
    let decided = compare(&mut comparison, "a random network", both, 0.4);
    comparison.finish(1);
    assert!(decided >= 10, "margins decide {decided} levels");
}
