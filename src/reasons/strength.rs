//! The scales from a measure to a strength, one for each code.
//!
//! A strength is `x / (x + half)`: it grows with the measure everywhere, so that a stronger
//! distortion always has a stronger reason. The limits lie where the distortion becomes visible on
//! photos from many cameras, above what clean ones have.

/// The scale of one code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    /// Measure from which a reason is listed.
    pub(crate) listed: f64,
    /// Measure of the strength 1/2.
    pub(crate) half: f64,
}

/// Missing octaves of the sharpest detail. Clean photos lack up to 0.5; a Gaussian blur of 1 pixel
/// removes 0.6.
pub(crate) const BLURRED: Scale = Scale { listed: 0.5, half: 1.2 };
/// Octaves that are missing along a motion; 0 without one. Movement over 5 pixels removes 0.7, over
/// 15 pixels 1.5.
pub(crate) const MOTION_BLURRED: Scale = Scale { listed: 0.01, half: 1.4 };
/// Octaves that the subject lacks and the background has. Smooth subjects before detailed
/// backgrounds reach 0.4.
pub(crate) const OUT_OF_FOCUS: Scale = Scale { listed: 0.45, half: 1.0 };
/// Deviation of the noise in grey levels. Sensors by daylight reach 3; grass and leaves that
/// leave no flat place reach more.
pub(crate) const NOISY: Scale = Scale { listed: 3.5, half: 9.0 };
/// Visibility of the 8 × 8 grid. Cameras' files reach 0.55, JPEG of quality 50 has 0.7.
pub(crate) const COMPRESSED: Scale = Scale { listed: 0.58, half: 1.0 };
/// Penalty of darkness. Daylight reaches 0.4, a flower before a black ground 0.5; two stops of
/// under-exposure cost 0.6.
pub(crate) const TOO_DARK: Scale = Scale { listed: 0.5, half: 1.0 };
/// Penalty of brightness. Clean photos with much sky or a white wall reach 0.23; one stop of
/// over-exposure costs 0.3.
pub(crate) const TOO_BRIGHT: Scale = Scale { listed: 0.24, half: 0.5 };
/// Octaves of contrast missing from the full range. Clean photos lack up to 0.8, and 1 is half the
/// contrast.
pub(crate) const LOW_CONTRAST: Scale = Scale { listed: 1.0, half: 2.0 };
/// Octaves of detail missing from an enlarged picture, which a factor of 1.5 mostly removes. The
/// digital zoom of a phone removes 0.4.
pub(crate) const UPSCALED: Scale = Scale { listed: 0.35, half: 1.0 };
/// Share of width and height under bars. Thinner ones disturb nobody.
pub(crate) const BORDERS: Scale = Scale { listed: 0.015, half: 0.25 };
/// Octaves below a side of 424 pixels. Half an octave is 300 × 300, a little more than a quarter of
/// VGA, which is too small to fill even a phone's screen.
pub(crate) const LOW_RESOLUTION: Scale = Scale { listed: 0.5, half: 1.0 };
/// Octaves by which the mean deviation from the median colour is below 16 levels. Night skies have
/// 15 levels, empty pages 8.
pub(crate) const MONOCHROME_FLAT: Scale = Scale { listed: 1.0, half: 1.5 };

impl Scale {
    /// Returns the strength of a measure in 0..=1, or `None` if it is too small to list. It has
    /// four decimals, so that the last bits of a sum decide nothing.
    pub(crate) fn strength(&self, measure: f64) -> Option<f64> {
        (measure >= self.listed && measure.is_finite())
            .then(|| (measure / (measure + self.half)).clamp(0.0, 1.0))
            .map(|strength| (1e4 * strength).round() / 1e4)
    }

    /// Returns the same scale with a higher limit.
    pub(crate) fn listed_from(self, listed: f64) -> Self {
        Self { listed: self.listed.max(listed), ..self }
    }
}
