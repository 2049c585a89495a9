//! A small random Qwen3.5-VL that reads the tokenizer of all checkpoints.

use std::path::Path;

use tempfile::TempDir;

pub(crate) use crate::qwen3_5_tokenizer::tokenizer_json;
use crate::small_networks::write_random;

/// Rows of the embedding, as in the published networks.
const ROWS: usize = 248_320;

/// Returns a random checkpoint with the shape of the golden Qwen3.5-VL and the real vocabulary.
pub(crate) fn q_realign() -> TempDir {
    const NAME: &str = "qwen3_5_vl";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(NAME);
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let config = config.replace("\"vocab_size\": 320", &format!("\"vocab_size\": {ROWS}"));
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    write_random(folder.path(), NAME, ROWS);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    folder
}
