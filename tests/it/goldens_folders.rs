//! The golden folders that the suites compare: those of the repository, and every folder of
//! `DOGIQA_GOLDENS`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::Tensor;
use tempfile::TempDir;

use crate::golden_folders::{Found, Suite, announce, goldens, named_folders};
use crate::goldens::{Place, tensors};
use crate::{goldens_clip_iqa, goldens_mplug_owl3, goldens_qwen3_5_vl, goldens_sam2};

/// Fails for a folder of `DOGIQA_GOLDENS` that no suite compares, and prints who compares the
/// others.
#[test]
fn every_named_folder_is_compared_by_a_suite() {
    let found = Found::below(&named_folders());
    for (folder, suites) in &found.taken {
        announce(&format!("golden {}: compared by {suites:?}\n", folder.display()));
    }
    for folder in &found.without_data {
        announce(&format!("golden {}: no data, only images or texts\n", folder.display()));
    }
    assert!(
        found.left.is_empty(),
        "no suite compares these folders of DOGIQA_GOLDENS: {:?}; \
         tests/support/golden_folders.rs lists the files that each suite needs",
        found.left
    );
}

#[test]
fn each_folder_of_the_repository_has_its_suites() {
    let suites = |name: &str| Found::below(&[goldens().join(name)]).taken;
    let sam2 = [Suite::Sam2, Suite::Sam2Steps, Suite::Sam2Runs, Suite::Sam2Preprocessing];
    for (name, expected) in [
        ("sam2", &sam2[..]),
        ("mplug_owl3_240728", &[Suite::MplugOwl3]),
        ("mplug_owl3_241014", &[Suite::MplugOwl3]),
        ("mplug_owl3_241101", &[Suite::MplugOwl3]),
        ("mplug_owl3_imgproc_240728", &[Suite::MplugOwl3Processor]),
        ("mplug_owl3_imgproc_241101", &[Suite::MplugOwl3Processor]),
        ("qwen3_5_vl", &[Suite::Qwen3_5Vl]),
        ("qwen3_5_vl_shards", &[Suite::Qwen3_5Vl]),
        ("qwen3_5_vl_imgproc", &[Suite::Qwen3_5VlProcessor]),
        ("qwen2_tokenizer", &[Suite::Tokenizers]),
        ("qwen3_5_tokenizer", &[Suite::Tokenizers]),
        ("clip_iqa/resnet", &[Suite::Clip]),
        ("clip_iqa/vit", &[Suite::Clip]),
        ("metrics", &[Suite::Metrics]),
        ("evaluate", &[Suite::Joins]),
        ("dogiqa_release", &[Suite::Release]),
        ("odd_images", &[Suite::OddImages]),
        ("imaging", &[Suite::Decoding]),
        ("heic_avif_jxl", &[Suite::Decoding]),
    ] {
        assert_eq!(suites(name), [(goldens().join(name), expected.to_vec())], "{name}");
    }
    let clip = Found::below(&[goldens().join("clip_iqa")]).taken;
    assert_eq!(clip.len(), 3, "the prompts and two networks: {clip:?}");
}

/// Makes a folder with links to files of the repository.
fn linked(folder: &Path, golden: &str, files: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for file in files {
        symlink(goldens().join(golden).join(file), folder.join(file)).unwrap();
    }
}

#[test]
fn nested_and_renamed_folders_are_found_and_unknown_ones_are_named() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let network = ["config.json", "io.safetensors", "model.safetensors"];
    linked(&at("metrics/clip_iqa/resnet"), "clip_iqa/resnet", &network);
    linked(&at("a"), "qwen3_5_vl", &network);
    linked(&at("b"), "mplug_owl3_241101", &network);
    linked(&at("images"), "mplug_owl3_images", &["README.md", "img_50x40.png"]);
    let taken = |found: &Found| -> Vec<Vec<Suite>> {
        found.taken.iter().map(|(_, suites)| suites.clone()).collect()
    };
    let found = Found::below(&[root.path().to_owned()]);
    assert_eq!(taken(&found), [[Suite::Qwen3_5Vl], [Suite::MplugOwl3], [Suite::Clip]]);
    assert_eq!((found.without_data.len(), found.left.len()), (1, 0), "{found:?}");
    // A folder that is named twice, or by itself and in another one, is compared once.
    let twice =
        [at("metrics"), at("metrics/clip_iqa/resnet"), root.path().join("metrics/clip_iqa")];
    assert_eq!(taken(&Found::below(&twice)), [[Suite::Clip]]);

    // Tensors of an unknown network, also next to those of a known suite, and an unknown file.
    fs::create_dir(at("c")).unwrap();
    fs::write(at("c/results.json"), "{}").unwrap();
    linked(&at("d"), "sam2", &["io.safetensors", "amg_steps.json"]);
    linked(&at("e"), "clip_iqa/vit", &["io.safetensors"]);
    let found = Found::below(&[root.path().to_owned()]);
    assert_eq!(found.left, [at("c"), at("d"), at("e")]);
}

/// A network with its golden folder, the other files of the folder, and its comparison.
struct Network {
    golden: &'static str,
    files: &'static [&'static str],
    /// Ends of the names of the inputs.
    inputs: &'static [&'static str],
    /// The result that must be there.
    result: &'static str,
    compare: fn(&Path),
}

const NETWORKS: [Network; 5] = [
    Network {
        golden: "sam2",
        files: &["config.json", "model.hf.safetensors", "image.png"],
        inputs: &["coords", "labels", "mask_input"],
        result: "masks4",
        compare: |folder| goldens_sam2::compare(folder, "network", &Place::cpu()),
    },
    Network {
        golden: "mplug_owl3_241101",
        files: &["config.json", "model.safetensors"],
        inputs: &["pixel_pool", "input_ids", "image_index", "image_row", "image_start"],
        result: "logits",
        compare: |folder| _ = goldens_mplug_owl3::compare_all(folder),
    },
    Network {
        golden: "qwen3_5_vl",
        files: &["config.json", "model.safetensors"],
        inputs: &["u8", "input_ids", "attention_mask", "image_index", "image_row", "level_ids"],
        result: "logits",
        compare: |folder| goldens_qwen3_5_vl::compare_all(folder, 1),
    },
    Network {
        golden: "clip_iqa/resnet",
        files: &["config.json", "model.safetensors"],
        inputs: &["token_ids", "token_lengths"],
        result: "logits",
        compare: |folder| goldens_clip_iqa::compare_folder(folder, &Place::cpu(), "clip"),
    },
    Network {
        golden: "clip_iqa/vit",
        files: &["config.json", "model.safetensors"],
        inputs: &["token_ids", "token_lengths"],
        result: "logits",
        compare: |folder| goldens_clip_iqa::compare_folder(folder, &Place::cpu(), "clip"),
    },
];

impl Network {
    /// Makes a copy of the folder with another `io.safetensors`, and compares it. Returns false if
    /// the comparison fails.
    fn holds(&self, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> bool {
        let folder = tempfile::tempdir().unwrap();
        self.write(&folder, change);
        catch_unwind(AssertUnwindSafe(|| (self.compare)(folder.path()))).is_ok()
    }

    fn write(&self, folder: &TempDir, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
        linked(folder.path(), self.golden, self.files);
        let mut io = tensors(&goldens().join(self.golden).join("io.safetensors"));
        change(&mut io);
        candle_core::safetensors::save(&io, folder.path().join("io.safetensors")).unwrap();
    }

    fn is_input(&self, name: &str) -> bool {
        self.inputs.iter().any(|end| name.ends_with(end))
    }
}

#[test]
fn a_folder_that_lacks_tensors_is_compared_by_those_it_has() {
    for network in NETWORKS {
        let Network { golden, result, .. } = network;
        let is_needed = |name: &str| network.is_input(name) || name.ends_with(result);
        assert!(network.holds(|io| io.retain(|name, _| is_needed(name))), "{golden}: results only");
        let mut count = 0;
        let every_third = |io: &mut HashMap<String, Tensor>| {
            let mut names: Vec<String> =
                io.keys().filter(|name| !is_needed(name)).cloned().collect();
            names.sort();
            for name in names.iter().step_by(3) {
                io.remove(name);
                count += 1;
            }
        };
        assert!(network.holds(every_third), "{golden}: two thirds");
        assert!(count > 5, "{golden}: {count} removed");
    }
    // Without an image, the prompts about the others are compared, and those without an image.
    let qwen = &NETWORKS[2];
    assert!(qwen.holds(|io| assert!(io.remove("image.2.u8").is_some())));
    assert!(qwen.holds(|io| io.retain(|name, _| !name.starts_with("image."))));
}

#[test]
fn a_wrong_result_or_none_fails() {
    for network in NETWORKS {
        let Network { golden, result, .. } = network;
        let wrong = |io: &mut HashMap<String, Tensor>| {
            io.retain(|name, _| network.is_input(name) || name.ends_with(result));
            let name = io.keys().filter(|name| name.ends_with(result)).min().unwrap().clone();
            let changed = (&io[&name] * 1.01).unwrap();
            io.insert(name, changed);
        };
        assert!(!network.holds(wrong), "{golden}: a wrong result");
        let none = |io: &mut HashMap<String, Tensor>| io.retain(|name, _| network.is_input(name));
        assert!(!network.holds(none), "{golden}: no result");
    }
}
