//! Names of fields that look like a mistake: other words or another spelling for a field of a
//! reference. All other unknown fields are ignored, so that senders may add their own.

use serde_json::{Map, Value};

use crate::event::error::ReferenceError;

/// Names without capitals and separators, and the field that is probably meant.
const MISTAKEN: [(&str, &str); 21] = [
    ("bucket", "uri"),
    ("href", "uri"),
    ("imageuri", "uri"),
    ("imageurl", "uri"),
    ("key", "uri"),
    ("location", "uri"),
    ("objectkey", "uri"),
    ("path", "uri"),
    ("s3uri", "uri"),
    ("s3url", "uri"),
    ("src", "uri"),
    ("uri", "uri"),
    ("url", "uri"),
    ("etag", "etag"),
    ("checksum", "sha256"),
    ("digest", "sha256"),
    ("sha", "sha256"),
    ("sha256", "sha256"),
    ("meta", "metadata"),
    ("metadata", "metadata"),
    ("policy", "policy"),
];

/// Other spellings of `version_id`. Ignoring one would assess another version.
const VERSION: &str = "versionid";

/// Returns the mistaken names among the remaining fields of a reference, each in its listed form.
///
/// # Errors
/// Fails if a field is a misspelt `version_id`.
pub(crate) fn find(fields: &Map<String, Value>) -> Result<Vec<&'static str>, ReferenceError> {
    let mut found = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let plain = plain(name);
        if plain == VERSION && !matches!(value, Value::String(text) if text.is_empty()) {
            let field = name.chars().take(NAME_CHARS_MAX).collect();
            return Err(ReferenceError::UnsupportedField { field });
        }
        found.extend(MISTAKEN.iter().map(|(known, _)| *known).find(|known| *known == plain));
    }
    Ok(found)
}

/// Returns the first field that was probably meant as `uri`, as the sender wrote it.
pub(crate) fn instead_of_uri(fields: &Map<String, Value>) -> Option<String> {
    let is_meant = |name: &&String| MISTAKEN.contains(&(plain(name).as_str(), "uri"));
    fields.keys().find(is_meant).map(|name| name.chars().take(NAME_CHARS_MAX).collect())
}

/// Longest name that an error repeats, in characters.
const NAME_CHARS_MAX: usize = 80;

fn plain(name: &str) -> String {
    let letters = name.chars().filter(|character| !matches!(character, '_' | '-'));
    letters.take(NAME_CHARS_MAX).map(|character| character.to_ascii_lowercase()).collect()
}
