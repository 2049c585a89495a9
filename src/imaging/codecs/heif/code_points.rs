//! The code points for the colours of coded images: primaries, transfer function, matrix and range.
//!
//! Source: ITU-T H.273.

use moxcms::{
    CicpColorPrimaries, CicpProfile, ColorProfile, MatrixCoefficients, TransferCharacteristics,
};

/// Range of the bytes of a profile that have its date.
const PROFILE_DATE: std::ops::Range<usize> = 24..36;

/// BT.709, whose primaries are those of sRGB.
const BT709: u8 = 1;
const UNSPECIFIED: u8 = 2;
const SRGB_TRANSFER: u8 = 13;
const PQ: u8 = 16;
const HLG: u8 = 18;

/// The meaning of an image's samples, as numbers of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodePoints {
    pub(crate) primaries: u8,
    pub(crate) transfer: u8,
    pub(crate) matrix: u8,
    pub(crate) is_full_range: bool,
}

impl CodePoints {
    /// Returns the name of the transfer function if it is one for high dynamic range.
    pub(crate) fn hdr(self) -> Option<&'static str> {
        match self.transfer {
            PQ => Some("PQ"),
            HLG => Some("HLG"),
            _ => None,
        }
    }

    /// Returns a colour profile, or `None` if the colours are those of sRGB.
    ///
    /// The transfer functions of video count as that of sRGB, as in browsers: such images are
    /// made for the same screens.
    pub(crate) fn profile(self) -> Option<Vec<u8>> {
        let transfer = match self.transfer {
            1 | UNSPECIFIED | 6 | 14 | 15 => SRGB_TRANSFER,
            other => other,
        };
        let primaries = if self.primaries == UNSPECIFIED { BT709 } else { self.primaries };
        if (primaries, transfer) == (BT709, SRGB_TRANSFER) {
            return None;
        }
        let mut profile = ColorProfile::new_from_cicp(CicpProfile {
            color_primaries: CicpColorPrimaries::try_from(primaries).ok()?,
            transfer_characteristics: TransferCharacteristics::try_from(transfer).ok()?,
            matrix_coefficients: MatrixCoefficients::Identity,
            full_range: true,
        });
        // Without curves the code points are reserved ones.
        profile.red_trc.as_ref()?;
        profile.cicp = None;
        let mut bytes = profile.encode().ok()?;
        // The same code points are the same bytes, which finds the conversion in the cache.
        bytes.get_mut(PROFILE_DATE)?.fill(0);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_other_than_srgb_have_a_profile() {
        let profile = |primaries, transfer| {
            CodePoints { primaries, transfer, matrix: 1, is_full_range: true }.profile()
        };
        for (primaries, transfer) in [(1, 13), (2, 2), (1, 1), (2, 6), (1, 14)] {
            assert_eq!(profile(primaries, transfer), None, "{primaries} and {transfer}");
        }
        for (primaries, transfer) in [(12, 13), (9, 14), (1, 8), (5, 1)] {
            let bytes = profile(primaries, transfer).unwrap();
            assert!(ColorProfile::new_from_slice(&bytes).is_ok(), "{primaries} and {transfer}");
        }
        // Reserved numbers are not a reason to refuse an image.
        assert_eq!(profile(200, 13), None);
    }
}
