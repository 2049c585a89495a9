//! JSON values and their fields, with the errors of a reference.

use serde_json::{Map, Value};

use crate::event::error::ReferenceError;

/// Parses JSON.
pub(crate) fn parse(payload: &[u8]) -> Result<Value, ReferenceError> {
    serde_json::from_slice(payload)
        .map_err(|error| ReferenceError::InvalidJson { reason: error.to_string() })
}

/// Removes a text field and returns it. `null` counts as absent.
///
/// # Errors
/// Fails if the field has another type, is empty or longer than `chars_max`.
pub(crate) fn take_text(
    fields: &mut Map<String, Value>,
    field: &'static str,
    chars_max: usize,
) -> Result<Option<String>, ReferenceError> {
    let text = match fields.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => {
            let found = kind_of(&other);
            return Err(ReferenceError::WrongType { field, expected: "a string", found });
        }
    };
    if text.is_empty() {
        return Err(ReferenceError::EmptyField { field });
    }
    if text.chars().nth(chars_max).is_some() {
        return Err(ReferenceError::TooLong { field, limit: chars_max, unit: "characters" });
    }
    Ok(Some(text))
}

/// Returns the type of a value with its article, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
