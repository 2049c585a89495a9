//! A coded picture: its configuration, its data and the size that the container claims.

use std::borrow::Cow;

use crate::imaging::codecs::heif::code_points::CodePoints;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

/// Pixels by which a coded picture may be larger than the claim on each side: whole blocks.
pub(crate) const BLOCK: u32 = 128;

/// A video coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    #[cfg(feature = "heic")]
    Hevc,
    #[cfg(feature = "avif")]
    Av1,
}

/// The form of a picture's samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) is_grey: bool,
    /// True for more than 8 bits per sample.
    pub(crate) is_deep: bool,
}

/// A coded picture.
pub(crate) struct Coded<'a> {
    pub(crate) format: ImageFormat,
    pub(crate) coding: Coding,
    pub(crate) configuration: &'a [u8],
    pub(crate) data: Cow<'a, [u8]>,
    /// Claimed width in pixels.
    pub(crate) width: u32,
    /// Claimed height in pixels.
    pub(crate) height: u32,
    #[cfg_attr(not(feature = "avif"), expect(dead_code, reason = "only AV1 has several"))]
    pub(crate) operating_point: u8,
    /// Colours as the container states them; they win over those of the picture.
    pub(crate) colour: Option<CodePoints>,
}

impl Coded<'_> {
    /// Returns the limit on the coded pixels.
    pub(crate) fn pixels_max(&self) -> u64 {
        u64::from(self.width + BLOCK) * u64::from(self.height + BLOCK)
    }

    pub(crate) fn wrong_size(&self) -> DecodeError {
        DecodeError::corrupt(self.format, "its headers disagree about its size")
    }
}
