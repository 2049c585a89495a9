//! Crops for a scorer: the whole picture, or one region of it.

use std::fmt;
use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::imaging::picture::Picture;
use crate::imaging::resample::{Filter, resize};
use crate::method::{BoundingBox, Region, Rle};

/// The pixels of a region's crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropMode {
    /// All pixels of the region's bounding box. The paper's choice: the surroundings help the
    /// scorer (Table 4).
    #[default]
    BoundingBox,
    /// The pixels of the bounding box, black outside the mask.
    Mask,
}

/// The subject of a crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CropSource {
    /// The whole picture.
    Whole,
    /// The region with this index in its segmentation.
    Region(usize),
}

/// Pixels for one rating.
#[derive(Clone)]
pub struct Crop {
    /// Subject of the crop.
    pub source: CropSource,
    /// Pixels at the picture's resolution. Those of the whole picture are shared, not copied.
    pub pixels: Arc<RgbImage>,
}

impl fmt::Debug for Crop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Crop")
            .field("source", &self.source)
            .field("width", &self.pixels.width())
            .field("height", &self.pixels.height())
            .finish()
    }
}

/// Returns the whole picture as a crop. Copies no pixels.
pub fn crop_whole(picture: &Picture) -> Crop {
    Crop { source: CropSource::Whole, pixels: Arc::clone(picture.pixels()) }
}

/// Crops the region with this index in its segmentation, which must be one of this picture. A box
/// of the whole picture shares its pixels.
pub fn crop_region(picture: &Picture, index: usize, region: &Region, mode: CropMode) -> Crop {
    let rgb = picture.pixels();
    let bbox = region.mask.bbox();
    debug_assert!(
        bbox.x + bbox.width <= rgb.width() && bbox.y + bbox.height <= rgb.height(),
        "the region belongs to another picture"
    );
    let source = CropSource::Region(index);
    match mode {
        CropMode::BoundingBox if (bbox.width, bbox.height) == rgb.dimensions() => {
            Crop { source, pixels: Arc::clone(rgb) }
        }
        CropMode::BoundingBox => Crop { source, pixels: Arc::new(copy_box(rgb, bbox)) },
        CropMode::Mask => {
            let mut pixels = copy_box(rgb, bbox);
            blacken_outside(&mut pixels, bbox, region.mask.rle());
            Crop { source, pixels: Arc::new(pixels) }
        }
    }
}

/// Shrinks a picture proportionally until no side exceeds `side_max`. Returns `None` if none does,
/// or if `side_max` is 0.
pub fn shrink(picture: &Picture, side_max: u32) -> Option<Picture> {
    let (width, height) = (picture.width(), picture.height());
    let largest = width.max(height);
    if side_max == 0 || largest <= side_max {
        return None;
    }
    let scaled = |side: u32| {
        let rounded =
            (u64::from(side) * u64::from(side_max) + u64::from(largest) / 2) / u64::from(largest);
        u32::try_from(rounded).unwrap_or(side_max).max(1)
    };
    let rgb = resize(picture.pixels(), scaled(width), scaled(height), Filter::Bicubic);
    Some(Picture::from_rgb(rgb))
}

/// Copies a box out of a picture, row by row: the image crate's views copy pixel by pixel.
fn copy_box(rgb: &RgbImage, bbox: BoundingBox) -> RgbImage {
    let row_len = rgb.width() as usize * 3;
    let (first, len) = (bbox.x as usize * 3, bbox.width as usize * 3);
    let mut samples = Vec::with_capacity(len * bbox.height as usize);
    for row in rgb.chunks_exact(row_len).skip(bbox.y as usize).take(bbox.height as usize) {
        samples.extend_from_slice(&row[first..first + len]);
    }
    RgbImage::from_raw(bbox.width, bbox.height, samples).expect("the box is within the picture")
}

/// Sets the pixels of a crop outside the mask to black.
fn blacken_outside(crop: &mut RgbImage, bbox: BoundingBox, rle: &Rle) {
    let height = rle.height() as usize;
    let (left, top) = (bbox.x as usize, bbox.y as usize);
    let (width, bottom) = (bbox.width as usize, (bbox.y + bbox.height) as usize);
    let pixels = crop.as_chunks_mut::<3>().0;
    let mut start = 0;
    // Runs go down the columns of the whole picture, zeros first.
    for (index, run) in rle.counts().iter().enumerate() {
        let end = start + *run as usize;
        if index % 2 == 0 && end > start {
            let columns = (start / height).max(left)..(end.div_ceil(height)).min(left + width);
            for column in columns {
                let first = start.max(column * height + top) - column * height;
                let last = end.min(column * height + bottom).saturating_sub(column * height);
                for row in first..last {
                    pixels[(row - top) * width + column - left] = [0; 3];
                }
            }
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::method::{Mask, RegionKind};

    fn picture(width: u32, height: u32) -> Picture {
        Picture::from_rgb(RgbImage::from_fn(width, height, |x, y| {
            Rgb([u8::try_from(x).unwrap() + 1, u8::try_from(y).unwrap() + 1, 9])
        }))
    }

    fn region(width: u32, height: u32, inside: impl Fn(u32, u32) -> bool) -> Region {
        let mask = Mask::new(Rle::from_row_major(width, height, inside).unwrap()).unwrap();
        Region::new(RegionKind::Object, mask)
    }

    #[test]
    fn a_crop_of_the_whole_picture_shares_its_pixels() {
        let picture = picture(7, 5);
        let crop = crop_whole(&picture);
        assert_eq!(crop.source, CropSource::Whole);
        assert!(Arc::ptr_eq(&crop.pixels, picture.pixels()));
        let diagonal = region(7, 5, |x, y| x * 4 == y * 6);
        let boxed = crop_region(&picture, 0, &diagonal, CropMode::BoundingBox);
        assert!(Arc::ptr_eq(&boxed.pixels, picture.pixels()));
        let masked = crop_region(&picture, 0, &diagonal, CropMode::Mask);
        assert_eq!(masked.pixels.get_pixel(1, 0), &Rgb([0; 3]));
    }

    #[test]
    fn a_crop_is_the_box_with_or_without_its_surroundings() {
        let shapes: [fn(u32, u32) -> bool; 5] = [
            |x, y| (2..5).contains(&x) && (1..4).contains(&y),
            |x, y| x == y,
            |x, y| (x + y) % 2 == 0,
            |x, y| x == 6 && y == 4,
            |_, _| true,
        ];
        for (shape, inside) in shapes.into_iter().enumerate() {
            let picture = picture(7, 5);
            let region = region(7, 5, inside);
            let bbox = region.mask.bbox();
            let boxed = crop_region(&picture, shape, &region, CropMode::BoundingBox);
            let masked = crop_region(&picture, shape, &region, CropMode::Mask);
            assert_eq!(boxed.source, CropSource::Region(shape));
            assert_eq!(boxed.pixels.dimensions(), (bbox.width, bbox.height));
            assert_eq!(masked.pixels.dimensions(), (bbox.width, bbox.height));
            for (x, y, pixel) in boxed.pixels.enumerate_pixels() {
                let (from_x, from_y) = (bbox.x + x, bbox.y + y);
                assert_eq!(pixel, picture.pixels().get_pixel(from_x, from_y));
                let kept = if inside(from_x, from_y) { *pixel } else { Rgb([0; 3]) };
                assert_eq!(*masked.pixels.get_pixel(x, y), kept, "shape {shape} at ({x}, {y})");
            }
        }
    }

    #[test]
    fn a_crop_mode_is_serialised_in_kebab_case() {
        let mode: CropMode = serde_json::from_str("\"bounding-box\"").unwrap();
        assert_eq!((mode, CropMode::default()), (CropMode::BoundingBox, CropMode::BoundingBox));
        assert_eq!(serde_json::to_string(&CropMode::Mask).unwrap(), "\"mask\"");
    }
}
