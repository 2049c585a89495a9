//! The tokenizer of all Qwen3.5 checkpoints, and a small random network that reads it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use crate::small_networks::write_random;

/// Rows of the embedding, as in the published networks.
const ROWS: usize = 248_320;

/// Returns the `tokenizer.json` of the checkpoints.
pub(crate) fn tokenizer_json() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/qwen3_5_tokenizer");
    let mut json = Vec::new();
    let file = File::open(folder.join("tokenizer.json.gz")).unwrap();
    GzDecoder::new(file).read_to_end(&mut json).unwrap();
    json
}

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
