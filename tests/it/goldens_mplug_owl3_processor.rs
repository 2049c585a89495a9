//! Views, grids, texts and tokens against the reference's image processor and the published
//! tokenizer.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dog_iqa::models::mplug_owl3::{
    Generation, Grid, IMAGE, Message, Prompt, Role, Tokenizer, chunks, normalise, stack, views,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::golden_folders::{Suite, folders};
use crate::goldens::{Comparison, entries_of, image_of, json, picture, tensors_if_any};
use crate::qwen2::tokenizer_json;

/// Returns the tokenizer of all checkpoints.
pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(Path::new("tokenizer.json"), &tokenizer_json()).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn all_folders() -> Vec<PathBuf> {
    let names = ["mplug_owl3_imgproc_240728", "mplug_owl3_imgproc_241101"];
    folders(Suite::MplugOwl3Processor, &names)
}

fn generation(golden: &Value) -> Generation {
    let variant = golden["variant"].as_str().unwrap();
    let all = [Generation::V240728, Generation::V241014, Generation::V241101];
    all.into_iter().find(|generation| generation.name() == variant).unwrap()
}

/// Compares the views of an image with the file: count, hashes, grid and text.
fn check_views(
    comparison: &mut Comparison,
    (entry, name): (&Value, &str),
    views: &Tensor,
    chosen: Option<Grid>,
    generation: Generation,
) {
    let count = views.dim(0).unwrap();
    comparison.equal_if_present(&format!("{name}.views"), &count, &entry["views"]);
    let bytes: Vec<u8> = views.flatten_all().unwrap().to_vec1().unwrap();
    for (index, view) in bytes.chunks_exact(bytes.len() / count).enumerate() {
        let hash = hex::encode(Sha256::digest(view));
        let golden = &entry["view_sha256_u8_chw"][index];
        comparison.equal_if_present(&format!("{name}.sha256[{index}]"), &hash, golden);
    }
    if let Some(chosen) = chosen {
        let grid = [chosen.rows, chosen.columns];
        comparison.equal_if_present(&format!("{name}.grid"), &grid, &entry["grid_rows_cols"]);
        let text = chosen.text(generation);
        comparison.equal_if_present(&format!("{name}.text"), &text, &entry["text"]);
    }
}

#[test]
fn views_grids_and_texts_equal_the_reference_bit_for_bit() {
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let samples = tensors_if_any(&folder.join("imgproc.safetensors"));
        let generation = generation(&golden);
        let mut comparison = Comparison::new(&folder, "views");
        let stride = golden["stride"].as_u64().unwrap_or(1);
        let stride = usize::try_from(stride).unwrap();
        for entry in entries_of(&golden, "images") {
            let file = entry["file"].as_str().unwrap();
            let Some(path) = image_of(&folder, file) else {
                comparison.absent(file);
                continue;
            };
            let picture = picture(&path);
            let size = (picture.width(), picture.height());
            for (kind, view, cuts) in [
                ("cut", "image_size", true),
                ("nocut", "image_size", false),
                ("toy_cut", "toy_image_size", true),
                ("toy_nocut", "toy_image_size", false),
            ] {
                let is_there = golden[view].is_number() && entry[kind].is_object();
                if !is_there {
                    comparison.absent(&format!("{}x{}.{kind}", size.0, size.1));
                    continue;
                }
                let view = number(&golden[view]);
                let chosen = cuts.then(|| Grid::choose(size.0, size.1, view));
                let ours = stack(&views(picture.pixels(), view, chosen)).unwrap();
                let name = format!("{}x{}.{kind}", size.0, size.1);
                check_views(&mut comparison, (&entry[kind], &name), &ours, chosen, generation);
                let normal = normalise(&ours).unwrap();
                let sample = || {
                    let steps: Vec<u32> = (0..view).step_by(stride).collect();
                    let steps = Tensor::new(steps, &Device::Cpu).unwrap();
                    normal.index_select(&steps, 2).unwrap().index_select(&steps, 3).unwrap()
                };
                let mut compare = |part: &str, ours: &dyn Fn() -> Tensor| {
                    let name = format!("{name}.{part}");
                    comparison.close_if_present(&name, ours, samples.get(&name), 0.0);
                };
                compare("u8", &|| ours.clone());
                compare("pixel_values", &|| normal.clone());
                compare("sample", &sample);
            }
        }
        for row in entries_of(&golden, "grid_table_w_h_rows_cols") {
            let view = number(&golden["image_size"]);
            let row = numbers(row);
            let chosen = Grid::choose(row[0], row[1], view);
            let golden = Grid { rows: row[2], columns: row[3] };
            comparison.equal(&format!("grid of {}x{}", row[0], row[1]), &chosen, &golden);
        }
        comparison.finish_if_any(490);
    }
}

/// Returns the text of one image or video of a conversation.
fn text_of(case: &Value, index: usize, view: u32, generation: Generation) -> String {
    if let Some(videos) = case["video_frame_sizes_wh"].as_array() {
        let frames = IMAGE.repeat(videos[index].as_array().unwrap().len());
        return match generation {
            Generation::V240728 => frames,
            _ => format!("<|start_video_frame|>{frames}<|end_video_frame|>"),
        };
    }
    let size = numbers(&case["image_sizes_wh"][index]);
    if case["cut_enable"].as_bool().unwrap() {
        Grid::choose(size[0], size[1], view).text(generation)
    } else {
        IMAGE.to_owned()
    }
}

/// Returns the conversation. The texts of split images and of videos replace the placeholders.
fn messages(case: &Value, view: u32, generation: Generation) -> Vec<Message> {
    let mut index = 0;
    let messages = case["messages"].as_array().unwrap().iter().map(|message| {
        let role = match message["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        let content = message["content"].as_str().unwrap().replace("<|video|>", IMAGE);
        let mut parts = content.split(IMAGE);
        let mut text = parts.next().unwrap().to_owned();
        for part in parts {
            text.push_str(&text_of(case, index, view, generation));
            text.push_str(part);
            index += 1;
        }
        Message::new(role, text)
    });
    messages.collect()
}

#[test]
fn conversations_have_the_tokens_of_the_reference() {
    let tokenizer = tokenizer();
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let generation = generation(&golden);
        let mut comparison = Comparison::new(&folder, "prompts");
        for case in entries_of(&golden, "processor_cases") {
            let name = case["name"].as_str().unwrap();
            let messages = messages(case, number(&golden["image_size"]), generation);
            let texts = chunks(&messages);
            comparison.equal_if_present(
                &format!("{name}.text_chunks"),
                &texts,
                &case["text_chunks"],
            );
            let Prompt { ids, image_starts: starts } = Prompt::new(&messages, &tokenizer).unwrap();
            comparison.equal_if_present(&format!("{name}.ids"), &ids, &case["input_ids"]);
            comparison.equal_if_present(&format!("{name}.starts"), &starts, &case["image_starts"]);
        }
        comparison.finish_if_any(27);
    }
}

/// Returns true if texts and their tokens are of the vocabulary of 151,665 tokens rather than of
/// Qwen3.5's. Without a large token, the vocabulary decides that gives more of the texts the tokens
/// of the file; the test of that vocabulary then compares all of them.
pub(crate) fn is_of_qwen2(entries: &Value) -> bool {
    let entries = entries.as_array().unwrap();
    if entries.iter().any(|entry| numbers(&entry["ids"]).iter().any(|id| *id >= 151_700)) {
        return false;
    }
    let tokenizer = tokenizer();
    let is_equal = |entry: &&Value| {
        tokenizer.encode(entry["text"].as_str().unwrap()).unwrap() == numbers(&entry["ids"])
    };
    2 * entries.iter().filter(is_equal).count() >= entries.len()
}

#[test]
fn the_tokenizer_equals_the_published_one() {
    let tokenizer = tokenizer();
    for folder in folders(Suite::Tokenizers, &["qwen2_tokenizer"]) {
        let entries = json(&folder.join("tokens.json"));
        // The test of Qwen3.5-VL's tokenizer compares the other folders.
        if !is_of_qwen2(&entries) {
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

#[test]
fn tokens_are_streamed_as_whole_characters() {
    let tokenizer = tokenizer();
    let text = "naïve café — 日本語 🤗 done";
    let mut stream = tokenizer.stream();
    let mut streamed = String::new();
    for id in tokenizer.encode(text).unwrap() {
        streamed.push_str(&stream(id).unwrap().unwrap_or_default());
    }
    assert_eq!(streamed, text);
}
