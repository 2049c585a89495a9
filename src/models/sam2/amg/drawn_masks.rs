//! The masks that the decoder has drawn, on the host.

use crate::models::sam2::amg::grid::CropBox;
use crate::models::sam2::amg::host_masks::HostMasks;

/// One crop of one image of a run.
pub(super) struct ImageCrop {
    /// Index of the image.
    pub(super) image: usize,
    /// Width and height of the image in pixels.
    pub(super) image_size: (u32, u32),
    pub(super) crop: CropBox,
    /// Index of the crop in the image's input.
    pub(super) input_index: usize,
}

/// One prompt: a point in a crop.
#[derive(Clone, Copy)]
pub(super) struct Click {
    pub(super) crop_index: usize,
    /// In pixels of the crop.
    pub(super) point: [f32; 2],
}

/// A mask that the decoder has drawn.
#[derive(Clone, Copy)]
pub(super) struct DrawnMask {
    pub(super) click: Click,
    pub(super) predicted_iou: f32,
}

/// The masks of a call of the decoder whose predicted intersection over union passes.
pub(super) struct DrawnMasks {
    pub(super) masks: Vec<DrawnMask>,
    /// The logits of each mask, `(4 · side)²`.
    pub(super) logits: HostMasks,
}
