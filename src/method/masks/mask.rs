//! A mask with its bounding box and area.

use crate::method::masks::bounding_box::BoundingBox;
use crate::method::masks::error::MaskError;
use crate::method::masks::rle::Rle;

/// The pixels of a region with their bounding box and area.
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

    /// Creates a mask without pixels whose box is the whole frame, as the authors' program crops
    /// it.
    ///
    /// # Errors
    /// Fails if the frame is invalid.
    pub fn without_pixels(width: u32, height: u32) -> Result<Self, MaskError> {
        let rle = Rle::union(width, height, [])?;
        Ok(Self { rle, bbox: BoundingBox { x: 0, y: 0, width, height }, area_px: 0 })
    }

    /// Returns the pixels, in the frame of the whole picture.
    pub fn rle(&self) -> &Rle {
        &self.rle
    }

    /// Returns the smallest box around the pixels, or the whole frame without any.
    pub fn bbox(&self) -> BoundingBox {
        self.bbox
    }

    /// Returns the number of pixels; 0 only for a mask [without any](Self::without_pixels).
    pub fn area_px(&self) -> u64 {
        self.area_px
    }

    /// Returns the share of the whole picture, in 0..=1.
    pub fn area_fraction(&self) -> f64 {
        let frame_px = u64::from(self.rle.width()) * u64::from(self.rle.height());
        self.area_px as f64 / frame_px as f64
    }
}
