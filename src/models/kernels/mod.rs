//! CPU kernels: operations on contiguous `f32` values, written with SIMD and spread over all cores.
//!
//! `cross_attention`, `upscale` and `enlargement` are those of SAM 2. Each has a plain form in
//! `models::sam2` or a test that computes the same without shortcuts.
//!
//! Kernels know no network and no layer.

pub(crate) mod cross_attention;
mod enlargement;
pub(crate) mod upscale;

pub use enlargement::{MaskEnlargement, MaskMeasurements};
