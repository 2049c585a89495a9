//! Crops for a scorer: the whole picture, or one region of it.

use std::borrow::Cow;
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
    /// The pixels of the bounding box, black outside the mask. So is a margin.
    Mask,
}

/// The largest margin: a crop has at most nine times the sides of its box.
const MARGIN_MAX: f64 = 4.0;

/// The surroundings that a region's crop shows: the share of the bounding box's width, and of its
/// height, by which the crop is extended on each side. From 0 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct CropMargin(f64);

/// A margin that is negative, too large or not a number.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "{0} is not a crop margin: it must be from 0 to {MARGIN_MAX}, in shares of the box's sides"
)]
pub struct CropMarginError(f64);

impl TryFrom<f64> for CropMargin {
    type Error = CropMarginError;

    fn try_from(share: f64) -> Result<Self, CropMarginError> {
        if (0.0..=MARGIN_MAX).contains(&share) {
            Ok(Self(share))
        } else {
            Err(CropMarginError(share))
        }
    }
}

impl From<CropMargin> for f64 {
    fn from(margin: CropMargin) -> Self {
        margin.0
    }
}

impl CropMargin {
    /// Returns true if the crop is the box.
    pub fn is_none(self) -> bool {
        self.0 == 0.0
    }

    /// Extends a box within a frame of `width` × `height` pixels. The extension is rounded to whole
    /// pixels; the part outside the frame is cut off.
    pub fn extend(self, bbox: BoundingBox, (width, height): (u32, u32)) -> BoundingBox {
        let (x, box_width) = self.extend_side(bbox.x, bbox.width, width);
        let (y, box_height) = self.extend_side(bbox.y, bbox.height, height);
        BoundingBox { x, y, width: box_width, height: box_height }
    }

    fn extend_side(self, start: u32, len: u32, frame: u32) -> (u32, u32) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is not negative"
        )]
        let margin = (self.0 * f64::from(len)).round() as u32;
        let end = start.saturating_add(len).saturating_add(margin).min(frame);
        let start = start.saturating_sub(margin);
        (start, end - start)
    }
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
    /// The whole picture of a region's crop, for a scorer that reads both. Shared, not copied.
    pub picture: Option<Arc<RgbImage>>,
}

impl fmt::Debug for Crop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Crop")
            .field("source", &self.source)
            .field("width", &self.pixels.width())
            .field("height", &self.pixels.height())
            .finish_non_exhaustive()
    }
}

impl Crop {
    /// Returns the pixels for a network that refuses images with one side over `ratio_max` times
    /// the other. Those of a region are extended to that ratio, because a thin object must not cost
    /// its image the event; those of the whole picture stay as they are.
    pub fn without_stripe(&self, ratio_max: u32) -> Cow<'_, RgbImage> {
        match self.source {
            CropSource::Whole => Cow::Borrowed(&*self.pixels),
            CropSource::Region(_) => without_stripe(&self.pixels, ratio_max),
        }
    }
}

/// Returns the whole picture as a crop. Copies no pixels.
pub fn crop_whole(picture: &Picture) -> Crop {
    Crop { source: CropSource::Whole, pixels: Arc::clone(picture.pixels()), picture: None }
}

/// Crops the region with this index in its segmentation, which must be one of this picture. The box
/// is extended by `margin`. A box of the whole picture shares its pixels.
pub fn crop_region(
    picture: &Picture,
    index: usize,
    region: &Region,
    (mode, margin): (CropMode, CropMargin),
) -> Crop {
    let rgb = picture.pixels();
    let bbox = margin.extend(region.mask.bbox(), rgb.dimensions());
    debug_assert!(
        bbox.x + bbox.width <= rgb.width() && bbox.y + bbox.height <= rgb.height(),
        "the region belongs to another picture"
    );
    let pixels = match mode {
        CropMode::BoundingBox if (bbox.width, bbox.height) == rgb.dimensions() => Arc::clone(rgb),
        CropMode::BoundingBox => Arc::new(copy_box(rgb, bbox)),
        CropMode::Mask => {
            let mut pixels = copy_box(rgb, bbox);
            blacken_outside(&mut pixels, bbox, region.mask.rle());
            Arc::new(pixels)
        }
    };
    Crop { source: CropSource::Region(index), pixels, picture: Some(Arc::clone(rgb)) }
}

/// Shrinks a picture proportionally until no side exceeds `side_max`. Returns `None` if none does,
/// or if `side_max` is 0.
pub fn shrink(picture: &Picture, side_max: u32) -> Option<Picture> {
    shrink_pixels(picture.pixels(), side_max).map(Picture::from_rgb)
}

/// Shrinks pixels as [`shrink`] does a picture.
pub fn shrink_pixels(pixels: &RgbImage, side_max: u32) -> Option<RgbImage> {
    let (width, height) = pixels.dimensions();
    let largest = width.max(height);
    if side_max == 0 || largest <= side_max {
        return None;
    }
    let scaled = |side: u32| {
        let rounded =
            (u64::from(side) * u64::from(side_max) + u64::from(largest) / 2) / u64::from(largest);
        u32::try_from(rounded).unwrap_or(side_max).max(1)
    };
    Some(resize(pixels, scaled(width), scaled(height), Filter::Bicubic))
}

/// Extends the shorter side of a stripe by its outermost pixels, evenly, until the longer side is
/// at most `ratio_max` times the shorter one. Borrows an image that needs no extension.
fn without_stripe(rgb: &RgbImage, ratio_max: u32) -> Cow<'_, RgbImage> {
    let (width, height) = rgb.dimensions();
    let side_min = |other: u32| other.div_ceil(ratio_max.max(1));
    let (to_width, to_height) = (width.max(side_min(height)), height.max(side_min(width)));
    if (to_width, to_height) == (width, height) || width == 0 || height == 0 {
        return Cow::Borrowed(rgb);
    }
    let (left, top) = ((to_width - width) / 2, (to_height - height) / 2);
    Cow::Owned(RgbImage::from_fn(to_width, to_height, |x, y| {
        let (x, y) = (x.saturating_sub(left), y.saturating_sub(top));
        *rgb.get_pixel(x.min(width - 1), y.min(height - 1))
    }))
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

    fn boxes() -> (CropMode, CropMargin) {
        (CropMode::BoundingBox, CropMargin::default())
    }

    fn masks() -> (CropMode, CropMargin) {
        (CropMode::Mask, CropMargin::default())
    }

    #[test]
    fn a_margin_extends_the_box_up_to_the_edges_of_the_picture() {
        let picture = picture(20, 10);
        let region = region(20, 10, |x, y| (4..8).contains(&x) && (1..3).contains(&y));
        let extended = |share: f64| {
            let margin = CropMargin::try_from(share).unwrap();
            let crop = crop_region(&picture, 0, &region, (CropMode::BoundingBox, margin));
            let first = crop.pixels.get_pixel(0, 0).0;
            let (width, height) = crop.pixels.dimensions();
            [u32::from(first[0]) - 1, u32::from(first[1]) - 1, width, height]
        };
        assert_eq!(extended(0.0), [4, 1, 4, 2]);
        assert_eq!(extended(0.1), [4, 1, 4, 2], "less than half a pixel");
        assert_eq!(extended(0.25), [3, 0, 6, 4], "half a pixel is rounded up");
        assert_eq!(extended(0.5), [2, 0, 8, 4]);
        assert_eq!(extended(1.0), [0, 0, 12, 5]);
        assert_eq!(extended(4.0), [0, 0, 20, 10]);
        let margin = CropMargin::try_from(0.5).unwrap();
        let masked = crop_region(&picture, 0, &region, (CropMode::Mask, margin));
        assert_eq!(masked.pixels.dimensions(), (8, 4));
        assert_eq!(masked.pixels.get_pixel(1, 1), &Rgb([0; 3]));
        assert_eq!(masked.pixels.get_pixel(2, 1), &Rgb([5, 2, 9]));
        for share in [-0.1, 4.1, f64::NAN, f64::INFINITY] {
            assert!(CropMargin::try_from(share).is_err(), "{share}");
        }
    }

    #[test]
    fn a_crop_of_the_whole_picture_shares_its_pixels() {
        let picture = picture(7, 5);
        let crop = crop_whole(&picture);
        assert_eq!(crop.source, CropSource::Whole);
        assert!(Arc::ptr_eq(&crop.pixels, picture.pixels()));
        let diagonal = region(7, 5, |x, y| x * 4 == y * 6);
        let boxed = crop_region(&picture, 0, &diagonal, boxes());
        assert!(Arc::ptr_eq(&boxed.pixels, picture.pixels()));
        let masked = crop_region(&picture, 0, &diagonal, masks());
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
            let boxed = crop_region(&picture, shape, &region, boxes());
            let masked = crop_region(&picture, shape, &region, masks());
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
    fn a_stripe_is_extended_by_its_outermost_pixels() {
        let stripe = RgbImage::from_fn(1_001, 2, |_, y| Rgb([10 * u8::from(y == 1), 0, 0]));
        let extended = without_stripe(&stripe, 200);
        assert_eq!(extended.dimensions(), (1_001, 6));
        let column: Vec<u8> = (0..6).map(|y| extended.get_pixel(500, y)[0]).collect();
        assert_eq!(column, [0, 0, 0, 10, 10, 10]);
        let upright = image::imageops::rotate90(&stripe);
        assert_eq!(without_stripe(&upright, 200).dimensions(), (6, 1_001));
        assert_eq!(without_stripe(&stripe, 0).dimensions(), (1_001, 1_001));
        for size in [(200, 1), (1, 1), (1_000, 5), (0, 0)] {
            let image = RgbImage::new(size.0, size.1);
            assert!(matches!(without_stripe(&image, 200), Cow::Borrowed(_)), "{size:?}");
        }
    }

    #[test]
    fn a_crop_mode_is_serialised_in_kebab_case() {
        let mode: CropMode = serde_json::from_str("\"bounding-box\"").unwrap();
        assert_eq!((mode, CropMode::default()), (CropMode::BoundingBox, CropMode::BoundingBox));
        assert_eq!(serde_json::to_string(&CropMode::Mask).unwrap(), "\"mask\"");
    }
}
