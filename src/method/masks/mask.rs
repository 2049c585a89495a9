//! A mask that is not empty, with its bounding box and area.

use crate::method::masks::bounding_box::BoundingBox;
use crate::method::masks::error::MaskError;
use crate::method::masks::rle::Rle;

/// The pixels of a region, at least one, with their bounding box and area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    rle: Rle,
    bbox: BoundingBox,
    area_px: u64,
}

impl Mask {
    /// Computes box and area of an encoded mask.
    ///
    /// # Errors
    /// [`MaskError::NoPixel`] if no pixel is set.
    pub fn new(rle: Rle) -> Result<Self, MaskError> {
        let bbox = rle.bbox().ok_or(MaskError::NoPixel)?;
        let area_px = rle.area();
        Ok(Self { rle, bbox, area_px })
    }

    /// Returns the pixels, in the frame of the whole picture.
    pub fn rle(&self) -> &Rle {
        &self.rle
    }

    /// Returns the smallest box around the pixels.
    pub fn bbox(&self) -> BoundingBox {
        self.bbox
    }

    /// Returns the number of pixels, at least 1.
    pub fn area_px(&self) -> u64 {
        self.area_px
    }

    /// Returns the share of the whole picture, above 0 and at most 1.
    pub fn area_fraction(&self) -> f64 {
        let frame_px = u64::from(self.rle.width()) * u64::from(self.rle.height());
        self.area_px as f64 / frame_px as f64
    }
}
