//! Filled rectangles, as backgrounds for text.

use image::{Rgb, RgbImage};

/// A rectangle in pixels; `x` and `y` are its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plate {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Plate {
    /// Returns true if both plates share a pixel.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// Fills a plate, clipped to the picture.
pub(crate) fn fill(rgb: &mut RgbImage, plate: Plate, colour: Rgb<u8>) {
    let right = plate.x.saturating_add(plate.width).min(rgb.width());
    let bottom = plate.y.saturating_add(plate.height).min(rgb.height());
    for y in plate.y..bottom {
        for x in plate.x..right {
            rgb.put_pixel(x, y, colour);
        }
    }
}
