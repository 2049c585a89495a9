//! The tokenizer of all Qwen3.5 checkpoints.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// Returns the `tokenizer.json` of the checkpoints.
pub(crate) fn tokenizer_json() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/qwen3_5_tokenizer");
    let mut json = Vec::new();
    let file = File::open(folder.join("tokenizer.json.gz")).unwrap();
    GzDecoder::new(file).read_to_end(&mut json).unwrap();
    json
}
