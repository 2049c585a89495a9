//! Checkpoints that are almost those of a SAM 2, and their errors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{Sam2Checkpoint, WeightsError};
use dog_iqa::models::sam2::{Config, Sam2, Size};
use tempfile::TempDir;

use crate::goldens::tensors;
use crate::random_checkpoint::write;
use crate::random_weights::network;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2").join(name)
}

/// Returns a copy of the golden folder with changed weights, and the result of opening it.
fn changed(
    name: &str,
    change: impl FnOnce(&mut HashMap<String, Tensor>),
) -> (TempDir, Result<Sam2, WeightsError>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("config.json"), folder.path().join("config.json")).unwrap();
    let mut weights = tensors(&golden(name));
    change(&mut weights);
    let path = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&weights, &path).unwrap();
    let opened = open(folder.path());
    (folder, opened)
}

fn open(path: &Path) -> Result<Sam2, WeightsError> {
    Sam2Checkpoint::open(path)?.load(DType::F32, &Device::Cpu)
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_missing_misshapen_or_extra_tensor_is_named_as_in_the_file() {
    for (file, name) in [
        ("model.original.safetensors", "sam_mask_decoder.iou_prediction_head.layers.2.bias"),
        ("model.hf.safetensors", "mask_decoder.iou_prediction_head.proj_out.bias"),
        ("model.hf.safetensors", "prompt_encoder.point_embed.weight"),
    ] {
        let (_folder, opened) = changed(file, |weights| drop(weights.remove(name).unwrap()));
        match opened.unwrap_err() {
            WeightsError::Missing { name: missing, .. } => assert_eq!(missing, name),
            other => panic!("{other}"),
        }
        for shape in [&[1, 5][..], &[7, 32], &[], &[1 << 20]] {
            let (_folder, opened) =
                changed(file, |weights| drop(weights.insert(name.to_owned(), zeros(shape))));
            match opened.unwrap_err() {
                WeightsError::Misshapen { name: misshapen, found, .. } => {
                    assert_eq!((misshapen.as_str(), &found[..]), (name, shape));
                }
                other => panic!("{other}"),
            }
        }
        let extra = "mask_decoder.something_new.weight";
        let (_folder, opened) =
            changed(file, |weights| drop(weights.insert(extra.to_owned(), zeros(&[3]))));
        match opened.unwrap_err() {
            WeightsError::Extra { names, .. } => assert_eq!(names, [extra]),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn tensors_of_the_video_path_are_ignored() {
    let (_folder, opened) = changed("model.original.safetensors", |weights| {
        weights.insert("memory_attention.layers.0.norm1.weight".to_owned(), zeros(&[7]));
        weights.retain(|name, _| !name.starts_with("obj_ptr"));
    });
    opened.unwrap();
}

#[test]
fn half_precision_files_are_opened() {
    for dtype in [DType::F16, DType::BF16] {
        let (_folder, opened) = changed("model.hf.safetensors", |weights| {
            for tensor in weights.values_mut() {
                *tensor = tensor.to_dtype(dtype).unwrap();
            }
        });
        opened.unwrap();
    }
}

#[test]
fn another_model_or_no_model_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| Sam2Checkpoint::open(path).unwrap_err().to_string();
    let message = open(folder.path());
    assert!(message.contains("no `.safetensors`, `.gguf` or `.pt`"), "{message}");

    let other = folder.path().join("bert.safetensors");
    let weights = HashMap::from([("embeddings.weight".to_owned(), zeros(&[2, 2]))]);
    candle_core::safetensors::save(&weights, &other).unwrap();
    let message = open(&other);
    assert!(message.contains("bert.safetensors") && message.contains("not the weights of a SAM 2"));

    // Neither a published size nor a configuration next to it.
    let alone = folder.path().join("alone.safetensors");
    std::fs::copy(golden("model.hf.safetensors"), &alone).unwrap();
    let message = open(&alone);
    assert!(message.contains("without a config.json"), "{message}");
    let message = open(folder.path());
    assert!(message.contains("name one"), "{message}");
}

/// A checkpoint of a published size is detected from its tensors, also in a folder with the
/// configuration of another network.
#[test]
fn the_configuration_of_another_network_is_ignored_for_a_published_size() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("config.json"), folder.path().join("config.json")).unwrap();
    let (_, mut shapes) = network(|vb| Sam2::new(&Config::of_size(Size::Tiny), &vb));
    let path = folder.path().join("sam2_hiera_tiny.safetensors");
    write(&path, DType::F32, &shapes);
    let checkpoint = Sam2Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.size(), Some(Size::Tiny));
    assert_eq!(checkpoint.version().name(), "2");

    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    shapes.insert("no_obj_embed_spatial".to_owned(), (1, 64).into());
    write(&path, DType::F32, &shapes);
    assert_eq!(Sam2Checkpoint::open(folder.path()).unwrap().version().name(), "2.1");
}

/// Changes one random byte of the pickle. The file may stay readable.
#[test]
fn a_corrupted_pickle_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = std::fs::read(golden("model.original.pt")).unwrap();
    let path = folder.path().join("model.pt");
    let mut random = fastrand::Rng::with_seed(5);
    let mut refused = 0;
    for _ in 0..60 {
        let mut changed = bytes.clone();
        // The pickle is at the start of the archive.
        changed[random.usize(100..20_000)] = random.u8(..);
        std::fs::write(&path, changed).unwrap();
        refused += usize::from(open(&path).is_err());
    }
    assert!(refused > 5, "only {refused} of 60 were refused");
}
