//! Bytes to upright sRGB pixels, the crops a scorer looks at, and drawings for people.
//!
//! ```text
//!  bytes ── header (format, size, limits) ── jpeg │ tiff │ container ──► raster ── colour ── orient ──► Picture
//!  Picture ── crop ──► Crop ── resample ──► what a model wants          Picture ── draw ──► what a person sees
//! ```

mod buffers;
mod colour;
mod container;
mod crop;
mod decode;
pub mod draw;
mod header;
mod jpeg;
mod orient;
mod picture;
mod raster;
mod resample;
mod tiff;
mod tiff_directory;

pub use crop::{Crop, CropMode, CropSource, crop_region, crop_whole, shrink};
pub use decode::{DecodeError, Settings, decode, probe};
pub use header::{Header, ImageFormat};
pub use picture::Picture;
pub use resample::{Filter, resize};
