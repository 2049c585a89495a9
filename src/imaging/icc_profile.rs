//! Conversion from embedded colour profiles to sRGB, with the perceptual intent.
//!
//! An unusable profile (damaged, of the wrong colour space, or of an unknown kind) never fails the
//! image. The samples then count as sRGB, as in viewers. A profile that equals sRGB under another
//! name is recognised by its effect and skipped.

use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use moxcms::{ColorProfile, DataColorSpace, TransformExecutor, TransformOptions};

use crate::imaging::raster::{Layout, Samples};

/// Pixels per conversion call; few enough to stay in the CPU cache.
const PIXELS_AT_ONCE: usize = 4096;

/// Maximum number of cached conversions; photos of many cameras share few profiles.
const CACHED_MAX: usize = 8;

/// Largest luminance of a black point: that of L* = 50.
const BLACK_MAX: f64 = 0.184_187;

/// Maximum size of a profile whose conversion is cached.
const CACHED_PROFILE_BYTES_MAX: usize = 2 << 20;

/// Conversions of the most recent profiles, the last used at the end. Computing the tables of one
/// takes longer than converting a photo of a few megapixels.
static CACHE: Mutex<Vec<CachedConversion>> = Mutex::new(Vec::new());

struct CachedConversion {
    icc: Vec<u8>,
    layout: Layout,
    /// `None` for a profile that is unusable or changes nothing.
    conversion: Option<Arc<Conversion>>,
}

/// Converts samples to sRGB if the profile is usable; the layout is then RGB or RGBA. CMYK samples
/// have 16 bits afterwards.
pub(crate) fn to_srgb(icc: &[u8], layout: Layout, samples: Samples) -> (Layout, Samples) {
    let Some(conversion) = conversion(icc, layout) else {
        return (layout, samples);
    };
    let samples = match samples {
        // The compensation of dark inks would turn the steps of 8 bits into visible ones.
        Samples::Eight(samples) if layout == Layout::Cmyk => {
            Samples::Sixteen(samples.into_iter().map(|sample| u16::from(sample) * 257).collect())
        }
        other => other,
    };
    match samples {
        Samples::Eight(samples) => {
            let converted = conversion.convert(conversion.eight.as_ref(), samples);
            (conversion.target(), Samples::Eight(converted))
        }
        Samples::Sixteen(samples) => match conversion.sixteen() {
            Some(sixteen) => {
                let mut converted = conversion.convert(sixteen.as_ref(), samples);
                if let Some(values) = &conversion.compensated {
                    for sample in &mut converted {
                        *sample = values[usize::from(*sample)];
                    }
                }
                (conversion.target(), Samples::Sixteen(converted))
            }
            None => (layout, Samples::Sixteen(samples)),
        },
    }
}

/// Returns the conversion of a profile, from the cache or newly opened.
fn conversion(icc: &[u8], layout: Layout) -> Option<Arc<Conversion>> {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = cache.iter().position(|entry| entry.layout == layout && entry.icc == icc) {
        let found = cache.remove(index);
        let conversion = found.conversion.clone();
        cache.push(found);
        return conversion;
    }
    drop(cache);
    let conversion = without_panic(|| Conversion::open(icc, layout)).map(Arc::new);
    if icc.len() <= CACHED_PROFILE_BYTES_MAX {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX {
            cache.remove(0);
        }
        let conversion = conversion.clone();
        cache.push(CachedConversion { icc: icc.to_vec(), layout, conversion });
    }
    conversion
}

/// Treats a panic of the profile parser, which reads hostile bytes, as a broken profile.
fn without_panic<T>(open: impl FnOnce() -> Option<T> + UnwindSafe) -> Option<T> {
    catch_unwind(open).ok().flatten()
}

/// The conversion of a usable profile to sRGB.
struct Conversion {
    layout: Layout,
    source: ColorProfile,
    eight: Arc<dyn TransformExecutor<u8> + Send + Sync>,
    /// Every sample after black point compensation; `None` unless the profile is of inks.
    compensated: Option<Vec<u16>>,
    /// Opened for the first image of this depth.
    sixteen: OnceLock<Option<Arc<dyn TransformExecutor<u16> + Send + Sync>>>,
}

impl Conversion {
    /// Opens a profile, or returns `None` if it is unusable or changes nothing.
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
        let sixteen = OnceLock::new();
        let mut conversion = Self { layout, source, eight, compensated: None, sixteen };
        if layout == Layout::Cmyk {
            let darkest = conversion.convert(conversion.eight.as_ref(), vec![255; 4]);
            conversion.compensated = Some(compensated(luminance(&darkest)));
        }
        conversion.changes_colours().then_some(conversion)
    }

    fn sixteen(&self) -> Option<&Arc<dyn TransformExecutor<u16> + Send + Sync>> {
        let open = || {
            let (from, to) = layouts(self.layout);
            let srgb = ColorProfile::new_srgb();
            let options = TransformOptions::default();
            self.source.create_transform_16bit(from, &srgb, to, options).ok()
        };
        self.sixteen.get_or_init(|| without_panic(AssertUnwindSafe(open))).as_ref()
    }

    fn target(&self) -> Layout {
        match self.layout {
            Layout::Gray | Layout::Rgb | Layout::Cmyk => Layout::Rgb,
            Layout::GrayAlpha | Layout::Rgba => Layout::Rgba,
        }
    }

    /// Returns true if the conversion moves any of a grid of colours by more than one step.
    fn changes_colours(&self) -> bool {
        const STEPS: [u8; 6] = [0, 51, 102, 153, 204, 255];
        let has_alpha = matches!(self.layout, Layout::GrayAlpha | Layout::Rgba);
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
            if has_alpha {
                colours.push(255);
                expected.push(255);
            }
        }
        let converted = self.convert(self.eight.as_ref(), colours);
        converted
            .iter()
            .zip(&expected)
            .any(|(converted, original)| converted.abs_diff(*original) > 1)
    }

    /// Converts all samples, in place if a pixel keeps its number of samples.
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

/// Returns the luminance of an sRGB colour, from 0 to `BLACK_MAX`.
fn luminance(colour: &[u8]) -> f64 {
    const WEIGHTS: [f64; 3] = [0.2126, 0.7152, 0.0722];
    let parts = colour.iter().zip(WEIGHTS);
    let sum: f64 = parts.map(|(sample, weight)| weight * linear(f64::from(*sample) / 255.0)).sum();
    sum.min(BLACK_MAX)
}

/// Returns all 16-bit samples after black point compensation.
///
/// All inks together reflect a few percent of the light. Like `LittleCMS` (Pillow, libvips), this
/// scales the light so that they become black. The scale is that of XYZ, so it is the same for each
/// linear component.
fn compensated(black: f64) -> Vec<u16> {
    let scale = f64::from(u16::MAX);
    let value = |sample: u16| {
        let light = (linear(f64::from(sample) / scale) - black) / (1.0 - black);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value is between 0 and the scale"
        )]
        let sample = (scale * encoded(light.max(0.0))).round() as u16;
        sample
    };
    (0..=u16::MAX).map(value).collect()
}

/// Decodes an sRGB component from 0 to 1.
fn linear(value: f64) -> f64 {
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// Encodes an sRGB component from 0 to 1.
fn encoded(light: f64) -> f64 {
    if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

/// Maps a layout to the crate's layouts before and after the conversion.
fn layouts(layout: Layout) -> (moxcms::Layout, moxcms::Layout) {
    match layout {
        Layout::Gray => (moxcms::Layout::Gray, moxcms::Layout::Rgb),
        Layout::GrayAlpha => (moxcms::Layout::GrayAlpha, moxcms::Layout::Rgba),
        Layout::Rgb => (moxcms::Layout::Rgb, moxcms::Layout::Rgb),
        // The crate has no layout for four inks; any with four channels serves.
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

    #[test]
    fn the_darkest_colour_of_inks_becomes_black_and_white_stays() {
        let values = compensated(luminance(&[32, 31, 31]));
        assert_eq!((values[0], values[31 * 257], values.last()), (0, 0, Some(&u16::MAX)));
        assert!(values.is_sorted() && values[33 * 257] > 0);
        assert_eq!(compensated(0.0), (0..=u16::MAX).collect::<Vec<_>>());
    }

    fn convert(profile: &ColorProfile, layout: Layout, samples: Vec<u8>) -> (Layout, Vec<u8>) {
        let icc = profile.encode().unwrap();
        match to_srgb(&icc, layout, Samples::Eight(samples)) {
            (layout, Samples::Eight(samples)) => (layout, samples),
            (_, Samples::Sixteen(_)) => panic!("eight bits stay eight bits"),
        }
    }

    #[test]
    fn a_wide_gamut_profile_moves_colours_and_keeps_grey() {
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
    fn an_srgb_profile_changes_nothing() {
        let srgb = ColorProfile::new_srgb();
        let samples: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        assert!(Conversion::open(&srgb.encode().unwrap(), Layout::Rgb).is_none());
        assert_eq!(convert(&srgb, Layout::Rgb, samples.clone()), (Layout::Rgb, samples));
    }

    #[test]
    fn a_cached_profile_converts_as_a_new_one() {
        let samples: Vec<u8> = (0..=254).collect();
        let p3 = ColorProfile::new_display_p3();
        let first = convert(&p3, Layout::Rgb, samples.clone());
        // Enough other profiles to evict it; then it is opened again.
        for gamma in 0..=CACHED_MAX {
            let other = ColorProfile::new_gray_with_gamma(1.5 + gamma as f32 / 10.0);
            convert(&other, Layout::Gray, samples.clone());
            assert!(CACHE.lock().unwrap().len() <= CACHED_MAX);
        }
        assert_eq!(convert(&p3, Layout::Rgb, samples.clone()), first);
        assert_eq!(convert(&p3, Layout::Rgb, samples), first);
    }

    #[test]
    fn alpha_is_unchanged() {
        let p3 = ColorProfile::new_display_p3();
        let (layout, rgba) = convert(&p3, Layout::Rgba, vec![200, 100, 50, 7]);
        assert_eq!((layout, rgba[3]), (Layout::Rgba, 7));
    }

    #[test]
    fn a_grey_profile_converts_to_rgb() {
        let (layout, rgb) =
            convert(&ColorProfile::new_gray_with_gamma(1.0), Layout::Gray, vec![0, 55, 255]);
        assert_eq!(layout, Layout::Rgb);
        assert_eq!((&rgb[..3], &rgb[6..]), (&[0, 0, 0][..], &[255, 255, 255][..]));
        assert!(rgb[3].abs_diff(128) <= 2 && rgb[3] == rgb[4], "linear 55 is mid-grey: {rgb:?}");
    }

    #[test]
    fn an_unusable_profile_leaves_the_samples_unchanged() {
        let samples = vec![1, 2, 3];
        let p3 = ColorProfile::new_display_p3();
        // The profile's colour space is not that of the samples.
        assert_eq!(convert(&p3, Layout::Gray, samples.clone()), (Layout::Gray, samples.clone()));
        let icc = p3.encode().unwrap();
        for broken in [&[][..], b"not a profile", &icc[..icc.len() / 2], &icc[..200]] {
            let (layout, unchanged) = to_srgb(broken, Layout::Rgb, Samples::Eight(samples.clone()));
            let Samples::Eight(unchanged) = unchanged else { panic!("eight bits stay") };
            assert_eq!((layout, unchanged), (Layout::Rgb, samples.clone()));
        }
    }
}
