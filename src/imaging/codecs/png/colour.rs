//! The colour space that a PNG file names, as browsers choose it: `cICP`, then an embedded profile,
//! then `sRGB`, then `gAMA` with `cHRM`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the library calculates curves and points in f32"
)]

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace,
    MatrixCoefficients, ToneReprCurve, TransferCharacteristics, XyY,
};

use crate::imaging::codecs::byte_order::be32;
use crate::imaging::codecs::png::chunks::{Chunks, FORMAT};
use crate::imaging::error::DecodeError;

/// Unit of `gAMA` and `cHRM`.
const UNIT: f64 = 100_000.0;

/// The exponent of displays. Browsers do nothing for a file within 5 % of it.
const DISPLAY_EXPONENT: f64 = 2.2;
const EXPONENT_TOLERANCE: f64 = 0.05;

/// Returns the colour profile to apply, encoded, or `None` for sRGB.
pub(crate) fn profile(
    chunks: &Chunks<'_>,
    embedded: Option<Vec<u8>>,
    is_grey: bool,
) -> Result<Option<Vec<u8>>, DecodeError> {
    if let Some([primaries, transfer, 0, full_range]) = chunks.cicp {
        let hdr = match transfer {
            16 => Some("PQ"),
            18 => Some("HLG"),
            _ => None,
        };
        if let Some(name) = hdr {
            let feature = format!("its colours are for high dynamic range ({name})");
            return Err(DecodeError::unsupported(FORMAT, &feature));
        }
        if let (Some(profile), 1) = (coded_profile(*primaries, *transfer, is_grey), full_range) {
            return Ok(profile.encode().ok());
        }
    }
    if embedded.is_some() || chunks.has_profile || chunks.has_srgb {
        return Ok(embedded);
    }
    Ok(calibrated_profile(chunks, is_grey).and_then(|profile| profile.encode().ok()))
}

/// Returns the profile of code points of ITU-T H.273, or `None` for unknown ones.
fn coded_profile(primaries: u8, transfer: u8, is_grey: bool) -> Option<ColorProfile> {
    let color_primaries = CicpColorPrimaries::try_from(primaries).ok()?;
    let transfer_characteristics = TransferCharacteristics::try_from(transfer).ok()?;
    ColorPrimaries::try_from(color_primaries).ok()?;
    ToneReprCurve::try_from(transfer_characteristics).ok()?;
    let mut profile = ColorProfile::new_srgb();
    profile.update_rgb_colorimetry_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    // Readers of the encoded profile must not prefer the code points to the curves.
    profile.cicp = None;
    if is_grey { grey(profile) } else { Some(profile) }
}

/// Returns the grey profile with the same curve.
fn grey(profile: ColorProfile) -> Option<ColorProfile> {
    let mut grey = ColorProfile::new_gray_with_gamma(1.0);
    grey.gray_trc = Some(profile.red_trc?);
    Some(grey)
}

/// Returns the profile of `gAMA` and `cHRM`, or `None` if they are missing or mean sRGB.
fn calibrated_profile(chunks: &Chunks<'_>, is_grey: bool) -> Option<ColorProfile> {
    let gamma = f64::from(be32(chunks.gamma?, 0)?) / UNIT;
    // The limits of libpng.
    if !(0.000_16..=6250.0).contains(&gamma) {
        return None;
    }
    let is_standard = (gamma * DISPLAY_EXPONENT - 1.0).abs() < EXPONENT_TOLERANCE;
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    if !is_standard {
        let curve = ToneReprCurve::Parametric(vec![(1.0 / gamma) as f32]);
        profile.red_trc = Some(curve.clone());
        profile.green_trc = Some(curve.clone());
        profile.blue_trc = Some(curve);
    }
    if is_grey {
        return if is_standard { None } else { grey(profile) };
    }
    if let Some((white, primaries)) = chunks.chromaticities.and_then(chromaticities) {
        profile.update_rgb_colorimetry(white, primaries);
    } else if is_standard {
        return None;
    }
    debug_assert_eq!(profile.color_space, DataColorSpace::Rgb);
    Some(profile)
}

/// Reads white point and primaries, or returns `None` if they span no colours.
fn chromaticities(payload: &[u8]) -> Option<(XyY, ColorPrimaries)> {
    let at = |index: usize| be32(payload, 4 * index).map(|value| f64::from(value) / UNIT);
    let point = |index: usize| Some((at(2 * index)?, at(2 * index + 1)?));
    let (white, red, green, blue) = (point(0)?, point(1)?, point(2)?, point(3)?);
    let is_sound = |(x, y): (f64, f64)| x > 0.0 && y > 0.0 && x + y <= 1.0;
    let area = (green.0 - red.0) * (blue.1 - red.1) - (green.1 - red.1) * (blue.0 - red.0);
    if ![white, red, green, blue].into_iter().all(is_sound) || area.abs() < 0.001 {
        return None;
    }
    let primary = |(x, y): (f64, f64)| Chromaticity { x: x as f32, y: y as f32 };
    let primaries =
        ColorPrimaries { red: primary(red), green: primary(green), blue: primary(blue) };
    Some((XyY { x: white.0, y: white.1, yb: 1.0 }, primaries))
}
