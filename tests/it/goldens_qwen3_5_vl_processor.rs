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

use crate::golden_folders::{Suite, folders};
use crate::goldens::{Comparison, entries_of, image_of, json, picture, tensors_if_any};
use crate::goldens_mplug_owl3_processor::is_of_qwen2;
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
    folders(Suite::Qwen3_5VlProcessor, &["qwen3_5_vl_imgproc"])
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
        let samples = tensors_if_any(&folder.join("imgproc.safetensors"));
        let mut comparison = Comparison::new(&folder, "patches");
        for entry in entries_of(&golden, "images") {
            let file = entry["file"].as_str().unwrap();
            let Some(path) = image_of(&folder, file) else {
                comparison.absent(file);
                continue;
            };
            let picture = picture(&path);
            let size = format!("{}x{}", picture.width(), picture.height());
            let hash = hex::encode(Sha256::digest(picture.pixels().as_raw()));
            comparison.equal_if_present(&format!("{size}.sha256_rgb"), &hash, &entry["sha256_rgb"]);
            for (kind, rule) in [("hub", SizeRule::Hub), ("train", SizeRule::Train)] {
                let Some(entry) = entry.get(kind) else {
                    comparison.absent(&format!("{size}.{kind}"));
                    continue;
                };
                let ours = patches(picture.pixels(), rule, AREA_MAX).unwrap();
                let name = |part: &str| format!("{size}.{kind}.{part}");
                let sides = [ours.grid.rows, ours.grid.columns];
                let sides = sides.map(|side| u32::try_from(side).unwrap());
                let grid = vec![1, sides[0], sides[1]];
                comparison.equal_if_present(&name("grid"), &grid, &entry["grid_thw"]);
                let tokens = u32::try_from(ours.grid.tokens()).unwrap();
                comparison.equal_if_present(&name("tokens"), &tokens, &entry["image_tokens"]);
                let resized = uncut(&ours);
                let bytes: Vec<u8> = resized.flatten_all().unwrap().to_vec1().unwrap();
                let hash = hex::encode(Sha256::digest(&bytes));
                comparison.equal_if_present(&name("sha256"), &hash, &entry["sha256_u8_chw"]);
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
        comparison.finish_if_any(54);
    }
}

#[test]
fn every_size_of_the_table_has_the_target_of_the_reference() {
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let mut comparison = Comparison::new(&folder, "sizes");
        for row in entries_of(&golden, "resize_table") {
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
        comparison.finish_if_any(3 * 198);
    }
}

/// Returns the prompt of a name in the file, or `None` if we do not have it.
fn prompt(name: &str, tokenizer: &Tokenizer) -> Option<Prompt> {
    use Question::{Aesthetics, Quality};
    let (question, wording, thinking) = match name {
        "card_quality" => (Quality, Wording::Card, Thinking::Closed),
        "card_quality_open" => (Quality, Wording::Card, Thinking::Open),
        "pyiqa_quality" => (Quality, Wording::Pyiqa, Thinking::Closed),
        "pyiqa_aesthetic" => (Aesthetics, Wording::Pyiqa, Thinking::Closed),
        "toolkit_iqa" => (Quality, Wording::Toolkit, Thinking::Closed),
        "toolkit_iaa" => (Aesthetics, Wording::Toolkit, Thinking::Closed),
        _ => return None,
    };
    Some(Prompt::new(question, wording, thinking, tokenizer).unwrap())
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
        for (name, entry) in golden["prompts"].as_object().into_iter().flatten() {
            let Some(ours) = prompt(name, &tokenizer) else {
                comparison.unknown(&format!("the prompt {name}"));
                continue;
            };
            comparison.equal_if_present(&format!("{name}.before"), &ours.before, &entry["before"]);
            comparison.equal_if_present(&format!("{name}.after"), &ours.after, &entry["after"]);
        }
        for case in entries_of(&golden, "prompt_cases") {
            check_prompt_case(&mut comparison, &folder, case, &tokenizer);
        }
        let words = word_tokens(&tokenizer).unwrap();
        for (index, (word, token)) in WORDS.into_iter().zip(words).enumerate() {
            comparison.equal_if_present(word, &token, &golden["level_tokens"][word]);
            // The weights are those of the words, best first.
            let mut certain = [0.0; 5];
            certain[index] = 1.0;
            let weight = &golden["level_weights"][4 - index];
            comparison.equal_if_present(&format!("weight of {word}"), &score(&certain), weight);
        }
        comparison.finish_if_any(22);
    }
}

/// Compares a whole prompt about an image: its tokens, and the positions around the image.
fn check_prompt_case(
    comparison: &mut Comparison,
    folder: &Path,
    case: &Value,
    tokenizer: &Tokenizer,
) {
    let (file, name) = (case["file"].as_str().unwrap(), case["prompt"].as_str().unwrap());
    let Some(prompt) = prompt(name, tokenizer) else {
        return comparison.unknown(&format!("the prompt {name}"));
    };
    let Some(path) = image_of(folder, file) else { return comparison.absent(file) };
    let picture = picture(&path);
    let grid = patches(picture.pixels(), SizeRule::Hub, AREA_MAX).unwrap().grid;
    let all = all_tokens(&prompt, grid);
    let (_, start) = text_positions(prompt.before.len(), 0);
    let (_, behind) = image_positions(grid, start);
    let (positions, _) = text_positions(prompt.after.len(), behind);
    for (part, ours) in [
        ("length", u32::try_from(all.len()).unwrap()),
        ("first_image_token", start),
        ("position_behind_image", behind),
        ("last_position", positions.last().unwrap()[0]),
    ] {
        comparison.equal_if_present(&format!("{file}, {name}, {part}"), &ours, &case[part]);
    }
    let bytes: Vec<u8> = all.iter().flat_map(|id| id.to_le_bytes()).collect();
    let hash = hex::encode(Sha256::digest(&bytes));
    comparison.equal_if_present(&format!("{file}, {name}, ids"), &hash, &case["sha256_ids_u32le"]);
}

#[test]
fn the_tokenizer_equals_the_vocabulary() {
    let tokenizer = tokenizer();
    for folder in folders(Suite::Tokenizers, &["qwen3_5_tokenizer"]) {
        let entries = json(&folder.join("tokens.json"));
        // The test of mPLUG-Owl3's tokenizer compares the other folders.
        if is_of_qwen2(&entries) {
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
