//! The reference's image processor: pixels to patches.
//!
//! An image keeps its shape. Its sides become multiples of 32 px within limits of area, by one of
//! two rules that are in use. The limit above is lowered to one of our own: a photo of 12 MP would
//! be 11,750 tokens.

use candle_core::{Device, Result, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::imaging::{Filter, resize};
use crate::models::layers::map_samples;

/// Side of a patch in pixels.
const PATCH: usize = 16;
/// Side in pixels of the four patches that become one token.
const TOKEN: u32 = 32;
/// The largest ratio of an image's sides that the reference accepts.
pub const RATIO_MAX: u32 = 200;
/// The largest area in pixels by either rule of the reference.
pub const AREA_MAX: u32 = 16_777_216;

/// Limits of an image's area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeRule {
    /// The checkpoint's own processor: at least 65,536 px, so a small image is enlarged.
    #[default]
    Hub,
    /// That of training and of the authors' program: at least 4,096 px.
    Train,
}

impl SizeRule {
    /// Returns the smallest area in pixels.
    pub fn area_min(self) -> u32 {
        match self {
            Self::Hub => 65_536,
            Self::Train => 4_096,
        }
    }
}

/// An image that the network cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{width}×{height} px: the network reads no image with a side {RATIO_MAX} times the other")]
pub struct RatioError {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// The patches of an image, row by row of 2 × 2 blocks. Both sides are even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grid {
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
}

impl Grid {
    /// Returns the number of patches.
    pub fn len(self) -> usize {
        self.rows * self.columns
    }

    /// Returns true if there is no patch.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the rows and columns of tokens.
    pub fn merged(self) -> (usize, usize) {
        (self.rows / 2, self.columns / 2)
    }

    /// Returns the number of tokens.
    pub fn tokens(self) -> usize {
        self.len() / 4
    }

    /// Returns the row and column of each patch: blocks row by row, and in a block as well.
    pub fn patches(self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, columns) = self.merged();
        let blocks = (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)));
        blocks.flat_map(|(row, column)| {
            [(0, 0), (0, 1), (1, 0), (1, 1)]
                .map(|(down, right)| (2 * row + down, 2 * column + right))
        })
    }
}

/// An image as the vision tower reads it.
#[derive(Debug, Clone)]
pub struct Patches {
    /// `(patches, 3 · 16 · 16)` u8 on the CPU: each (channel, row, column). The reference repeats
    /// a still image as a second frame, which adds nothing.
    pub samples: Tensor,
    /// The patches' places.
    pub grid: Grid,
}

/// Returns the width and height that an image is resized to, with at most `area_max` pixels or the
/// reference's limit, whichever is lower.
///
/// # Errors
/// Fails if one side is more than 200 times the other.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the reference's arithmetic; sides are positive and below 2^32"
)]
pub fn target_size(
    (width, height): (u32, u32),
    rule: SizeRule,
    area_max: u32,
) -> std::result::Result<(u32, u32), RatioError> {
    let (longer, shorter) = (width.max(height), width.min(height).max(1));
    if u64::from(longer) > u64::from(RATIO_MAX) * u64::from(shorter) {
        return Err(RatioError { width, height });
    }
    let (wide, high) = (f64::from(width), f64::from(height));
    let token = f64::from(TOKEN);
    let nearest = |side: f64| {
        let rounded = (side / token).round_ties_even() * token;
        if rule == SizeRule::Train { rounded.max(token) } else { rounded }
    };
    let (area_min, area_max) = (f64::from(rule.area_min()), f64::from(area_max.min(AREA_MAX)));
    let (mut to_wide, mut to_high) = (nearest(wide), nearest(high));
    if to_wide * to_high > area_max {
        let shrink = (wide * high / area_max).sqrt();
        let floor = |side: f64| ((side / shrink / token).floor() * token).max(token);
        (to_wide, to_high) = (floor(wide), floor(high));
    } else if to_wide * to_high < area_min {
        let grow = (area_min / (wide * high)).sqrt();
        let ceil = |side: f64| (side * grow / token).ceil() * token;
        (to_wide, to_high) = (ceil(wide), ceil(high));
    }
    Ok((to_wide as u32, to_high as u32))
}

/// Resizes an image as Pillow does, and cuts it into patches.
///
/// # Errors
/// Fails if one side is more than 200 times the other.
pub fn patches(
    rgb: &RgbImage,
    rule: SizeRule,
    area_max: u32,
) -> std::result::Result<Patches, RatioError> {
    let (width, height) = target_size(rgb.dimensions(), rule, area_max)?;
    Ok(cut(&resize(rgb, width, height, Filter::Bicubic)))
}

/// Cuts an image into patches.
///
/// # Panics
/// Panics if a side is no multiple of 32 px.
pub fn cut(rgb: &RgbImage) -> Patches {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let side = TOKEN as usize;
    assert!(width.is_multiple_of(side) && height.is_multiple_of(side), "an image has whole tokens");
    let grid = Grid { rows: height / PATCH, columns: width / PATCH };
    let mut samples: Vec<u8> = Vec::with_capacity(3 * width * height);
    for (row, column) in grid.patches() {
        for channel in 0..3 {
            for line in 0..PATCH {
                let first = 3 * ((row * PATCH + line) * width + column * PATCH);
                let pixels = &rgb.as_raw()[first..first + 3 * PATCH];
                samples.extend(pixels.iter().skip(channel).step_by(3));
            }
        }
    }
    let samples = Tensor::from_vec(samples, (grid.len(), 3 * PATCH * PATCH), &Device::Cpu);
    Patches { samples: samples.expect("a patch has 3 · 16 · 16 samples"), grid }
}

/// Converts u8 samples to −1..=1 in f32: `(sample − 127.5) / 127.5`, bit-exact.
///
/// # Errors
/// Fails on an error of the device.
pub fn normalise(samples: &Tensor) -> Result<Tensor> {
    map_samples(samples, |sample| (f32::from(sample) - 127.5) / 127.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_rounded_to_even_at_halves() {
        let hub = |size| target_size(size, SizeRule::Hub, AREA_MAX).unwrap();
        assert_eq!(hub((1008, 1040)), (1024, 1024));
        assert_eq!(hub((1072, 1104)), (1088, 1088), "33.5 and 34.5 become 34");
    }

    #[test]
    fn areas_are_limited_and_stripes_refused() {
        let size = |size, rule, most| target_size(size, rule, most).unwrap();
        assert_eq!(size((4000, 3000), SizeRule::Hub, 1 << 20), (1152, 864));
        assert_eq!(size((10, 10), SizeRule::Train, 1 << 20), (64, 64));
        assert_eq!(size((10, 10), SizeRule::Hub, 1 << 20), (256, 256));
        assert_eq!(size((u32::MAX, u32::MAX), SizeRule::Hub, u32::MAX), (4096, 4096));
        for (width, height) in [(201, 1), (1, 201), (6000, 29)] {
            let refused = target_size((width, height), SizeRule::Hub, AREA_MAX);
            assert_eq!(refused, Err(RatioError { width, height }));
        }
        assert!(target_size((200, 1), SizeRule::Hub, AREA_MAX).is_ok());
    }

    #[test]
    fn patches_go_in_blocks_of_two_by_two() {
        let grid = Grid { rows: 2, columns: 4 };
        let order: Vec<_> = grid.patches().collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
        let mut rgb = RgbImage::new(64, 32);
        // The second block's first patch, its third line's second pixel.
        rgb.put_pixel(33, 2, image::Rgb([7, 8, 9]));
        let samples: Vec<Vec<u8>> = cut(&rgb).samples.to_vec2().unwrap();
        assert_eq!((samples[4][2 * 16 + 1], samples[4][256 + 33], samples[4][512 + 33]), (7, 8, 9));
        assert_eq!(samples.concat().iter().filter(|sample| **sample > 0).count(), 3);
    }
}
