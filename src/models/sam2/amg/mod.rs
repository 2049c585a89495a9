//! Every object of an image: the automatic mask generator of SAM 2 (`amg.py`,
//! `automatic_mask_generator.py`).
//!
//! ```text
//!  crops, grids ─► clicks ─► decoder ─► IoU ─► stability, box (enlarge) ─► crop edge ─► nms ─► masks
//! ```

mod enlarge;
mod generate;
mod grid;
mod nms;
mod settings;
mod small_regions;
mod survivors;

pub use enlarge::{Enlarge, Measured};
pub use generate::{AmgError, Found, MaskGenerator, Prepared, prepare};
pub use grid::{
    Corners, CropBox, EDGE_TOLERANCE_PX, crop_boxes, in_model, in_pixels, is_near_crop_edge,
    point_grid, point_grids,
};
pub use nms::non_maximum_suppression;
pub use settings::{AmgSettings, Preset};
pub use small_regions::{Bitmap, Cleaned, Kind, clean, corners, fill_holes, remove_small};
