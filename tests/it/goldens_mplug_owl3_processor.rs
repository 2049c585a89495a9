//! Views, grids, texts and tokens against the reference's image processor and the published
//! tokenizer.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dog_iqa::models::mplug_owl3::{
    Generation, Grid, IMAGE, Message, Prompt, Role, Tokenizer, chunks, normalise, stack, views,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::goldens::{Comparison, folders, json, picture, tensors};
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

fn grid(value: &Value) -> Grid {
    let pair = numbers(value);
    Grid { rows: pair[0], columns: pair[1] }
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

fn all_folders() -> Vec<PathBuf> {
    let files = ["imgproc.json", "imgproc.safetensors"];
    let names = ["mplug_owl3_imgproc_240728", "mplug_owl3_imgproc_241101"];
    let mut all: Vec<PathBuf> = names.iter().flat_map(|name| folders(name, &files)).collect();
    all.sort();
    all.dedup();
    // `DOGIQA_GOLDENS` may name folders of other networks' processors.
    all.retain(|folder| json(&folder.join("imgproc.json"))["variant"].is_string());
    all
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
    comparison.equal(&format!("{name}.views"), &(count as u64), &entry["views"].as_u64().unwrap());
    let bytes: Vec<u8> = views.flatten_all().unwrap().to_vec1().unwrap();
    for (index, view) in bytes.chunks_exact(bytes.len() / count).enumerate() {
        let hash = hex::encode(Sha256::digest(view));
        let golden = entry["view_sha256_u8_chw"][index].as_str().unwrap().to_owned();
        comparison.equal(&format!("{name}.sha256[{index}]"), &hash, &golden);
    }
    if let Some(chosen) = chosen {
        let golden = grid(&entry["grid_rows_cols"]);
        comparison.equal(&format!("{name}.grid"), &chosen, &golden);
        let text = entry["text"].as_str().unwrap().to_owned();
        comparison.equal(&format!("{name}.text"), &chosen.text(generation), &text);
    }
}

#[test]
fn views_grids_and_texts_equal_the_reference_bit_for_bit() {
    for folder in all_folders() {
        let golden = json(&folder.join("imgproc.json"));
        let samples = tensors(&folder.join("imgproc.safetensors"));
        let generation = generation(&golden);
        let mut comparison = Comparison::new(&folder, "views");
        let stride = number(&golden["stride"]) as usize;
        for entry in golden["images"].as_array().unwrap() {
            let picture = picture(&image(&folder, entry["file"].as_str().unwrap()));
            let size = (picture.width(), picture.height());
            for (kind, view, cuts) in [
                ("cut", "image_size", true),
                ("nocut", "image_size", false),
                ("toy_cut", "toy_image_size", true),
                ("toy_nocut", "toy_image_size", false),
            ] {
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
        let view = number(&golden["image_size"]);
        for row in golden["grid_table_w_h_rows_cols"].as_array().unwrap() {
            let row = numbers(row);
            let chosen = Grid::choose(row[0], row[1], view);
            let golden = Grid { rows: row[2], columns: row[3] };
            comparison.equal(&format!("grid of {}x{}", row[0], row[1]), &chosen, &golden);
        }
        comparison.finish(490);
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
        for case in golden["processor_cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let messages = messages(case, number(&golden["image_size"]), generation);
            let expected: Vec<String> = case["text_chunks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|chunk| chunk.as_str().unwrap().to_owned())
                .collect();
            comparison.equal(&format!("{name}.text_chunks"), &chunks(&messages), &expected);
            let prompt = Prompt::new(&messages, &tokenizer).unwrap();
            comparison.equal(&format!("{name}.ids"), &prompt.ids, &numbers(&case["input_ids"]));
            let starts: Vec<u32> =
                prompt.image_starts.iter().map(|&start| u32::try_from(start).unwrap()).collect();
            comparison.equal(&format!("{name}.starts"), &starts, &numbers(&case["image_starts"]));
        }
        comparison.finish(27);
    }
}

#[test]
fn the_tokenizer_equals_the_published_one() {
    let tokenizer = tokenizer();
    for folder in folders("qwen2_tokenizer", &["tokens.json"]) {
        // `DOGIQA_GOLDENS` may name folders of other vocabularies; this one has 151,665 tokens.
        let entries = json(&folder.join("tokens.json"));
        let is_other = |entry: &Value| numbers(&entry["ids"]).iter().any(|id| *id >= 151_700);
        if entries.as_array().unwrap().iter().any(is_other) {
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
