//! Qwen3.5-VL in a GGUF: quantised copies, their training, and the format of their vision tower.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{BlockFormat, Qwen3_5VlCheckpoint, TuningOf};
use dog_iqa::engine::{Qwen3_5VlScorer, Scorer};
use dog_iqa::models::layers::Linear;
use dog_iqa::models::qwen3_5_vl::{QRealignSettings, Qwen3_5Vl, cut};
use image::RgbImage;

use crate::checkpoint_forms::save_gguf;
use crate::cli::{command, text};
use crate::q_realign::{Copy, crop, load, open, rate, shade, standard};
use crate::qwen3_5::{q_realign, tokenizer_json};

const TUNING_KEY: &str = "dogiqa.tuning";

/// Returns the matrices of the first block of the vision tower.
fn vision_matrices(model: &Qwen3_5Vl) -> [&Linear; 4] {
    let block = &model.vision().blocks()[0];
    let ([qkv, proj], [fc1, fc2]) = (block.projections(), block.mlp());
    [qkv, proj, fc1, fc2]
}

/// Encodes one image, and returns its tokens in `f32`.
fn tokens(model: &Qwen3_5Vl) -> Vec<Vec<f32>> {
    let image = RgbImage::from_fn(96, 64, shade);
    let encoded = model.encode(&[cut(&image)]).unwrap().remove(0);
    encoded.tokens.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
}

/// Writes a copy of the golden network as a GGUF without blocks, with further texts.
fn write_whole(copy: &Copy, texts: &[(&str, &str)], path: &Path) {
    let config = std::fs::read_to_string(copy.folder.path().join("config.json")).unwrap();
    let tokenizer = String::from_utf8(tokenizer_json()).unwrap();
    let mut all = vec![("dogiqa.config.json", config), ("tokenizer.huggingface.json", tokenizer)];
    all.extend(texts.iter().map(|&(key, text)| (key, text.to_owned())));
    save_gguf(&copy.tensors, &all, path);
}

fn insert_prediction(tensors: &mut HashMap<String, Tensor>) {
    let extra = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    tensors.insert("mtp.norm.weight".to_owned(), extra);
}

#[test]
fn a_quantised_copy_is_one_file_and_rates_nearly_as_its_original() {
    let folder = q_realign();
    let copy = tempfile::tempdir().unwrap();
    for (format, name) in [("q8-0", "eight.gguf"), ("q4-k", "four.gguf")] {
        let path = copy.path().join(name);
        let mut command = command(&["models", "quantize", "--format", format]);
        command.arg("--model").arg(folder.path()).arg("--output").arg(&path);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let checkpoint = Qwen3_5VlCheckpoint::open(&path).unwrap();
        let is_quantised = |name: &str| checkpoint.weights().is_quantised(name);
        for matrix in [
            "0.linear_attn.in_proj_qkv",
            "0.linear_attn.in_proj_a",
            "0.mlp.down_proj",
            "3.self_attn.q_proj",
            "3.self_attn.k_proj",
            "3.self_attn.v_proj",
        ] {
            let name = format!("model.language_model.layers.{matrix}.weight");
            assert!(is_quantised(&name), "{name}");
        }
        for whole in [
            "lm_head.weight",
            "model.language_model.embed_tokens.weight",
            "model.visual.blocks.0.mlp.linear_fc1.weight",
        ] {
            assert!(!is_quantised(whole), "{whole}");
        }
        assert_eq!(checkpoint.tuning(), TuningOf::QReAlign);
        let again = checkpoint.quantize(BlockFormat::Q8_0, &copy.path().join("x.gguf"), |_, _| {});
        assert!(again.unwrap_err().to_string().contains("quantised already"));
        // The tables are read from the file by rows, so they are the original's.
        let original = load(folder.path()).unwrap();
        let quantised = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
        let rows = |model: &Qwen3_5Vl| -> Vec<Vec<f32>> {
            model.decoder().embed(&[0, 248_319, 77]).unwrap().to_vec2().unwrap()
        };
        assert_eq!(rows(&quantised), rows(&original));
        quantised.decoder().embed(&[248_320]).unwrap_err();
        let scorers = [folder.path(), &path].map(|path| open(path, QRealignSettings::default()));
        let crop = crop(100, 80);
        let [exact, nearly] = scorers.map(|scorer| rate(&scorer, &crop).raw().unwrap().value);
        println!("{format}: {exact} and {nearly}");
        // A quantised network runs in f32, whatever was asked for, and its version says so.
        let settings = QRealignSettings::default();
        let asked = Qwen3_5VlScorer::open(&path, &standard(), settings, DType::BF16, &Device::Cpu);
        let version = asked.unwrap().info().version;
        assert!(version.starts_with("1-cpu-f32-"), "{version}");
        assert!(exact.to_bits() != nearly.to_bits() && (exact - nearly).abs() < 0.02);
    }
}

#[test]
fn a_quantised_file_in_half_precision_keeps_its_vision_tower_and_every_bit_of_an_image() {
    for half in [DType::BF16, DType::F16] {
        let mut copy = Copy::new();
        for tensor in copy.tensors.values_mut() {
            *tensor = tensor.to_dtype(half).unwrap();
        }
        std::fs::write(copy.folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
        let original = copy.open().unwrap();
        let path = copy.folder.path().join("eight.gguf");
        let checkpoint = Qwen3_5VlCheckpoint::open(&copy.folder.path().join("model.safetensors"));
        checkpoint.unwrap().quantize(BlockFormat::Q8_0, &path, |_, _| {}).unwrap();
        let quantised = load(&path).unwrap();
        for matrix in vision_matrices(&quantised) {
            assert_eq!((matrix.weight().dtype(), matrix.bias().dtype()), (half, DType::F32));
        }
        assert!(tokens(&original) == tokens(&quantised), "{half:?}");
    }
}

#[test]
fn a_quantised_base_model_with_a_head_of_its_own_is_no_q_realign() {
    let folder = q_realign();
    let original = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&original, &Device::Cpu).unwrap();
    assert!(tensors.contains_key("lm_head.weight"));
    insert_prediction(&mut tensors);
    candle_core::safetensors::save(&tensors, &original).unwrap();
    let quantised = folder.path().join("eight.gguf");
    let checkpoint = Qwen3_5VlCheckpoint::open(&original).unwrap();
    checkpoint.quantize(BlockFormat::Q8_0, &quantised, |_, _| {}).unwrap();
    let checkpoint = Qwen3_5VlCheckpoint::open(&quantised).unwrap();
    let has_prediction = checkpoint.weights().shapes().keys().any(|name| name.starts_with("mtp."));
    assert!(!has_prediction, "the file has no block for prediction");
    assert_eq!(checkpoint.tuning(), TuningOf::Base);
    let scorer = open(&quantised, QRealignSettings::default());
    assert_eq!(scorer.info().name, "qwen3.5-custom");
    let verified = command(&["models", "verify"]).arg(&quantised).output().unwrap();
    let lines = text(&verified.stdout);
    assert!(lines.contains("(not tuned for quality)"), "{lines}");
}

#[test]
fn the_metadata_states_the_training_and_without_it_the_tensors_do() {
    let mut copy = Copy::new();
    let path = copy.folder.path().join("whole.gguf");
    let tuning = |copy: &Copy, texts: &[(&str, &str)]| {
        write_whole(copy, texts, &path);
        Qwen3_5VlCheckpoint::open(&path).map(|checkpoint| checkpoint.tuning())
    };
    assert_eq!(tuning(&copy, &[]).unwrap(), TuningOf::QReAlign);
    assert_eq!(tuning(&copy, &[(TUNING_KEY, "base")]).unwrap(), TuningOf::Base);
    let message = tuning(&copy, &[(TUNING_KEY, "other")]).unwrap_err().to_string();
    for part in ["whole.gguf", TUNING_KEY, "`other`", "quantise the original again"] {
        assert!(message.contains(part), "{message}");
    }
    insert_prediction(&mut copy.tensors);
    assert_eq!(tuning(&copy, &[]).unwrap(), TuningOf::Base);
    assert_eq!(tuning(&copy, &[(TUNING_KEY, "q-realign")]).unwrap(), TuningOf::QReAlign);
}

#[test]
fn a_half_gguf_without_blocks_runs_in_every_dtype() {
    let mut copy = Copy::new();
    for tensor in copy.tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F16).unwrap();
    }
    let path = copy.folder.path().join("whole.gguf");
    write_whole(&copy, &[], &path);
    let from_safetensors = copy.open().unwrap();
    for (dtype, kept) in
        [(DType::F32, DType::F16), (DType::F16, DType::F16), (DType::BF16, DType::BF16)]
    {
        let model = Qwen3_5VlCheckpoint::open(&path).unwrap().load(dtype, &Device::Cpu).unwrap();
        for matrix in vision_matrices(&model) {
            assert_eq!((matrix.weight().dtype(), matrix.bias().dtype()), (kept, dtype));
        }
        let found = tokens(&model);
        assert!(found.iter().flatten().all(|value| value.is_finite()));
        assert!(dtype != DType::F32 || found == tokens(&from_safetensors), "other bits");
    }
}
