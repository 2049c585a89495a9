//! A 64-bit perceptual hash: pictures that look alike have hashes that differ in few bits.
//!
//! dHash: the picture is reduced to 9 × 8 grey pixels, and each bit says if a pixel is darker than
//! its right neighbour. Compression, scaling and a changed exposure keep most of these relations;
//! cropping, turning and mirroring do not.

use std::fmt;

use image::{GrayImage, RgbImage};
use image_hasher::{HashAlg, HasherConfig};

/// Side of the grey picture that is hashed, in cells. A cell is the mean of its pixels, which costs
/// one pass over the picture; the hasher's own filter reads each pixel many times.
const CELLS: usize = 72;

/// A 64-bit dHash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerceptualHash(u64);

impl PerceptualHash {
    /// Computes the hash of upright pixels.
    pub fn of(rgb: &RgbImage) -> Self {
        let hasher = HasherConfig::with_bytes_type::<[u8; 8]>()
            .hash_size(8, 8)
            .hash_alg(HashAlg::Gradient)
            .to_hasher();
        let hash = hasher.hash_image(&grey_cells(rgb));
        let bytes = hash.as_bytes().iter();
        Self(bytes.fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }

    /// Returns the number of bits that differ, 0 to 64.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    /// Returns true if no bit is set: the picture is flat, and the hash says nothing about it.
    pub fn is_flat(self) -> bool {
        self.0 == 0
    }

    /// Parses sixteen hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_hex).map(Self)
    }
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Reduces a picture to at most `CELLS` × `CELLS` means of its luma.
fn grey_cells(rgb: &RgbImage) -> GrayImage {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let (columns, rows) = (width.min(CELLS), height.min(CELLS));
    let stride = width * 3;
    let start_of_column = |column: usize| column * width / columns;
    let mut means = Vec::with_capacity(columns * rows);
    let mut sums = vec![0_u64; columns];
    for row in 0..rows {
        sums.fill(0);
        let (top, bottom) = (row * height / rows, (row + 1) * height / rows);
        for line in rgb.as_raw()[top * stride..bottom * stride].chunks_exact(stride) {
            for (column, sum) in sums.iter_mut().enumerate() {
                let (start, end) = (start_of_column(column), start_of_column(column + 1));
                *sum += luma_of(&line[3 * start..3 * end]);
            }
        }
        means.extend(sums.iter().enumerate().map(|(column, sum)| {
            let pixels = (bottom - top) * (start_of_column(column + 1) - start_of_column(column));
            u8::try_from(sum / (256 * pixels as u64)).unwrap_or(u8::MAX)
        }));
    }
    let side = |cells: usize| u32::try_from(cells).expect("there are few cells");
    GrayImage::from_raw(side(columns), side(rows), means).expect("a mean for each cell")
}

/// Returns the sum of the luma of pixels (ITU-R BT.601), in 1/256.
fn luma_of(pixels: &[u8]) -> u64 {
    let luma = |pixel: &[u8]| {
        77 * u32::from(pixel[0]) + 150 * u32::from(pixel[1]) + 29 * u32::from(pixel[2])
    };
    // A sum of 32 bits is several times as fast, and holds this many pixels.
    let parts = pixels.chunks(3 << 15);
    parts.map(|part| u64::from(part.chunks_exact(3).map(luma).sum::<u32>())).sum()
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, Rgb32FImage};

    use super::*;

    /// A picture with large smooth structures.
    fn waves(width: u32, height: u32, phase: f32) -> RgbImage {
        let waves = Rgb32FImage::from_fn(width, height, |x, y| {
            let share = |position: u32, length: u32| position as f32 / length as f32;
            let (u, v) = (share(x, width), share(y, height));
            let value = (7.0 * u + phase).sin() * (5.0 * v * phase + 3.0 * u).cos();
            let level = 0.5 + 0.47 * value;
            Rgb([level, 1.0 - level, level / 2.0])
        });
        DynamicImage::from(waves).to_rgb8()
    }

    #[test]
    fn every_size_has_a_hash_and_the_text_is_parsed_again() {
        let sizes = [(1, 1), (1, 900), (3_000_000, 1), (8, 9), (71, 73), (640, 480)];
        for (width, height) in sizes {
            let hash = PerceptualHash::of(&waves(width, height, 1.0));
            assert_eq!(PerceptualHash::parse(&hash.to_string()), Some(hash));
        }
        for text in ["", "12", "0123456789abcdeg", "+123456789abcdef", "0123456789abcdef0"] {
            assert_eq!(PerceptualHash::parse(text), None, "{text}");
        }
    }

    #[test]
    fn scaled_and_brighter_pictures_are_near_and_others_are_far() {
        let hash = PerceptualHash::of(&waves(800, 600, 1.3));
        let scaled = PerceptualHash::of(&waves(200, 150, 1.3));
        assert!(hash.distance(scaled) <= 3, "{}", hash.distance(scaled));
        let mut brighter = waves(800, 600, 1.3);
        brighter.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| value / 2 + 60));
        let distance = hash.distance(PerceptualHash::of(&brighter));
        assert!(distance <= 3, "{distance}");
        let other = PerceptualHash::of(&waves(800, 600, 3.1));
        assert!(hash.distance(other) > 12, "{}", hash.distance(other));
    }

    #[test]
    fn a_flat_picture_is_flat() {
        let flat = RgbImage::from_pixel(300, 200, Rgb([250, 250, 250]));
        assert!(PerceptualHash::of(&flat).is_flat());
        assert!(!PerceptualHash::of(&waves(300, 200, 1.0)).is_flat());
    }
}
