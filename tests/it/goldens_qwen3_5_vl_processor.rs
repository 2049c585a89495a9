//! Sizes, pixels, patches, prompts and tokens of Q-ReAlign against the reference's processors and
//! the vocabulary.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dog_iqa::models::mplug_owl3::Tokenizer;
use dog_iqa::models::qwen3_5_vl::{
    AREA_MAX, Grid, Patches, Prompt, Question, SizeRule, Thinking, WORDS, Wording, image_positions,
    normalise, patches, score, target_size, text_positions, word_tokens,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::goldens::{Comparison, folders, json, picture, tensors};
use crate::qwen3_5::tokenizer_json;

/// Returns the tokenizer of all checkpoints.
fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(Path::new("tokenizer.json"), &tokenizer_json()).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn all_folders() -> Vec<PathBuf> {
    let mut all = folders("qwen3_5_vl_imgproc", &["imgproc.json", "imgproc.safetensors"]);
    // Other networks' folders have files of these names, too.
    all.retain(|folder| json(&folder.join("imgproc.json"))["resize_table"].is_array());
    all
}

/// Returns the path of an image. The images have a separate folder, next to the goldens' folder,
/// inside it, or in the repository.
fn image(folder: &Path, name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let parents = [folder.parent().unwrap().to_owned(), folder.to_owned(), own];
    let paths = parents.map(|parent| parent.join("mplug_owl3_images").join(name));
    let found = paths.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is neither next to nor in {}", folder.display()))
}

/// Returns the resized image that patches were cut from, `(3, height, width)` u8.
fn uncut(patches: &Patches) -> Tensor {
    let (rows, columns) = patches.grid.merged();
    patches
        .samples
        .reshape(vec![rows, columns, 2, 2, 3, 16, 16])
        .unwrap()
        .permute(vec![4, 0, 2, 5, 1, 3, 6])
        .unwrap()
        .contiguous()
        .unwrap()
        .reshape((3, rows * 32, columns * 32))
        .unwrap()
}

#[test]
fn sizes_pixels_and_patches_equal_the_reference_bit_for_bit() {
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let samples = tensors(&folder.join("imgproc.safetensors"));
        let mut comparison = Comparison::new(&folder, "patches");
        for entry in golden["images"].as_array().unwrap() {
            let picture = picture(&image(&folder, entry["file"].as_str().unwrap()));
            let size = format!("{}x{}", picture.width(), picture.height());
            let hash = hex::encode(Sha256::digest(picture.pixels().as_raw()));
            let expected = entry["sha256_rgb"].as_str().unwrap().to_owned();
            comparison.equal(&format!("{size}.sha256_rgb"), &hash, &expected);
            for (kind, rule) in [("hub", SizeRule::Hub), ("train", SizeRule::Train)] {
                let entry = &entry[kind];
                let ours = patches(picture.pixels(), rule, AREA_MAX).unwrap();
                let name = |part: &str| format!("{size}.{kind}.{part}");
                let sides = [ours.grid.rows, ours.grid.columns];
                let sides = sides.map(|side| u32::try_from(side).unwrap());
                let grid = vec![1, sides[0], sides[1]];
                comparison.equal(&name("grid"), &grid, &numbers(&entry["grid_thw"]));
                let tokens = u32::try_from(ours.grid.tokens()).unwrap();
                comparison.equal(&name("tokens"), &tokens, &number(&entry["image_tokens"]));
                let resized = uncut(&ours);
                let bytes: Vec<u8> = resized.flatten_all().unwrap().to_vec1().unwrap();
                let hash = hex::encode(Sha256::digest(&bytes));
                let expected = entry["sha256_u8_chw"].as_str().unwrap().to_owned();
                comparison.equal(&name("sha256"), &hash, &expected);
                let u8_name = name("u8");
                comparison.close_if_present(&u8_name, || resized, samples.get(&u8_name), 0.0);
                let Some(rows) = samples.get(&name("rows")) else {
                    comparison.absent(&name("rows"));
                    continue;
                };
                // The reference repeats the image as a second frame.
                let one = normalise(&ours.samples).unwrap().reshape(((), 3, 1, 256)).unwrap();
                let two = Tensor::cat(&[&one, &one], 2).unwrap().flatten_from(1).unwrap();
                let values = two.index_select(&rows.to_device(&Device::Cpu).unwrap(), 0).unwrap();
                let values_name = name("pixel_values");
                let golden = samples.get(&values_name);
                comparison.close_if_present(&values_name, || values, golden, 0.0);
            }
        }
        comparison.finish(54);
    }
}

#[test]
fn every_size_of_the_table_has_the_target_of_the_reference() {
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let mut comparison = Comparison::new(&folder, "sizes");
        for row in golden["resize_table"].as_array().unwrap() {
            let row = numbers(row);
            for (index, (rule, most)) in
                [(SizeRule::Hub, AREA_MAX), (SizeRule::Hub, 1 << 20), (SizeRule::Train, AREA_MAX)]
                    .into_iter()
                    .enumerate()
            {
                // 0 × 0 where the reference refuses the shape.
                let ours = target_size((row[0], row[1]), rule, most).unwrap_or_default();
                let expected = (row[2 + 2 * index], row[3 + 2 * index]);
                let name = format!("{}x{}, {rule:?}, {most}", row[0], row[1]);
                comparison.equal(&name, &ours, &expected);
            }
        }
        comparison.finish(3 * 198);
    }
}

/// Returns the prompt of a name in the file.
fn prompt(name: &str, tokenizer: &Tokenizer) -> Prompt {
    use Question::{Aesthetics, Quality};
    let (question, wording, thinking) = match name {
        "card_quality" => (Quality, Wording::Card, Thinking::Closed),
        "card_quality_open" => (Quality, Wording::Card, Thinking::Open),
        "pyiqa_quality" => (Quality, Wording::Pyiqa, Thinking::Closed),
        "pyiqa_aesthetic" => (Aesthetics, Wording::Pyiqa, Thinking::Closed),
        "toolkit_iqa" => (Quality, Wording::Toolkit, Thinking::Closed),
        "toolkit_iaa" => (Aesthetics, Wording::Toolkit, Thinking::Closed),
        other => panic!("{other} is an unknown prompt"),
    };
    Prompt::new(question, wording, thinking, tokenizer).unwrap()
}

/// Returns all tokens of a prompt about an image of this grid.
fn all_tokens(prompt: &Prompt, grid: Grid) -> Vec<u32> {
    let image = vec![248_056; grid.tokens()];
    [&prompt.before[..], &image, &prompt.after].concat()
}

#[test]
fn prompts_have_the_tokens_and_positions_of_the_reference() {
    let tokenizer = tokenizer();
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let mut comparison = Comparison::new(&folder, "prompts");
        for (name, entry) in golden["prompts"].as_object().unwrap() {
            let ours = prompt(name, &tokenizer);
            comparison.equal(&format!("{name}.before"), &ours.before, &numbers(&entry["before"]));
            comparison.equal(&format!("{name}.after"), &ours.after, &numbers(&entry["after"]));
        }
        for case in golden["prompt_cases"].as_array().unwrap() {
            let name = format!("{}, {}", case["file"], case["prompt"]);
            let picture = picture(&image(&folder, case["file"].as_str().unwrap()));
            let grid = patches(picture.pixels(), SizeRule::Hub, AREA_MAX).unwrap().grid;
            let prompt = prompt(case["prompt"].as_str().unwrap(), &tokenizer);
            let all = all_tokens(&prompt, grid);
            let length = u32::try_from(all.len()).unwrap();
            comparison.equal(&name, &length, &number(&case["length"]));
            let (_, start) = text_positions(prompt.before.len(), 0);
            comparison.equal(&name, &start, &number(&case["first_image_token"]));
            let (_, behind) = image_positions(grid, start);
            comparison.equal(&name, &behind, &number(&case["position_behind_image"]));
            let (positions, _) = text_positions(prompt.after.len(), behind);
            let last = positions.last().unwrap()[0];
            comparison.equal(&name, &last, &number(&case["last_position"]));
            let bytes: Vec<u8> = all.iter().flat_map(|id| id.to_le_bytes()).collect();
            let hash = hex::encode(Sha256::digest(&bytes));
            let expected = case["sha256_ids_u32le"].as_str().unwrap().to_owned();
            comparison.equal(&name, &hash, &expected);
        }
        let words = word_tokens(&tokenizer).unwrap();
        for (index, (word, token)) in WORDS.into_iter().zip(words).enumerate() {
            comparison.equal(word, &token, &number(&golden["level_tokens"][word]));
            // The weights are those of the words, best first.
            let weight = golden["level_weights"][4 - index].as_f64().unwrap();
            let mut certain = [0.0; 5];
            certain[index] = 1.0;
            comparison.equal(word, &score(&certain), &weight);
        }
        comparison.finish(22);
    }
}

#[test]
fn the_tokenizer_equals_the_vocabulary() {
    let tokenizer = tokenizer();
    for folder in folders("qwen3_5_tokenizer", &["tokens.json"]) {
        let entries = json(&folder.join("tokens.json"));
        // The folder of another vocabulary has a file of this name, too.
        let is_ours = |entry: &Value| {
            entry["text"] == "The quality of the image is" && numbers(&entry["ids"])[0] == 760
        };
        if !entries.as_array().unwrap().iter().any(is_ours) {
            continue;
        }
        let mut comparison = Comparison::new(&folder, "tokens");
        for entry in entries.as_array().unwrap() {
            let text = entry["text"].as_str().unwrap();
            let ids = tokenizer.encode(text).unwrap();
            comparison.equal(text, &ids, &numbers(&entry["ids"]));
        }
        comparison.finish(13);
    }
}
