//! From pixels to the network's input: the size, and the normalised samples.

use candle_core::{Device, Result, Tensor};
use image::RgbImage;
use image::imageops::crop_imm;
use rayon::prelude::*;

use crate::imaging::{Filter, resize};

const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// The sizes of images that a network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimits {
    /// Any size with sides of at least `side_min` pixels and at most `area_max` pixels in all.
    Free {
        /// Smallest side in pixels.
        side_min: u32,
        /// Largest area in pixels.
        area_max: u32,
    },
    /// The square in the middle, after the shorter side has become `side` pixels. `area_max` is
    /// that of the image before it is cut.
    Square {
        /// Side in pixels.
        side: u32,
        /// Largest area in pixels.
        area_max: u32,
    },
}

impl SizeLimits {
    /// Returns a ratio of the sides up to which every image fits.
    pub fn ratio_max(self) -> u32 {
        let (Self::Free { side_min: side, area_max } | Self::Square { side, area_max }) = self;
        // One below the exact ratio, because a reduced side is rounded down.
        (area_max / (side * side)).saturating_sub(1).max(1)
    }
}

/// An image whose sides differ too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "image is {width}×{height} px; with {side} px at its shorter side it has more than {area_max} \
     px; raise engine.dog_iqa.clip_iqa.pixels_max or crop upstream"
)]
pub struct SizeError {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The smallest shorter side that the network reads, in pixels.
    pub side: u32,
    /// Largest area in pixels.
    pub area_max: u32,
}

/// Resizes an image to a size that the network reads, with Pillow's bicubic filter. Returns `None`
/// if it has one already.
///
/// # Errors
/// Fails if the image is too elongated: its shorter side is enlarged, or is not reduced, to what
/// the network reads, and then its area exceeds the limit.
pub fn fit(rgb: &RgbImage, limits: SizeLimits) -> std::result::Result<Option<RgbImage>, SizeError> {
    let (width, height) = rgb.dimensions();
    let (to_width, to_height) = match limits {
        SizeLimits::Free { side_min, area_max } => free_size((width, height), side_min, area_max)?,
        SizeLimits::Square { side, area_max } => square_size((width, height), side, area_max)?,
    };
    let is_resized = (to_width, to_height) != (width, height);
    let resized = is_resized.then(|| resize(rgb, to_width, to_height, Filter::Bicubic));
    let SizeLimits::Square { side, .. } = limits else { return Ok(resized) };
    if (to_width, to_height) == (side, side) {
        return Ok(resized);
    }
    let (left, top) = ((to_width - side) / 2, (to_height - side) / 2);
    Ok(Some(crop_imm(resized.as_ref().unwrap_or(rgb), left, top, side, side).to_image()))
}

/// Returns the size of an image within limits, with its shape.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are positive and bounded by the area"
)]
fn free_size(
    (width, height): (u32, u32),
    side_min: u32,
    area_max: u32,
) -> std::result::Result<(u32, u32), SizeError> {
    let shorter = width.min(height).max(1);
    let area = u64::from(width) * u64::from(height);
    let scale = if shorter < side_min {
        f64::from(side_min) / f64::from(shorter)
    } else if area > u64::from(area_max) {
        (f64::from(area_max) / area as f64).sqrt()
    } else {
        return Ok((width, height));
    };
    // Rounded down, so that a reduced image is within the limit.
    let scaled = |side: u32| (f64::from(side) * scale).floor();
    let is_enlarged = scale > 1.0;
    let [to_width, to_height] = [width, height].map(|side| match scaled(side) {
        // Exact for the shorter side, which the product may miss by rounding.
        below if is_enlarged => below.max(f64::from(side_min)),
        below => below,
    });
    let is_readable = to_width.min(to_height) >= f64::from(side_min);
    if !is_readable || to_width * to_height > f64::from(area_max) {
        return Err(SizeError { width, height, side: side_min, area_max });
    }
    Ok((to_width as u32, to_height as u32))
}

/// Returns the size of an image whose shorter side becomes `side`, rounded down as the reference
/// does.
fn square_size(
    (width, height): (u32, u32),
    side: u32,
    area_max: u32,
) -> std::result::Result<(u32, u32), SizeError> {
    let (shorter, longer) = (width.min(height).max(1), width.max(height));
    let to_longer = u64::from(side) * u64::from(longer) / u64::from(shorter);
    match u32::try_from(to_longer) {
        Ok(to_longer) if u64::from(to_longer) * u64::from(side) <= u64::from(area_max) => {
            Ok(if width <= height { (side, to_longer) } else { (to_longer, side) })
        }
        _ => Err(SizeError { width, height, side, area_max }),
    }
}

/// Returns the samples as `(1, height, width, 3)` f32 on the CPU: of each channel `(sample / 255 −
/// mean) / deviation`.
///
/// # Errors
/// Fails if a tensor operation fails.
#[expect(clippy::cast_possible_truncation, reason = "f32 is the network's dtype")]
pub fn normalise(rgb: &RgbImage) -> Result<Tensor> {
    let of_channel = |channel: usize| -> [f32; 256] {
        let value = |sample: usize| (sample as f64 / 255.0 - MEAN[channel]) / DEVIATION[channel];
        std::array::from_fn(|sample| value(sample) as f32)
    };
    let tables: [[f32; 256]; 3] = std::array::from_fn(of_channel);
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let mut values = vec![0.0_f32; 3 * width * height];
    let rows = values.par_chunks_mut(3 * width.max(1)).zip(rgb.par_chunks(3 * width.max(1)));
    rows.for_each(|(values, samples)| {
        for (to, from) in values.as_chunks_mut::<3>().0.iter_mut().zip(samples.as_chunks::<3>().0) {
            for channel in 0..3 {
                to[channel] = tables[channel][usize::from(from[channel])];
            }
        }
    });
    Tensor::from_vec(values, (1, height, width, 3), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> std::result::Result<(u32, u32), SizeError> {
        free_size((width, height), 32, 1 << 20)
    }

    #[test]
    fn an_image_keeps_its_size_within_the_limits() {
        for same in [(32, 32), (1024, 1024), (32, 32_768), (641, 333)] {
            assert_eq!(size(same.0, same.1), Ok(same));
        }
        assert_eq!(size(1, 1), Ok((32, 32)));
        assert_eq!(size(17, 5), Ok((108, 32)));
        assert_eq!(size(3, 603), Ok((32, 6432)));
        assert_eq!(size(4000, 3000), Ok((1182, 886)));
    }

    #[test]
    fn every_image_up_to_the_largest_ratio_fits() {
        for area_max in [50_176, 4_194_304, 67_108_864] {
            for limits in [
                SizeLimits::Free { side_min: 32, area_max },
                SizeLimits::Square { side: 224, area_max },
            ] {
                let ratio = limits.ratio_max();
                for height in [1, 7, 31, 33, 90] {
                    let size = (height * ratio, height);
                    let fits = match limits {
                        SizeLimits::Free { side_min, area_max } => {
                            free_size(size, side_min, area_max).is_ok()
                        }
                        SizeLimits::Square { side, area_max } => {
                            square_size(size, side, area_max).is_ok()
                        }
                    };
                    assert!(fits, "{limits:?}: {size:?}");
                }
            }
        }
    }

    #[test]
    fn an_elongated_image_is_refused_at_any_size() {
        // Too long at 32 px, not reducible, and the largest images that there are.
        for (width, height) in
            [(65_535, 1), (1, 65_535), (40_000, 32), (u32::MAX, 1), (u32::MAX, 31)]
        {
            let refused = size(width, height);
            assert_eq!(refused, Err(SizeError { width, height, side: 32, area_max: 1 << 20 }));
            square_size((width, height), 224, 1 << 20).unwrap_err();
        }
        assert_eq!(size(u32::MAX, u32::MAX), Ok((1024, 1024)));
        assert_eq!(square_size((u32::MAX, u32::MAX), 224, 1 << 20), Ok((224, 224)));
    }

    #[test]
    fn the_middle_of_an_image_is_cut_for_a_square() {
        let square = SizeLimits::Square { side: 4, area_max: 1000 };
        let rgb = RgbImage::from_fn(9, 4, |x, y| {
            image::Rgb([x, y, 0].map(|value| value.to_le_bytes()[0]))
        });
        let cut = fit(&rgb, square).unwrap().unwrap();
        assert_eq!(cut.dimensions(), (4, 4));
        assert_eq!(cut.get_pixel(0, 3).0, [2, 3, 0]);
        assert!(fit(&cut, square).unwrap().is_none(), "it has the size already");
        let large = fit(&RgbImage::new(40, 80), square).unwrap().unwrap();
        assert_eq!(large.dimensions(), (4, 4));
    }
}
