//! YCbCr to RGB, for the files whose decoder leaves it to us.

/// Converts JFIF's full-range YCbCr to RGB, in libjpeg's 16-bit fixed point.
#[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255")]
pub(crate) fn rgb_from_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + 32_768) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
    let blue = y + ((116_130 * cb + 32_768) >> 16);
    [red, green, blue].map(|sample| sample.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neutral_chroma_is_grey() {
        for luma in 0..=255 {
            assert_eq!(rgb_from_ycbcr([luma, 128, 128]), [luma; 3]);
        }
        assert_eq!(rgb_from_ycbcr([76, 85, 255]), [254, 0, 0]);
    }
}
