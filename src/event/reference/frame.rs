//! Bytes that serializers put before JSON: a byte order mark, or the frame of a schema registry.
//!
//! Confluent: a zero byte and the id of the schema in four bytes. AWS Glue: 3, 0 (or 5, if the data
//! are compressed), and the id of the schema version in sixteen bytes.

use crate::event::error::ReferenceError;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const CONFLUENT_MAGIC: u8 = 0;
const GLUE_VERSION: u8 = 3;
const GLUE_PLAIN: u8 = 0;
const GLUE_COMPRESSED: u8 = 5;

/// Returns the JSON behind a frame or a byte order mark, or the whole value if it has neither.
///
/// # Errors
/// Fails if the value has a frame and no JSON object follows: it has another encoding.
pub(crate) fn without_frame(payload: &[u8]) -> Result<&[u8], ReferenceError> {
    let (registry, schema, data) = match payload {
        // UTF-16 begins with a zero byte, too.
        [CONFLUENT_MAGIC, second, ..] if *second == b'{' => return Ok(payload),
        [CONFLUENT_MAGIC, a, b, c, d, data @ ..] => {
            ("Confluent", u32::from_be_bytes([*a, *b, *c, *d]).to_string(), data)
        }
        [GLUE_VERSION, GLUE_PLAIN | GLUE_COMPRESSED, rest @ ..] if rest.len() >= 16 => {
            let (schema, data) = rest.split_at(16);
            let id = uuid::Uuid::from_slice(schema).unwrap_or_default();
            ("AWS Glue", id.to_string(), data)
        }
        _ => return Ok(without_mark(payload)),
    };
    let data = without_mark(data);
    if data.trim_ascii_start().starts_with(b"{") {
        return Ok(data);
    }
    Err(ReferenceError::SchemaFrame { registry, schema })
}

fn without_mark(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = b" {\"uri\": \"s3://a/b\"}";

    #[test]
    fn a_frame_before_json_is_removed() {
        let glue = [&[3, 0][..], &[7; 16], JSON].concat();
        for framed in [
            [&b"\xEF\xBB\xBF"[..], JSON].concat(),
            [&[0, 0, 0, 0, 7][..], JSON].concat(),
            [&[0, 0, 0, 0, 7][..], b"\xEF\xBB\xBF", JSON].concat(),
            glue,
            JSON.to_vec(),
        ] {
            assert_eq!(without_frame(&framed), Ok(JSON), "{framed:?}");
        }
    }

    #[test]
    fn a_frame_before_another_encoding_is_named_with_its_schema() {
        let avro = [&[0, 0, 0, 1, 2][..], b"\x02\x14s3://a/b"].concat();
        let error = without_frame(&avro).unwrap_err();
        assert_eq!(error.code(), "reference.unsupported_encoding");
        assert!(error.to_string().contains("Confluent schema registry (schema 258)"), "{error}");
        let compressed = [&[3, 5][..], &[1; 16], b"\x78\x9c"].concat();
        let text = without_frame(&compressed).unwrap_err().to_string();
        assert!(text.contains("AWS Glue") && text.contains("01010101-0101"), "{text}");
    }

    #[test]
    fn other_bytes_are_left_to_the_parser() {
        for payload in [&b""[..], b"\0", b"\0{\0\"\0", b"\x03\0abc", b"[]"] {
            assert_eq!(without_frame(payload), Ok(payload));
        }
    }
}
