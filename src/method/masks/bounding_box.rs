//! Bounding boxes in whole pixels.

use serde::{Deserialize, Serialize};

/// An axis-aligned box in whole pixels. Its JSON form is `[x, y, width, height]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub struct BoundingBox {
    /// Left edge, in pixels from the left of the image.
    pub x: u32,
    /// Top edge, in pixels from the top of the image.
    pub y: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl From<[u32; 4]> for BoundingBox {
    fn from([x, y, width, height]: [u32; 4]) -> Self {
        Self { x, y, width, height }
    }
}

impl From<BoundingBox> for [u32; 4] {
    fn from(bbox: BoundingBox) -> Self {
        [bbox.x, bbox.y, bbox.width, bbox.height]
    }
}
