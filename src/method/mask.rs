//! One region's pixels, with the box and the area they imply.

use serde::{Deserialize, Serialize};

use super::rle::{MaskError, Rle};

/// An axis-aligned box in whole pixels; on the wire `[x, y, width, height]`.
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

/// One region's pixels, at least one: their encoding with the box and the area it implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    rle: Rle,
    bbox: BoundingBox,
    area_px: u64,
}

impl Mask {
    /// Measures the pixels of an encoding.
    ///
    /// # Errors
    /// [`MaskError::NoPixel`] when no pixel is set.
    pub fn new(rle: Rle) -> Result<Self, MaskError> {
        let bbox = rle.bbox().ok_or(MaskError::NoPixel)?;
        let area_px = rle.area();
        Ok(Self { rle, bbox, area_px })
    }

    /// The pixels, in the frame of the whole picture.
    pub fn rle(&self) -> &Rle {
        &self.rle
    }

    /// The smallest box around the pixels.
    pub fn bbox(&self) -> BoundingBox {
        self.bbox
    }

    /// Number of pixels, at least 1.
    pub fn area_px(&self) -> u64 {
        self.area_px
    }

    /// Share of the whole picture, above 0 and at most 1.
    pub fn area_fraction(&self) -> f64 {
        let frame_px = u64::from(self.rle.width()) * u64::from(self.rle.height());
        self.area_px as f64 / frame_px as f64
    }
}
