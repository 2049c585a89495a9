//! Converts decoded samples to opaque 8-bit sRGB.
//!
//! Steps in order: the colour profile at the stored bit depth; 8 bits, rounded; alpha over white.
//! Blending uses sRGB's encoding, like browsers and Pillow. Each step has a rule that leaves the
//! samples as Pillow's `convert("RGB")` reads them.

use image::RgbImage;

use crate::imaging::icc_profile;
use crate::imaging::raster::{Layout, Raster, Samples};
use crate::imaging::settings::{AlphaRule, ColourRule};

/// Converts to opaque 8-bit RGB, not yet upright.
pub(crate) fn convert(raster: Raster, colour: ColourRule, alpha: AlphaRule) -> RgbImage {
    let Raster { width, height, layout, samples, icc, .. } = raster;
    let (layout, samples) = match icc.filter(|_| colour == ColourRule::Srgb) {
        Some(icc) => icc_profile::to_srgb(&icc, layout, samples),
        None => (layout, samples),
    };
    let eight = match samples {
        Samples::Eight(samples) => samples,
        Samples::Sixteen(samples) => match (colour, layout) {
            (ColourRule::Srgb, _) => samples.into_iter().map(eight_bits).collect(),
            (ColourRule::AsStored, Layout::Gray) => samples.into_iter().map(cut_at_255).collect(),
            (ColourRule::AsStored, _) => samples.into_iter().map(high_byte).collect(),
        },
    };
    let rgb = match (layout, alpha) {
        (Layout::Rgb, _) => eight,
        (Layout::Gray, _) => each_pixel(&eight, |[gray]| [gray; 3]),
        (Layout::GrayAlpha, AlphaRule::OverWhite) => {
            each_pixel(&eight, |[gray, alpha]| [over_white(gray, alpha); 3])
        }
        (Layout::GrayAlpha, AlphaRule::Dropped) => each_pixel(&eight, |[gray, _]| [gray; 3]),
        (Layout::Rgba, AlphaRule::OverWhite) => each_pixel(&eight, |[red, green, blue, alpha]| {
            [red, green, blue].map(|sample| over_white(sample, alpha))
        }),
        (Layout::Rgba, AlphaRule::Dropped) => {
            each_pixel(&eight, |[red, green, blue, _]| [red, green, blue])
        }
        (Layout::Cmyk, _) => each_pixel(&eight, rgb_from_cmyk),
    };
    RgbImage::from_raw(width, height, rgb).expect("decoders fill the size they were given")
}

fn each_pixel<const N: usize>(samples: &[u8], convert: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    let mut rgb = vec![0; samples.len() / N * 3];
    for (to, from) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(samples.as_chunks::<N>().0) {
        *to = convert(*from);
    }
    rgb
}

/// Returns the nearest of 256 values: v · 255 / 65535, rounded.
#[expect(clippy::cast_possible_truncation, reason = "65535 becomes 255")]
fn eight_bits(sample: u16) -> u8 {
    ((u32::from(sample) * 255 + 32_895) >> 16) as u8
}

/// Reduces a sample of 16-bit grey as Pillow converts its mode `I;16`.
fn cut_at_255(sample: u16) -> u8 {
    sample.min(255) as u8
}

/// Reduces a 16-bit sample of a colour as Pillow reads it.
fn high_byte(sample: u16) -> u8 {
    sample.to_be_bytes()[0]
}

fn over_white(sample: u8, alpha: u8) -> u8 {
    divided_by_255(u32::from(sample) * u32::from(alpha) + 255 * u32::from(255 - alpha))
}

/// Converts inks without a profile, as Pillow does: each ink is scaled by the white that black
/// leaves.
fn rgb_from_cmyk([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let white = 255 - black;
    [cyan, magenta, yellow].map(|ink| white - divided_by_255(u32::from(ink) * u32::from(white)))
}

/// Returns v / 255, rounded. Exact for v up to 255 · 255.
#[expect(clippy::cast_possible_truncation, reason = "255 · 255 becomes 255")]
fn divided_by_255(value: u32) -> u8 {
    let value = value + 128;
    ((value + (value >> 8)) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_rounded_to_the_nearest_of_eight() {
        for sample in 0..=u16::MAX {
            let nearest = (u32::from(sample) + 128) / 257;
            assert_eq!(u32::from(eight_bits(sample)), nearest, "sample {sample}");
        }
    }

    #[test]
    fn division_by_255_is_rounded() {
        for value in 0..=255 * 255 {
            assert_eq!(u32::from(divided_by_255(value)), (value + 127) / 255);
        }
    }

    #[test]
    fn transparent_is_white_and_opaque_keeps_its_colour() {
        for sample in 0..=255 {
            assert_eq!(over_white(sample, 0), 255);
            assert_eq!(over_white(sample, 255), sample);
        }
        assert_eq!(over_white(0, 128), 127);
    }

    #[test]
    fn inks_darken_and_no_ink_is_white() {
        assert_eq!(rgb_from_cmyk([0, 0, 0, 0]), [255, 255, 255]);
        assert_eq!(rgb_from_cmyk([0, 0, 0, 255]), [0, 0, 0]);
        assert_eq!(rgb_from_cmyk([255, 0, 0, 0]), [0, 255, 255]);
    }

    fn raster(layout: Layout, samples: Samples) -> Raster {
        let orientation = image::metadata::Orientation::NoTransforms;
        Raster { width: 1, height: 1, layout, samples, icc: Some(b"broken".to_vec()), orientation }
    }

    #[test]
    fn stored_samples_are_reduced_as_pillow_does() {
        for (layout, samples, expected) in [
            (Layout::Gray, Samples::Sixteen(vec![254]), [254; 3]),
            (Layout::Gray, Samples::Sixteen(vec![0x1234]), [255; 3]),
            (Layout::GrayAlpha, Samples::Sixteen(vec![0x12ff, 0]), [0x12; 3]),
            (Layout::Rgb, Samples::Sixteen(vec![0x00ff, 0x80ff, 0xffff]), [0, 0x80, 0xff]),
            (Layout::Rgba, Samples::Eight(vec![1, 2, 3, 0]), [1, 2, 3]),
            (Layout::GrayAlpha, Samples::Eight(vec![7, 0]), [7; 3]),
        ] {
            let rgb = convert(raster(layout, samples), ColourRule::AsStored, AlphaRule::Dropped);
            assert_eq!(rgb.get_pixel(0, 0).0, expected, "{layout:?}");
        }
    }

    #[test]
    fn each_rule_applies_alone() {
        let half = || raster(Layout::Rgba, Samples::Eight(vec![0, 100, 200, 128]));
        let blended = convert(half(), ColourRule::AsStored, AlphaRule::OverWhite);
        assert_eq!(blended.get_pixel(0, 0).0, [127, 177, 227]);
        let dropped = convert(half(), ColourRule::Srgb, AlphaRule::Dropped);
        assert_eq!(dropped.get_pixel(0, 0).0, [0, 100, 200]);
    }
}
