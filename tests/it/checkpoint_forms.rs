//! Each form of a checkpoint gives the same score: formats, shards, and the wrappers of PyTorch's
//! trainers. A file with several networks is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value as GgufValue};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::{MplugOwl3Checkpoint, Sam2Checkpoint};
use serde_json::Value;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::cli::{command, photo, text};
use crate::goldens::tensors;
use crate::random_checkpoint::write_sharded;
use crate::small_networks::checkpoint_with_real_vocabulary;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam2").join(name)
}

/// Returns a folder with the configuration of the golden SAM 2, and the path of its weights.
fn segmenter_folder(file: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("config.json"), folder.path().join("config.json")).unwrap();
    let path = folder.path().join(file);
    (folder, path)
}

fn save(tensors: &HashMap<String, Tensor>, path: &Path) {
    candle_core::safetensors::save(tensors, path).unwrap();
}

fn prefixed(tensors: HashMap<String, Tensor>, prefix: &str) -> HashMap<String, Tensor> {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Writes tensors in their dtype, and texts, as a GGUF. It has at most four dimensions, so those
/// after the first are joined.
pub(crate) fn save_gguf(tensors: &HashMap<String, Tensor>, texts: &[(&str, String)], path: &Path) {
    let stored = |tensor: &Tensor| {
        let dtype = match tensor.dtype() {
            DType::F16 => GgmlDType::F16,
            DType::BF16 => GgmlDType::BF16,
            _ => GgmlDType::F32,
        };
        let joined =
            if tensor.rank() > 4 { tensor.flatten_from(1).unwrap() } else { tensor.clone() };
        QTensor::quantize(&joined, dtype).unwrap()
    };
    let stored: Vec<(&str, QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), stored(tensor))).collect();
    let stored: Vec<(&str, &QTensor)> =
        stored.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let texts: Vec<(&str, GgufValue)> =
        texts.iter().map(|(key, text)| (*key, GgufValue::String(text.clone()))).collect();
    let texts: Vec<(&str, &GgufValue)> = texts.iter().map(|(key, text)| (*key, text)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &texts, &stored).unwrap();
}

/// Writes the golden `.pt` again with another pickle.
fn save_pt(path: &Path, change: impl Fn(&[u8]) -> Vec<u8>) {
    let mut original = ZipArchive::new(File::open(golden("model.original.pt")).unwrap()).unwrap();
    let mut changed = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..original.len() {
        let mut entry = original.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name.ends_with("/data.pkl") {
            bytes = change(&bytes);
        }
        changed.start_file(name, options).unwrap();
        changed.write_all(&bytes).unwrap();
    }
    changed.finish().unwrap();
}

/// A pickle's text.
fn pickled(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"X".as_slice(), &length, text.as_bytes()].concat()
}

/// Returns the pickle of the dictionary of tensors in a pickle of `{"model": dictionary}`.
fn dictionary_of(pickle: &[u8]) -> &[u8] {
    // Protocol, an empty dictionary and its number, the key and its number.
    let start = 2 + 1 + 2 + pickled("model").len() + 2;
    let end = pickle.strip_suffix(b"s.").unwrap();
    &end[start..]
}

/// Returns the pickle of a dictionary with the same tensors under each key.
fn under_keys(pickle: &[u8], keys: &[&str]) -> Vec<u8> {
    let mut changed = b"\x80\x02}".to_vec();
    for key in keys {
        changed.extend([&pickled(key)[..], dictionary_of(pickle), b"s"].concat());
    }
    changed.push(b'.');
    changed
}

fn event(segmenter: &Path, scorer: &Path) -> Value {
    let (segmenter, scorer) = (segmenter.display(), scorer.display());
    let settings = [
        format!("engine.dog_iqa.segmenter={segmenter}"),
        format!("engine.dog_iqa.scorer={scorer}"),
        "engine.dog_iqa.masks.points_per_side=4".to_owned(),
        "engine.dog_iqa.masks.pred_iou_thresh=0.15".to_owned(),
        "engine.dog_iqa.masks.stability_score_thresh=0.02".to_owned(),
    ];
    let output = command(&["score", "--format", "jsonl"])
        .args(settings.iter().flat_map(|setting| ["--set", setting]))
        .arg(photo("cat.jpg"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut event: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The names of the files and the times differ.
    for part in ["engine", "event_id", "timings_ms", "event_time"] {
        event.as_object_mut().unwrap().remove(part);
    }
    event
}

/// Compares two values, and numbers except for rounding: a GGUF is multiplied by other kernels.
fn assert_alike(found: &Value, expected: &Value, what: &str) {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-6, "{what}: {found} instead of {expected}");
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{what}");
            for (found, expected) in found.iter().zip(expected) {
                assert_alike(found, expected, what);
            }
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert!(found.keys().eq(expected.keys()), "{what}: {found:?}");
            for (name, found) in found {
                assert_alike(found, &expected[name], &format!("{what}, {name}"));
            }
        }
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

/// A name, and the function that writes the form to a file or folder.
type Form<'a> = (&'static str, &'a dyn Fn(&Path));

#[test]
fn each_form_of_the_segmenter_gives_the_same_score() {
    let scorer = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let original = || tensors(&golden("model.original.safetensors"));
    let hub = || tensors(&golden("model.hf.safetensors"));
    let forms: [Form<'_>; 8] = [
        ("a.safetensors", &|path| save(&original(), path)),
        ("b.safetensors", &|path| save(&prefixed(original(), "module."), path)),
        ("c.safetensors", &|path| save(&prefixed(hub(), "_orig_mod."), path)),
        ("d.safetensors", &|path| save(&prefixed(original(), "model.module."), path)),
        ("e.pt", &|path| {
            std::fs::copy(golden("model.original.pt"), path).unwrap();
        }),
        ("f.pt", &|path| save_pt(path, |pickle| under_keys(pickle, &["state_dict"]))),
        ("g.pth", &|path| {
            save_pt(path, |pickle| [b"\x80\x02", dictionary_of(pickle), b"."].concat());
        }),
        ("h.gguf", &|path| save_gguf(&original(), &[], path)),
    ];
    let expected = event(&golden("model.hf.safetensors"), scorer.path());
    assert!(expected["objects"].as_array().unwrap().len() > 1, "{expected}");
    for (file, write) in forms {
        let (_folder, path) = segmenter_folder(file);
        write(&path);
        assert_alike(&event(&path, scorer.path()), &expected, file);
    }
}

#[test]
fn each_form_of_the_scorer_gives_the_same_score() {
    let segmenter = golden("model.hf.safetensors");
    let original = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    let expected = event(&segmenter, original.path());
    let weights = tensors(&original.path().join("model.safetensors"));
    let read = |name: &str| std::fs::read_to_string(original.path().join(name)).unwrap();
    let forms: [Form<'_>; 4] = [
        ("sharded", &|folder| {
            let mut names: Vec<&String> = weights.keys().collect();
            names.sort();
            write_sharded(folder, names.into_iter(), 3, |name| weights[name].clone());
        }),
        ("wrapped", &|folder| {
            save(&prefixed(weights.clone(), "module."), &folder.join("model.safetensors"));
        }),
        ("sharded and wrapped", &|folder| {
            let wrapped = prefixed(weights.clone(), "module.");
            let mut names: Vec<&String> = wrapped.keys().collect();
            names.sort();
            write_sharded(folder, names.into_iter(), 2, |name| wrapped[name].clone());
        }),
        ("gguf", &|folder| {
            let texts = [
                ("dogiqa.config.json", read("config.json")),
                ("tokenizer.huggingface.json", read("tokenizer.json")),
            ];
            save_gguf(&weights, &texts, &folder.join("model.gguf"));
        }),
    ];
    for (form, write) in forms {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json"] {
            std::fs::copy(original.path().join(file), folder.path().join(file)).unwrap();
        }
        write(folder.path());
        assert_alike(&event(&segmenter, folder.path()), &expected, form);
    }
}

#[test]
fn a_file_with_several_networks_or_with_none_is_refused_with_its_keys() {
    let refusal = |path: &Path| Sam2Checkpoint::open(path).unwrap_err().to_string();
    let (_folder, path) = segmenter_folder("both.pt");
    save_pt(&path, |pickle| under_keys(pickle, &["model", "ema"]));
    let message = refusal(&path);
    for part in ["`model`, `ema`", "torch.save(torch.load(\"both.pt\")[\"model\"]"] {
        assert!(message.contains(part), "{message}");
    }
    let (_folder, path) = segmenter_folder("unknown.pt");
    save_pt(&path, |pickle| under_keys(pickle, &["my_favourite_weights"]));
    let message = refusal(&path);
    assert!(message.contains("`state_dict`") && message.contains("no tensor"), "{message}");

    let (_folder, path) = segmenter_folder("both.safetensors");
    let original = || tensors(&golden("model.original.safetensors"));
    let mut both = prefixed(original(), "model.");
    both.extend(prefixed(original(), "ema."));
    save(&both, &path);
    let message = refusal(&path);
    assert!(message.contains("`ema.`, `model.`"), "{message}");

    let (_folder, path) = segmenter_folder("more.safetensors");
    let mut more = prefixed(original(), "model.");
    let value = more.values().next().unwrap().clone();
    more.insert("loss.weight".to_owned(), value);
    save(&more, &path);
    let message = refusal(&path);
    assert!(message.contains("`loss.weight`"), "{message}");

    // Errors name tensors as the file does.
    let (_folder, path) = segmenter_folder("less.safetensors");
    let mut less = prefixed(original(), "module.");
    let missing = "module.sam_mask_decoder.iou_prediction_head.layers.2.bias";
    less.remove(missing).unwrap();
    save(&less, &path);
    let checkpoint = Sam2Checkpoint::open(&path).unwrap();
    let message = checkpoint.load(candle_core::DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains(missing), "{message}");

    let (_folder, path) = segmenter_folder("old.pt");
    std::fs::write(&path, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").unwrap();
    assert!(refusal(&path).contains("before 1.6"), "{}", refusal(&path));
    let owl = checkpoint_with_real_vocabulary("mplug_owl3_241101");
    std::fs::rename(&path, owl.path().join("old.pt")).unwrap();
    let message = MplugOwl3Checkpoint::open(&owl.path().join("old.pt")).unwrap_err().to_string();
    assert!(message.contains("before 1.6"), "{message}");
}
