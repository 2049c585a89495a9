//! A synthetic photo.

use image::{Rgb, RgbImage};

/// Returns a pattern of 1024 × 768 pixels that differs for each number.
pub(crate) fn photo(number: usize) -> RgbImage {
    let shift = u32::try_from(number).unwrap() * 37;
    RgbImage::from_fn(1024, 768, |x, y| {
        let wave = |period: u32| ((x + shift) * y / 64 + (x + y) * 255 / period).to_le_bytes()[0];
        Rgb([wave(500), wave(90), wave(33)])
    })
}
