//! HEIC and AVIF: one container, two codings.
//!
//! ```text
//!  boxes ── items, properties ── view (size) ──► header
//!              └── plan (grids, overlays, alpha) ── coded ── hevc, av1 ──► planes
//!                                    planes ── convert ── compose, overlay ──► Raster
//! ```
//!
//! The container is read here, because both codings need it and its lists are where small files
//! claim much.

#[cfg_attr(
    not(any(feature = "heic", feature = "avif")),
    expect(dead_code, reason = "the brands need little of it")
)]
pub(crate) mod boxes;
pub(crate) mod brands;

#[cfg(feature = "avif")]
mod av1;
#[cfg(feature = "avif")]
mod av1_headers;
#[cfg(any(feature = "heic", feature = "avif"))]
mod code_points;
#[cfg(any(feature = "heic", feature = "avif"))]
mod coded;
#[cfg(any(feature = "heic", feature = "avif"))]
mod compose;
#[cfg(any(feature = "heic", feature = "avif"))]
mod convert;
#[cfg(any(feature = "heic", feature = "avif"))]
mod decoders;
#[cfg(any(feature = "heic", feature = "avif"))]
mod file;
#[cfg(feature = "heic")]
mod hevc;
#[cfg(any(feature = "heic", feature = "avif"))]
mod items;
#[cfg(any(feature = "heic", feature = "avif"))]
mod overlay;
#[cfg(any(feature = "heic", feature = "avif"))]
mod plan;
#[cfg(any(feature = "heic", feature = "avif"))]
mod planes;
#[cfg(any(feature = "heic", feature = "avif"))]
mod properties;
#[cfg(any(feature = "heic", feature = "avif"))]
mod sequence;
#[cfg(any(feature = "heic", feature = "avif"))]
mod view;

#[cfg(any(feature = "heic", feature = "avif"))]
pub(crate) use file::{decode, size};
