//! Rotates and flips stored pixels upright, according to the EXIF orientation tag.

use image::RgbImage;
use image::metadata::Orientation;

use crate::imaging::buffer_pool;

/// Side of the square blocks of a transposition, in pixels; small enough for the CPU cache.
const BLOCK: usize = 16;

type Rgb = [u8; 3];

/// Returns the picture upright. Copies only if rows become columns.
pub(crate) fn upright(
    mut rgb: RgbImage,
    orientation: Orientation,
    spare_bytes_max: u64,
) -> RgbImage {
    let width = rgb.width() as usize;
    let pixels = rgb.as_chunks_mut::<3>().0;
    let flip = match orientation {
        Orientation::NoTransforms => return rgb,
        Orientation::FlipHorizontal => {
            pixels.chunks_exact_mut(width).for_each(<[Rgb]>::reverse);
            return rgb;
        }
        Orientation::Rotate180 => {
            pixels.reverse();
            return rgb;
        }
        Orientation::FlipVertical => {
            flip_rows(pixels, width);
            return rgb;
        }
        Orientation::Rotate90FlipH => Flip { x: false, y: false },
        Orientation::Rotate90 => Flip { x: false, y: true },
        Orientation::Rotate270FlipH => Flip { x: true, y: true },
        Orientation::Rotate270 => Flip { x: true, y: false },
    };
    let turned = transpose(&rgb, flip);
    buffer_pool::recycle(rgb.into_raw(), spare_bytes_max);
    turned
}

fn flip_rows(pixels: &mut [Rgb], width: usize) {
    let height = pixels.len() / width;
    let (top, bottom) = pixels.split_at_mut(height / 2 * width);
    for (upper, lower) in top.chunks_exact_mut(width).zip(bottom.chunks_exact_mut(width).rev()) {
        upper.swap_with_slice(lower);
    }
}

/// The source axes that a transposition reads backwards.
#[derive(Clone, Copy)]
struct Flip {
    x: bool,
    y: bool,
}

fn transpose(rgb: &RgbImage, flip: Flip) -> RgbImage {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let source = rgb.as_chunks::<3>().0;
    let mut turned = buffer_pool::zeroed(source.len() * 3);
    let target = turned.as_chunks_mut::<3>().0;
    // A target row is a source column, as long as the source is high.
    for first_row in (0..width).step_by(BLOCK) {
        for first_column in (0..height).step_by(BLOCK) {
            for row in first_row..width.min(first_row + BLOCK) {
                let x = if flip.x { width - 1 - row } else { row };
                let columns = first_column..height.min(first_column + BLOCK);
                let pixels = &mut target[row * height..][columns.clone()];
                for (pixel, column) in pixels.iter_mut().zip(columns) {
                    let y = if flip.y { height - 1 - column } else { column };
                    *pixel = source[y * width + x];
                }
            }
        }
    }
    RgbImage::from_raw(rgb.height(), rgb.width(), turned).expect("it has as many pixels")
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb};

    use super::*;

    #[test]
    fn every_orientation_equals_that_of_the_image_crate() {
        for (width, height) in [(1, 1), (1, 5), (5, 1), (3, 4), (33, 65), (64, 32)] {
            let stored = RgbImage::from_fn(width, height, |x, y| {
                Rgb([u8::try_from(x).unwrap(), u8::try_from(y).unwrap(), 7])
            });
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).unwrap();
                let mut expected = DynamicImage::ImageRgb8(stored.clone());
                expected.apply_orientation(orientation);
                let turned = upright(stored.clone(), orientation, 0);
                assert_eq!(turned, expected.into_rgb8(), "orientation {exif} of {width}×{height}");
            }
        }
    }
}
