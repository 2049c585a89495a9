//! Decodes image files to upright sRGB pixels, and crops and resizes them.
//!
//! ```text
//!  bytes ── probe (format, size, limits) ── codecs ──► Raster ── srgb ── orient ──► Picture
//!  Picture ── crop ──► Crop ── resample ──► model input
//! ```
//!
//! Imports `method` for boxes and masks, and no other module of this crate.
//!
//! Two process-wide caches save time and never change a result: pixel buffers that were freed
//! (`buffer_pool`) and colour conversions of recent profiles (`icc_profile`). Both are bounded.

mod buffer_pool;
mod codecs;
mod crop;
mod decode;
mod error;
mod format;
mod header;
mod icc_profile;
mod orient;
mod perceptual_hash;
mod picture;
mod probe;
mod raster;
mod resample;
mod settings;
mod srgb;

pub use crop::{
    Crop, CropMargin, CropMarginError, CropMode, CropSource, crop_region, crop_whole, shrink,
    shrink_pixels,
};
pub use decode::decode;
pub(crate) use decode::decode_probed;
pub use error::DecodeError;
pub use format::ImageFormat;
pub use header::Header;
pub use perceptual_hash::PerceptualHash;
pub use picture::Picture;
pub(crate) use probe::ProbedFile;
pub use probe::probe;
pub use resample::{Filter, resize};
pub use settings::{AlphaRule, ColourRule, OrientationRule, Settings};
