//! The automatic mask generator of SAM 2, which finds every object of an image (`amg.py`,
//! `automatic_mask_generator.py`).
//!
//! ```text
//!  crops, grids ─► clicks ─► decoder ─► IoU ─► stability, box ─► crop edge ─► nms ─► masks
//! ```

mod drawn_masks;
mod duplicates;
mod error;
mod generate;
mod generated_mask;
mod grid;
mod host_masks;
mod mask_filter;
mod nms;
mod settings;
mod small_regions;

pub use crate::models::kernels::{MaskEnlargement, MaskMeasurements};
pub use error::AmgError;
pub use generate::{MaskGenerator, PreparedImage, prepare};
pub use generated_mask::GeneratedMask;
pub use grid::{
    Corners, CropBox, EDGE_TOLERANCE_PX, crop_boxes, in_model, in_pixels, is_near_crop_edge,
    point_grid, point_grids,
};
pub use nms::non_maximum_suppression;
pub use settings::{AmgPreset, AmgSettings};
pub use small_regions::{
    Bitmap, CleanedMask, SmallRegionKind, clean_logits, clean_masks, corners, remove_small_regions,
};
