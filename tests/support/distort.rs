//! Distortions of adjustable strength that a quality scorer must detect.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "pixels and kernels are small and clamped"
)]

use dog_iqa::imaging::{Filter, resize};
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, Rgb, RgbImage};

/// Gaussian blur with this standard deviation in pixels.
pub(crate) fn gaussian_blur(image: &RgbImage, sigma_px: f32) -> RgbImage {
    let radius = (3.0 * sigma_px).ceil() as i64;
    let weight = |step: i64| (-0.5 * (step as f32 / sigma_px).powi(2)).exp();
    let along_x: Vec<_> = (-radius..=radius).map(|step| ((step, 0), weight(step))).collect();
    let along_y: Vec<_> = (-radius..=radius).map(|step| ((0, step), weight(step))).collect();
    convolve(&convolve(image, &along_x), &along_y)
}

/// Motion blur over `length_px` pixels at an angle in radians.
pub(crate) fn motion_blur(image: &RgbImage, length_px: f32, angle: f32) -> RgbImage {
    let steps = (4.0 * length_px) as i64;
    let offset = |step: i64| length_px * (step as f32 / steps as f32 - 0.5);
    let taps: Vec<_> = (0..=steps)
        .map(|step| (offset(step) * angle.cos(), offset(step) * angle.sin()))
        .map(|(x, y)| ((x.round() as i64, y.round() as i64), 1.0))
        .collect();
    convolve(image, &taps)
}

/// White noise with this standard deviation in grey levels, independent in each channel.
pub(crate) fn noise(image: &RgbImage, sigma: f32) -> RgbImage {
    let mut random = fastrand::Rng::with_seed(7);
    // Twelve uniform numbers sum to a variance of one.
    let mut normal = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
    per_value(image, |value| value + sigma * normal())
}

/// Compresses to JPEG at this quality and decodes again.
pub(crate) fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).unwrap();
    let decoder = JpegDecoder::new(std::io::Cursor::new(bytes)).unwrap();
    DynamicImage::from_decoder(decoder).unwrap().into_rgb8()
}

/// Multiplies every value by the gain: below one is under-exposed, above one over-exposed.
pub(crate) fn exposed(image: &RgbImage, gain: f32) -> RgbImage {
    per_value(image, |value| gain * value)
}

/// Moves every value towards mid-grey. `share` is the remaining contrast.
pub(crate) fn low_contrast(image: &RgbImage, share: f32) -> RgbImage {
    per_value(image, |value| 128.0 + share * (value - 128.0))
}

/// Scales down by a factor, and up again with the filter.
pub(crate) fn rescaled(image: &RgbImage, factor: f32, filter: Filter) -> RgbImage {
    resize(&smaller(image, factor), image.width(), image.height(), filter)
}

/// Scales down by a factor, and up again by repeating pixels.
pub(crate) fn repeated(image: &RgbImage, factor: f32) -> RgbImage {
    let small = smaller(image, factor);
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = (x * small.width() / image.width(), y * small.height() / image.height());
        *small.get_pixel(x, y)
    })
}

fn smaller(image: &RgbImage, factor: f32) -> RgbImage {
    let side = |length: u32| ((length as f32 / factor).round() as u32).max(1);
    resize(image, side(image.width()), side(image.height()), Filter::Box)
}

fn per_value(image: &RgbImage, mut map: impl FnMut(f32) -> f32) -> RgbImage {
    let mut image = image.clone();
    for value in image.as_mut() {
        *value = map(f32::from(*value)).round().clamp(0.0, 255.0) as u8;
    }
    image
}

/// Returns the weighted mean of the taps. Border pixels are repeated outwards.
fn convolve(image: &RgbImage, taps: &[((i64, i64), f32)]) -> RgbImage {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let total: f32 = taps.iter().map(|(_, weight)| weight).sum();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let mut sums = [0.0; 3];
        for ((step_x, step_y), weight) in taps {
            let x = (i64::from(x) + step_x).clamp(0, width - 1) as u32;
            let y = (i64::from(y) + step_y).clamp(0, height - 1) as u32;
            for (sum, &value) in sums.iter_mut().zip(&image.get_pixel(x, y).0) {
                *sum += weight * f32::from(value);
            }
        }
        Rgb(sums.map(|sum| (sum / total).round() as u8))
    })
}
