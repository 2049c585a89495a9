//! Embedded colour profiles to sRGB, with the perceptual intent.
//!
//! A profile that cannot be used (damaged, of another colour space than the samples, of an unknown
//! kind) never fails the image: the samples are then taken for sRGB, as viewers do. A profile that
//! is sRGB under any name is noticed by what it does, and skipped.

use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use moxcms::{ColorProfile, DataColorSpace, TransformExecutor, TransformOptions};

use super::raster::{Layout, Samples};

/// Pixels that are converted at once, so that they stay in the cache.
const PIXELS_AT_ONCE: usize = 4096;

/// Profiles whose conversions are kept; a fleet of cameras has few.
const CONVERSIONS_KEPT: usize = 8;

/// Larger profiles are not kept.
const KEPT_PROFILE_BYTES_MAX: usize = 2 << 20;

/// Conversions of the profiles that were met last: the tables of one take longer to compute than a
/// photo of some megapixels takes to convert.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    icc: Vec<u8>,
    layout: Layout,
    /// None for a profile that cannot be used or changes nothing.
    conversion: Option<Arc<Conversion>>,
}

/// Converts samples to sRGB if the profile can be used; the layout is then RGB or RGBA.
pub(super) fn to_srgb(icc: &[u8], layout: Layout, samples: Samples) -> (Layout, Samples) {
    let Some(conversion) = conversion(icc, layout) else {
        return (layout, samples);
    };
    match samples {
        Samples::Eight(samples) => {
            let converted = conversion.convert(conversion.eight.as_ref(), samples);
            (conversion.target(), Samples::Eight(converted))
        }
        Samples::Sixteen(samples) => match conversion.sixteen() {
            Some(sixteen) => {
                let converted = conversion.convert(sixteen.as_ref(), samples);
                (conversion.target(), Samples::Sixteen(converted))
            }
            None => (layout, Samples::Sixteen(samples)),
        },
    }
}

/// The conversion of a profile, kept from before or opened now.
fn conversion(icc: &[u8], layout: Layout) -> Option<Arc<Conversion>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = kept.iter().position(|kept| kept.layout == layout && kept.icc == icc) {
        // The last used stand at the end.
        let found = kept.remove(index);
        let conversion = found.conversion.clone();
        kept.push(found);
        return conversion;
    }
    drop(kept);
    let conversion = contained(|| Conversion::open(icc, layout)).map(Arc::new);
    if icc.len() <= KEPT_PROFILE_BYTES_MAX {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= CONVERSIONS_KEPT {
            kept.remove(0);
        }
        kept.push(Kept { icc: icc.to_vec(), layout, conversion: conversion.clone() });
    }
    conversion
}

/// The profile's parser meets hostile bytes; a panic of it is a broken profile like any other.
fn contained<T>(open: impl FnOnce() -> Option<T> + UnwindSafe) -> Option<T> {
    catch_unwind(open).ok().flatten()
}

/// A usable profile's way to sRGB.
struct Conversion {
    layout: Layout,
    source: ColorProfile,
    eight: Arc<dyn TransformExecutor<u8> + Send + Sync>,
    /// Opened with the first image of this depth.
    sixteen: OnceLock<Option<Arc<dyn TransformExecutor<u16> + Send + Sync>>>,
}

impl Conversion {
    /// Opens a profile; none if it cannot be used or would change nothing.
    fn open(icc: &[u8], layout: Layout) -> Option<Self> {
        let source = ColorProfile::new_from_slice(icc).ok()?;
        let expected = match layout {
            Layout::Gray | Layout::GrayAlpha => DataColorSpace::Gray,
            Layout::Rgb | Layout::Rgba => DataColorSpace::Rgb,
            Layout::Cmyk => DataColorSpace::Cmyk,
        };
        if source.color_space != expected {
            return None;
        }
        let (from, to) = layouts(layout);
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        let eight = source.create_transform_8bit(from, &srgb, to, options).ok()?;
        let conversion = Self { layout, source, eight, sixteen: OnceLock::new() };
        conversion.changes_colours().then_some(conversion)
    }

    fn sixteen(&self) -> Option<&Arc<dyn TransformExecutor<u16> + Send + Sync>> {
        let open = || {
            let (from, to) = layouts(self.layout);
            let srgb = ColorProfile::new_srgb();
            let options = TransformOptions::default();
            self.source.create_transform_16bit(from, &srgb, to, options).ok()
        };
        self.sixteen.get_or_init(|| contained(AssertUnwindSafe(open))).as_ref()
    }

    fn target(&self) -> Layout {
        match self.layout {
            Layout::Gray | Layout::Rgb | Layout::Cmyk => Layout::Rgb,
            Layout::GrayAlpha | Layout::Rgba => Layout::Rgba,
        }
    }

    /// Whether any of a spread of colours moves by more than one step.
    fn changes_colours(&self) -> bool {
        const STEPS: [u8; 6] = [0, 51, 102, 153, 204, 255];
        let opaque = matches!(self.layout, Layout::GrayAlpha | Layout::Rgba);
        let mut colours = Vec::new();
        let mut expected = Vec::new();
        for (red, green, blue) in STEPS.iter().flat_map(|red| {
            STEPS.iter().flat_map(move |green| STEPS.iter().map(move |blue| (red, green, blue)))
        }) {
            match self.layout {
                Layout::Cmyk => return true,
                Layout::Gray | Layout::GrayAlpha => {
                    colours.push(*red);
                    expected.extend([*red; 3]);
                }
                Layout::Rgb | Layout::Rgba => {
                    colours.extend([*red, *green, *blue]);
                    expected.extend([*red, *green, *blue]);
                }
            }
            if opaque {
                colours.push(255);
                expected.push(255);
            }
        }
        let converted = self.convert(self.eight.as_ref(), colours);
        converted.iter().zip(&expected).any(|(is, was)| is.abs_diff(*was) > 1)
    }

    /// Converts all samples; in place where a pixel keeps its number of samples.
    fn convert<Sample: Copy + Default>(
        &self,
        transform: &dyn TransformExecutor<Sample>,
        mut samples: Vec<Sample>,
    ) -> Vec<Sample> {
        const SIZES: &str = "source and target hold as many pixels";
        let from = channels(self.layout);
        let to = channels(self.target());
        if from == to {
            let mut converted = vec![Sample::default(); PIXELS_AT_ONCE * to];
            for pixels in samples.chunks_mut(PIXELS_AT_ONCE * from) {
                let converted = &mut converted[..pixels.len()];
                transform.transform(pixels, converted).expect(SIZES);
                pixels.copy_from_slice(converted);
            }
            return samples;
        }
        let mut converted = vec![Sample::default(); samples.len() / from * to];
        let targets = converted.chunks_mut(PIXELS_AT_ONCE * to);
        for (pixels, target) in samples.chunks(PIXELS_AT_ONCE * from).zip(targets) {
            transform.transform(pixels, target).expect(SIZES);
        }
        converted
    }
}

/// The crate's names for the layouts before and after.
fn layouts(layout: Layout) -> (moxcms::Layout, moxcms::Layout) {
    match layout {
        Layout::Gray => (moxcms::Layout::Gray, moxcms::Layout::Rgb),
        Layout::GrayAlpha => (moxcms::Layout::GrayAlpha, moxcms::Layout::Rgba),
        Layout::Rgb => (moxcms::Layout::Rgb, moxcms::Layout::Rgb),
        // The layout for four inks is the one with four channels.
        Layout::Cmyk => (moxcms::Layout::Rgba, moxcms::Layout::Rgb),
        Layout::Rgba => (moxcms::Layout::Rgba, moxcms::Layout::Rgba),
    }
}

fn channels(layout: Layout) -> usize {
    match layout {
        Layout::Gray => 1,
        Layout::GrayAlpha => 2,
        Layout::Rgb => 3,
        Layout::Rgba | Layout::Cmyk => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(profile: &ColorProfile, layout: Layout, samples: Vec<u8>) -> (Layout, Vec<u8>) {
        let icc = profile.encode().unwrap();
        match to_srgb(&icc, layout, Samples::Eight(samples)) {
            (layout, Samples::Eight(samples)) => (layout, samples),
            (_, Samples::Sixteen(_)) => panic!("eight bits stay eight bits"),
        }
    }

    #[test]
    fn wide_gamut_colours_move_and_grey_stays() {
        let (layout, rgb) = convert(
            &ColorProfile::new_display_p3(),
            Layout::Rgb,
            vec![200, 100, 50, 128, 128, 128],
        );
        assert_eq!(layout, Layout::Rgb);
        assert!(rgb[0] > 205 && rgb[1] < 100 && rgb[2] < 45, "more saturated in sRGB: {rgb:?}");
        assert!(rgb[3..].iter().all(|sample| sample.abs_diff(128) <= 1), "{rgb:?}");
    }

    #[test]
    fn srgb_itself_is_left_untouched() {
        let srgb = ColorProfile::new_srgb();
        let samples: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        assert!(Conversion::open(&srgb.encode().unwrap(), Layout::Rgb).is_none());
        assert_eq!(convert(&srgb, Layout::Rgb, samples.clone()), (Layout::Rgb, samples));
    }

    #[test]
    fn a_profile_that_was_met_before_converts_alike() {
        let samples: Vec<u8> = (0..=254).collect();
        let p3 = ColorProfile::new_display_p3();
        let first = convert(&p3, Layout::Rgb, samples.clone());
        // Enough others to push it out, then once more from the start.
        for gamma in 0..=CONVERSIONS_KEPT {
            let other = ColorProfile::new_gray_with_gamma(1.5 + gamma as f32 / 10.0);
            convert(&other, Layout::Gray, samples.clone());
            assert!(KEPT.lock().unwrap().len() <= CONVERSIONS_KEPT);
        }
        assert_eq!(convert(&p3, Layout::Rgb, samples.clone()), first);
        assert_eq!(convert(&p3, Layout::Rgb, samples), first);
    }

    #[test]
    fn alpha_is_carried_along() {
        let p3 = ColorProfile::new_display_p3();
        let (layout, rgba) = convert(&p3, Layout::Rgba, vec![200, 100, 50, 7]);
        assert_eq!((layout, rgba[3]), (Layout::Rgba, 7));
    }

    #[test]
    fn a_grey_profile_gives_rgb() {
        let (layout, rgb) =
            convert(&ColorProfile::new_gray_with_gamma(1.0), Layout::Gray, vec![0, 55, 255]);
        assert_eq!(layout, Layout::Rgb);
        assert_eq!((&rgb[..3], &rgb[6..]), (&[0, 0, 0][..], &[255, 255, 255][..]));
        assert!(rgb[3].abs_diff(128) <= 2 && rgb[3] == rgb[4], "linear 55 is mid-grey: {rgb:?}");
    }

    #[test]
    fn an_unusable_profile_leaves_the_samples_alone() {
        let samples = vec![1, 2, 3];
        let p3 = ColorProfile::new_display_p3();
        // Of another colour space than the samples.
        assert_eq!(convert(&p3, Layout::Gray, samples.clone()), (Layout::Gray, samples.clone()));
        let icc = p3.encode().unwrap();
        for broken in [&[][..], b"not a profile", &icc[..icc.len() / 2], &icc[..200]] {
            let (layout, unchanged) = to_srgb(broken, Layout::Rgb, Samples::Eight(samples.clone()));
            let Samples::Eight(unchanged) = unchanged else { panic!("eight bits stay") };
            assert_eq!((layout, unchanged), (Layout::Rgb, samples.clone()));
        }
    }
}
