//! The sender's own data of a reference, passed through digit for digit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A JSON object as the sender wrote it, without insignificant whitespace. Numbers keep their
/// digits, which a floating-point number would not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Box<RawValue>")]
pub struct Metadata(Box<RawValue>);

impl From<Box<RawValue>> for Metadata {
    fn from(object: Box<RawValue>) -> Self {
        Self::copy(&object)
    }
}

impl Metadata {
    /// Returns an object without entries.
    pub fn empty() -> Self {
        Self::from_entries(&BTreeMap::new())
    }

    /// Copies the text of a JSON object, without insignificant whitespace.
    pub(crate) fn copy(object: &RawValue) -> Self {
        let text = RawValue::from_string(compact(object.get()));
        Self(text.expect("JSON without whitespace is JSON"))
    }

    /// Returns the JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Returns the entries. Numbers may lose digits.
    pub fn to_map(&self) -> Map<String, Value> {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// Adds the values whose names are missing.
    pub fn add_missing(&mut self, values: &BTreeMap<String, String>) {
        let mut entries: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(self.as_str()).unwrap_or_default();
        for (name, value) in values {
            if let Ok(value) = serde_json::value::to_raw_value(value) {
                entries.entry(name.clone()).or_insert(value);
            }
        }
        *self = Self::from_entries(&entries);
    }

    fn from_entries(entries: &BTreeMap<String, Box<RawValue>>) -> Self {
        Self(serde_json::value::to_raw_value(entries).expect("entries are plain data"))
    }
}

impl PartialEq for Metadata {
    /// Compares the texts: `1.0` and `1` differ.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Removes whitespace outside of strings.
fn compact(json: &str) -> String {
    let mut is_in_string = false;
    let mut is_escaped = false;
    let keeps = |character: &char| {
        let is_kept = is_in_string || !character.is_ascii_whitespace();
        if *character == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = is_in_string && *character == '\\' && !is_escaped;
        is_kept
    };
    json.chars().filter(keeps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(json: &str) -> Metadata {
        Metadata::copy(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn numbers_keep_their_digits_and_strings_their_spaces() {
        let json =
            "{ \"price\" : 1.10,\n \"id\": 12345678901234567890123, \"t\": \"a \\\" b\\\\\" }";
        let text = r#"{"price":1.10,"id":12345678901234567890123,"t":"a \" b\\"}"#;
        assert_eq!(metadata(json).as_str(), text);
        assert_eq!(serde_json::to_string(&metadata(json)).unwrap(), text);
        assert_eq!(serde_json::from_str::<Metadata>(text).unwrap(), metadata(json));
        assert_eq!(serde_json::from_str::<Metadata>(json).unwrap(), metadata(json));
    }

    #[test]
    fn a_missing_value_is_added_and_an_existing_one_is_kept() {
        let mut both = metadata(r#"{"batch":8.50}"#);
        both.add_missing(&BTreeMap::from([
            ("batch".to_owned(), "7".to_owned()),
            ("shop".to_owned(), "a".to_owned()),
        ]));
        assert_eq!(both.as_str(), r#"{"batch":8.50,"shop":"a"}"#);
        assert_eq!(Metadata::empty().as_str(), "{}");
    }
}
