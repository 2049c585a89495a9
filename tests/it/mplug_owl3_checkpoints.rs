//! Checkpoints of mPLUG-Owl3: formats, shards, and errors with the name of the file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{MplugOwl3Checkpoint, WeightsError};
use dog_iqa::engine::MplugOwl3Scorer;
use dog_iqa::method::{Standard, StandardForm};
use dog_iqa::models::mplug_owl3::{MplugOwl3, RatingSettings};
use tempfile::TempDir;

use crate::goldens::tensors;
use crate::random_checkpoint::write_sharded;
use crate::small_networks::checkpoint_with_real_vocabulary;

const GENERATIONS: [&str; 3] = ["240728", "241014", "241101"];

fn golden(generation: &str) -> PathBuf {
    let name = format!("tests/goldens/mplug_owl3_{generation}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A copy of a golden network that a test may change.
struct Copy {
    folder: TempDir,
    tensors: HashMap<String, Tensor>,
}

impl Copy {
    fn of(generation: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = golden(generation).join("config.json");
        std::fs::copy(config, folder.path().join("config.json")).unwrap();
        Self { folder, tensors: tensors(&golden(generation).join("model.safetensors")) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model.safetensors")
    }

    /// Writes the tensors as one file and returns the error of opening it.
    fn failure(&self) -> WeightsError {
        candle_core::safetensors::save(&self.tensors, self.path()).unwrap();
        open(self.folder.path()).unwrap_err()
    }

    /// Writes the tensors as two shards with their index.
    fn write_sharded(&self) {
        let mut names: Vec<&String> = self.tensors.keys().collect();
        names.sort();
        write_sharded(self.folder.path(), names.into_iter(), 2, |name| self.tensors[name].clone());
    }

    fn index(&self) -> PathBuf {
        self.folder.path().join("model.safetensors.index.json")
    }
}

fn open(path: &Path) -> Result<MplugOwl3, WeightsError> {
    MplugOwl3Checkpoint::open(path)?.load(DType::F32, &Device::Cpu)
}

fn embeds(model: &MplugOwl3, generation: &str) -> Vec<f32> {
    let io = tensors(&golden(generation).join("io.safetensors"));
    let embeds = model.encode(&io["pixel_pool"]).unwrap();
    embeds.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_generation_is_detected_from_the_tensors() {
    for generation in GENERATIONS {
        let checkpoint = MplugOwl3Checkpoint::open(&golden(generation)).unwrap();
        assert_eq!(checkpoint.generation().name(), generation);
        assert_eq!(checkpoint.release(), None, "no published size");
    }
}

#[test]
fn shards_give_the_same_network_as_one_file() {
    for generation in GENERATIONS {
        let copy = Copy::of(generation);
        copy.write_sharded();
        let expected = embeds(&open(&golden(generation)).unwrap(), generation);
        for path in [copy.folder.path(), &copy.index()] {
            let checkpoint = MplugOwl3Checkpoint::open(path).unwrap();
            assert_eq!(checkpoint.weights().files().len(), 2);
            let model = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
            assert!(embeds(&model, generation) == expected, "{generation} gives other bits");
        }
    }
}

#[test]
fn a_problem_of_a_shard_is_reported_with_its_name() {
    let copy = Copy::of("241101");
    copy.write_sharded();
    let shard = copy.folder.path().join("model-00002-of-00002.safetensors");
    let bytes = std::fs::read(&shard).unwrap();

    std::fs::write(&shard, &bytes[..bytes.len() - 5]).unwrap();
    let message = open(copy.folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("model-00002-of-00002.safetensors") && message.contains("download"),
        "{message}"
    );

    std::fs::remove_file(&shard).unwrap();
    let message = open(copy.folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("model-00002-of-00002.safetensors") && message.contains("No such"),
        "{message}"
    );

    // The index names the wrong shard for a tensor.
    std::fs::write(&shard, &bytes).unwrap();
    let index = std::fs::read_to_string(copy.index()).unwrap();
    let name = "vision2text_model.0.weight";
    let moved = index.replace(
        &format!("\"{name}\":\"model-00002-of-00002.safetensors\""),
        &format!("\"{name}\":\"model-00001-of-00002.safetensors\""),
    );
    assert_ne!(moved, index);
    std::fs::write(copy.index(), moved).unwrap();
    match open(copy.folder.path()).unwrap_err() {
        WeightsError::Missing { path, name: missing } => {
            assert!(path.ends_with("model-00001-of-00002.safetensors") && missing == name);
        }
        other => panic!("{other}"),
    }

    // A tensor of this name in another shard is ignored.
    let mut both = tensors(&copy.folder.path().join("model-00001-of-00002.safetensors"));
    both.insert(name.to_owned(), copy.tensors[name].zeros_like().unwrap());
    candle_core::safetensors::save(
        &both,
        copy.folder.path().join("model-00001-of-00002.safetensors"),
    )
    .unwrap();
    std::fs::write(copy.index(), &index).unwrap();
    let expected = embeds(&open(&golden("241101")).unwrap(), "241101");
    assert!(embeds(&open(copy.folder.path()).unwrap(), "241101") == expected);

    for (index, part) in [
        (r#"{"weight_map": {"a": "../elsewhere.safetensors"}}"#, "elsewhere.safetensors"),
        (r#"{"weight_map": {}}"#, "no tensor"),
        ("[]", "index"),
    ] {
        std::fs::write(copy.index(), index).unwrap();
        let message = open(&copy.index()).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_missing_misshapen_or_foreign_tensor_is_named() {
    for generation in GENERATIONS {
        let mut copy = Copy::of(generation);
        let name = "language_model.model.layers.3.self_attn.v_kv_proj.bias";
        let name = if copy.tensors.contains_key(name) {
            name.to_owned()
        } else {
            name.replace("layers.3", "layers.2")
        };
        let kept = copy.tensors.remove(&name).unwrap();
        match copy.failure() {
            WeightsError::Missing { name: missing, .. } => assert_eq!(missing, name),
            other => panic!("{other}"),
        }
        copy.tensors.insert(name.clone(), kept.narrow(0, 0, 8).unwrap());
        match copy.failure() {
            WeightsError::Misshapen { name: misshapen, found, .. } => {
                assert_eq!((misshapen, found), (name.clone(), vec![8]));
            }
            other => panic!("{other}"),
        }
        copy.tensors.insert(name, kept.clone());
        copy.tensors.insert("language_model.model.layers.5.mlp.up_proj.weight".to_owned(), kept);
        match copy.failure() {
            WeightsError::Extra { names, .. } => {
                assert_eq!(names, ["language_model.model.layers.5.mlp.up_proj.weight"]);
            }
            other => panic!("{other}"),
        }
    }
}

/// The end of the vision tower may be present, broken or missing.
#[test]
fn tensors_that_the_reference_skips_are_not_read() {
    for generation in GENERATIONS {
        let mut copy = Copy::of(generation);
        let unused = |name: &String| {
            name.starts_with("vision_model.encoder.layers.2.")
                || name.starts_with("vision_model.post_layernorm.")
                || name.starts_with("vision_model.head.")
        };
        let names: Vec<String> = copy.tensors.keys().filter(|name| unused(name)).cloned().collect();
        assert!(names.len() > 20, "{names:?}");
        for name in &names {
            copy.tensors.insert(name.clone(), Tensor::new(&[f32::NAN], &Device::Cpu).unwrap());
        }
        candle_core::safetensors::save(&copy.tensors, copy.path()).unwrap();
        let expected = embeds(&open(&golden(generation)).unwrap(), generation);
        assert!(embeds(&open(&copy.path()).unwrap(), generation) == expected);
        copy.tensors.retain(|name, _| !names.contains(name));
        candle_core::safetensors::save(&copy.tensors, copy.path()).unwrap();
        assert!(embeds(&open(&copy.path()).unwrap(), generation) == expected);
    }
}

#[test]
fn a_configuration_that_is_absent_or_of_another_network_is_refused() {
    let copy = Copy::of("241014");
    let config = copy.folder.path().join("config.json");
    std::fs::remove_file(&config).unwrap();
    let message = copy.failure().to_string();
    assert!(message.contains("config.json"), "{message}");
    std::fs::write(&config, r#"{"model_type": "bert"}"#).unwrap();
    let message = copy.failure().to_string();
    assert!(message.contains("not the configuration of an mPLUG-Owl3"), "{message}");

    let mut whole_numbers = Copy::of("241014");
    let name = "language_model.model.norm.weight".to_owned();
    let rounded = whole_numbers.tensors[&name].to_dtype(DType::U8).unwrap();
    whole_numbers.tensors.insert(name.clone(), rounded);
    let message = whole_numbers.failure().to_string();
    assert!(message.contains(&name) && message.contains("U8"), "{message}");

    let other = copy.folder.path().join("other.safetensors");
    let weights = HashMap::from([("a".to_owned(), copy.tensors.values().next().unwrap().clone())]);
    candle_core::safetensors::save(&weights, &other).unwrap();
    let message = open(&other).unwrap_err().to_string();
    assert!(message.contains("not the weights of an mPLUG-Owl3"), "{message}");
}

#[test]
fn a_tokenizer_without_the_marks_of_a_turn_is_refused() {
    let folder = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    // Another model's tokenizer: the mark is a text like any other.
    std::fs::write(&path, text.replace("<|im_start|>", "<|turn|>")).unwrap();
    let standard = Standard::builtin(7, StandardForm::Word).unwrap();
    let settings = RatingSettings::default();
    let scorer =
        MplugOwl3Scorer::open(folder.path(), &standard, settings, DType::F32, &Device::Cpu);
    let error = scorer.unwrap_err().to_string();
    assert!(error.contains("`<|im_start|>` is not one token"), "{error}");
}
