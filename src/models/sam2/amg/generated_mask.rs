//! A mask that the generator has found.

use crate::method::Rle;
use crate::models::sam2::amg::grid::{Corners, CropBox};

/// One object of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedMask {
    /// Its pixels in the frame of the whole image. Without filters there may be none.
    pub rle: Rle,
    /// `[left, top, right, bottom]` of its pixels, inclusive.
    pub corners: Corners,
    /// The network's estimate of the mask's intersection over union.
    pub predicted_iou: f32,
    /// Pixels above the raised threshold divided by pixels above the lowered one.
    pub stability_score: f32,
    /// The clicked point, in pixels of the image.
    pub point: [f32; 2],
    /// The crop that was clicked.
    pub crop: CropBox,
}
