//! Resizing, bit-identical to Pillow.
//!
//! Models are trained on images that Pillow resized. Other resamplers differ by a grey level or
//! two, which can change a quality score. This is the 8-bit path of Pillow's `Resample.c`:
//! coefficients in 22-bit fixed point, the horizontal pass first, rounded to 8 bits, then the
//! vertical pass.

use std::f64::consts::PI;

use image::RgbImage;

/// Fractional bits of a coefficient: 32 less 8 for the sample and 2 for sums above one.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// A resampling filter. Each widens when it shrinks an image, to avoid aliasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The mean of the covered pixels.
    Box,
    /// A triangle over two pixels.
    Bilinear,
    /// Cubic convolution over four pixels, a = −0.5.
    Bicubic,
    /// A windowed sinc over six pixels.
    Lanczos,
}

impl Filter {
    /// Returns half the filter's width in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Bilinear if x.abs() < 1.0 => 1.0 - x.abs(),
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Box | Self::Bilinear | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Resizes to `width` × `height` pixels (at least 1 × 1), as Pillow 10 and 11 do.
///
/// A side that keeps its length is not resampled.
pub fn resize(rgb: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    debug_assert!(!rgb.is_empty(), "an image without pixels has no colours to resample");
    let (width, height) = (width.max(1), height.max(1));
    let narrowed;
    let rgb = if width == rgb.width() {
        rgb
    } else {
        narrowed = resize_rows(rgb, width, &Taps::new(rgb.width(), width, filter));
        &narrowed
    };
    if height == rgb.height() {
        return rgb.clone();
    }
    resize_columns(rgb, height, &Taps::new(rgb.height(), height, filter))
}

/// The source pixels and their weights for each target pixel of one axis.
struct Taps {
    /// First source pixel and number of weights, by target pixel.
    bounds: Vec<(usize, usize)>,
    /// Weights in fixed point, `stride` for each target pixel.
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions lie within the image, weights are below 2 in 22-bit fixed point"
    )]
    fn new(source: u32, target: u32, filter: Filter) -> Self {
        let scale = f64::from(source) / f64::from(target);
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let mut bounds = Vec::with_capacity(target as usize);
        let mut weights = vec![0; target as usize * stride];
        let mut exact = Vec::with_capacity(stride);
        for (index, fixed) in weights.chunks_exact_mut(stride).enumerate() {
            let centre = (index as f64 + 0.5) * scale;
            // Casts truncate towards zero, as in C; a negative start becomes the first pixel.
            let first = (centre - support + 0.5) as usize;
            let last = ((centre + support + 0.5) as usize).min(source as usize);
            exact.clear();
            exact.extend((0..last - first).map(|tap| {
                let distance = (tap + first) as f64 - centre + 0.5;
                filter.weight(distance * (1.0 / filter_scale))
            }));
            let sum: f64 = exact.iter().sum();
            for (fixed, weight) in fixed.iter_mut().zip(&exact) {
                let weight = if sum == 0.0 { *weight } else { *weight / sum };
                let scaled = weight * f64::from(1 << PRECISION_BITS);
                *fixed = (scaled + 0.5_f64.copysign(scaled)) as i32;
            }
            bounds.push((first, last - first));
        }
        Self { bounds, weights, stride }
    }

    /// Iterates over the first source pixel and the weights of each target pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.stride);
        self.bounds.iter().zip(weights).map(|((first, len), weights)| (*first, &weights[..*len]))
    }
}

/// One half in fixed point, so that the shift to 8 bits rounds.
const ROUND: i32 = 1 << (PRECISION_BITS - 1);

#[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255")]
fn eight_bits(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn resize_rows(rgb: &RgbImage, width: u32, taps: &Taps) -> RgbImage {
    let mut resized = RgbImage::new(width, rgb.height());
    let source_rows = rgb.as_chunks::<3>().0.chunks_exact(rgb.width() as usize);
    let target_rows = resized.as_chunks_mut::<3>().0.chunks_exact_mut(width as usize);
    for (source, target) in source_rows.zip(target_rows) {
        for (pixel, (first, weights)) in target.iter_mut().zip(taps.iter()) {
            let mut sums = [ROUND; 3];
            for ([red, green, blue], weight) in source[first..].iter().zip(weights) {
                sums[0] += i32::from(*red) * weight;
                sums[1] += i32::from(*green) * weight;
                sums[2] += i32::from(*blue) * weight;
            }
            *pixel = sums.map(eight_bits);
        }
    }
    resized
}

fn resize_columns(rgb: &RgbImage, height: u32, taps: &Taps) -> RgbImage {
    let mut resized = RgbImage::new(rgb.width(), height);
    let row_len = rgb.width() as usize * 3;
    let mut sums = vec![0; row_len];
    for (target, (first, weights)) in resized.chunks_exact_mut(row_len).zip(taps.iter()) {
        sums.fill(ROUND);
        for (source, weight) in rgb.chunks_exact(row_len).skip(first).zip(weights) {
            for (sum, sample) in sums.iter_mut().zip(source) {
                *sum += i32::from(*sample) * weight;
            }
        }
        for (sample, sum) in target.iter_mut().zip(&sums) {
            *sample = eight_bits(*sum);
        }
    }
    resized
}
