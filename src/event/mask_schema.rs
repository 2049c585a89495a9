//! The JSON Schema of a mask.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Describes a mask as written. [`crate::method::Rle`] also reads `counts` as an array.
pub(crate) fn mask(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "size": {
                "description": "Height and width of the image in pixels.",
                "type": "array",
                "items": { "type": "integer", "minimum": 1 },
                "minItems": 2,
                "maxItems": 2
            },
            "counts": {
                "description": "Column-major run lengths in the compressed text of the COCO tools.",
                "type": "string"
            }
        },
        "required": ["size", "counts"]
    })
}
