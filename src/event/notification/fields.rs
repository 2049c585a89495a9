//! Fields of notifications. A field is named by its path in messages, `s3.object.key`; the last
//! part is its name in the object.

use serde_json::{Map, Value};

use crate::event::error::ReferenceError;
use crate::event::reference::json::kind_of;

/// A JSON object.
pub(crate) type Fields = Map<String, Value>;

/// Returns a value as an object.
pub(crate) fn as_object<'a>(
    value: &'a Value,
    field: &'static str,
) -> Result<&'a Fields, ReferenceError> {
    let wrong =
        || ReferenceError::WrongType { field, expected: "an object", found: kind_of(value) };
    value.as_object().ok_or_else(wrong)
}

/// Returns a required object.
pub(crate) fn object<'a>(
    fields: &'a Fields,
    field: &'static str,
) -> Result<&'a Fields, ReferenceError> {
    let value = present(fields, field).ok_or(ReferenceError::MissingField { field })?;
    as_object(value, field)
}

/// Returns a required text that is not empty.
pub(crate) fn required_text(
    fields: &Fields,
    field: &'static str,
    chars_max: usize,
) -> Result<String, ReferenceError> {
    let missing = ReferenceError::MissingField { field };
    match present(fields, field) {
        Some(Value::String(text)) if text.is_empty() => Err(ReferenceError::EmptyField { field }),
        _ => text(fields, field, chars_max)?.ok_or(missing),
    }
}

/// Returns a text. `null` and an empty text count as absent, because stores write both.
pub(crate) fn text(
    fields: &Fields,
    field: &'static str,
    chars_max: usize,
) -> Result<Option<String>, ReferenceError> {
    match present(fields, field) {
        None => Ok(None),
        Some(Value::String(text)) if text.chars().nth(chars_max).is_some() => {
            Err(ReferenceError::TooLong { field, limit: chars_max, unit: "characters" })
        }
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(other) => {
            let found = kind_of(other);
            Err(ReferenceError::WrongType { field, expected: "a string", found })
        }
    }
}

/// Returns a whole number, which some stores write as text.
pub(crate) fn whole_number(
    fields: &Fields,
    field: &'static str,
) -> Result<Option<u64>, ReferenceError> {
    let expected = "a whole number from 0 to 2^64 - 1";
    let (number, found) = match present(fields, field) {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => (text.parse().ok(), "another text"),
        Some(Value::Number(number)) => (number.as_u64(), "another number"),
        Some(other) => (None, kind_of(other)),
    };
    number.map(Some).ok_or(ReferenceError::WrongType { field, expected, found })
}

fn present<'a>(fields: &'a Fields, field: &'static str) -> Option<&'a Value> {
    let name = field.rsplit('.').next().unwrap_or(field);
    fields.get(name).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_texts_of_the_wrong_kind_are_named() {
        let value = json!({
            "a": 12, "b": "13", "c": 1e30, "d": -1, "e": "1.5", "f": {}, "g": null, "h": "", "i": 2.5
        });
        let fields = value.as_object().unwrap();
        let number = |field| whole_number(fields, field).map_err(|error| error.code());
        assert_eq!(number("x.a"), Ok(Some(12)));
        assert_eq!(number("x.b"), Ok(Some(13)));
        for wrong in ["c", "d", "e", "f", "i"] {
            assert_eq!(number(wrong), Err("reference.invalid_field"), "{wrong}");
        }
        assert_eq!((number("g"), number("h"), number("none")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(text(fields, "h", 5), Ok(None));
        let error = required_text(fields, "s3.h", 5).unwrap_err();
        assert_eq!(error, ReferenceError::EmptyField { field: "s3.h" });
        let error = required_text(fields, "s3.g", 5).unwrap_err();
        assert_eq!(error, ReferenceError::MissingField { field: "s3.g" });
        let error = text(fields, "s3.b", 1).unwrap_err();
        assert_eq!(error.code(), "reference.field_too_long");
    }
}
