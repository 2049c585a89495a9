//! The score of a picture: from its measures to one number, and on to a probability for each level.
//!
//! Each measure becomes a penalty in the same unit. Quality falls exponentially with their sum: it
//! never reaches the lowest level, so a worse picture always scores lower. The weights are chosen
//! by hand so that distortions of similar strength cost the same; none is fitted to human scores.

use crate::method::LevelDistribution;
use crate::models::classic::features::Features;

/// The penalty of each measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalties {
    /// Missing detail, by blur or by repeated pixels.
    pub resolution: f64,
    /// Noise.
    pub noise: f64,
    /// JPEG's blocks.
    pub blocking: f64,
    /// Missing grey levels.
    pub banding: f64,
    /// Low contrast.
    pub contrast: f64,
    /// Too dark or too bright.
    pub exposure: f64,
    /// Blown highlights.
    pub clipping: f64,
}

impl Penalties {
    /// Computes the penalties of a picture's measures.
    pub fn of(features: &Features) -> Self {
        let blur = 0.45 * features.blur_octaves;
        let repetition = 0.5 * features.repetition_octaves;
        let noise_ratio = features.noise_variance / NOISE_VISIBLE.powi(2);
        // Pixels repeated eight times fit JPEG's grid; do not count them twice.
        let grid_is_jpeg = 1.0 / (1.0 + (features.repetition_octaves / 1.8).powi(6));
        let stops = (263.0 / (features.range + 8.0)).log2();
        Self {
            resolution: (blur.powi(4) + repetition.powi(4)).powf(0.25),
            noise: 0.2 * noise_ratio.ln_1p() / std::f64::consts::LN_2,
            blocking: 0.5 * features.blocking_octaves * grid_is_jpeg,
            banding: 0.75 * features.banding_octaves,
            contrast: 0.47 * soft(stops - 0.55, 0.35),
            exposure: exposure(&features.log_odds),
            clipping: 0.16 * (1.0 + features.clipped / 0.03).log2(),
        }
    }

    /// Returns the sum of all penalties.
    pub fn sum(&self) -> f64 {
        self.resolution
            + self.noise
            + self.blocking
            + self.banding
            + self.contrast
            + self.exposure
            + self.clipping
    }
}

/// Standard deviation in grey levels from which noise begins to cost.
const NOISE_VISIBLE: f64 = 4.0;
/// Penalty of the content of an ordinary good photo; it does not lower the quality.
const CONTENT: f64 = 0.7;
/// Softness of the bend at [`CONTENT`].
const BEND: f64 = 0.2;
/// Standard deviation of the distribution over seven levels.
const SPREAD: f64 = 0.55;

/// Computes the penalty of exposure.
fn exposure(log_odds: &[f64; 5]) -> f64 {
    darkness(log_odds) + brightness(log_odds)
}

/// Computes the penalty of darkness. Dark pictures lack bright parts: a night scene with lamps
/// costs little.
pub(crate) fn darkness(&[_, _, p50, p75, p95]: &[f64; 5]) -> f64 {
    let above = |value: f64| soft(value, 0.55);
    0.22 * above(0.6 - p95) + 0.25 * above(-0.2 - p75) + 0.4 * above(-1.2 - p50)
}

/// Computes the penalty of brightness. Bright pictures lack dark parts: a snow field with trees
/// costs little.
pub(crate) fn brightness(&[p5, p25, p50, _, _]: &[f64; 5]) -> f64 {
    let above = |value: f64| soft(value, 0.55);
    0.2 * above(p5 + 0.4) + 0.32 * above(p25 - 0.1) + 0.2 * above(p50 - 0.8)
}

/// A smooth ramp: near zero far below 0, near the identity far above, and growing everywhere.
fn soft(value: f64, bend: f64) -> f64 {
    let scaled = value / bend;
    bend * if scaled > 30.0 { scaled } else { scaled.exp().ln_1p() }
}

/// Returns the quality on a scale from 1, the worst, to `levels`.
pub fn quality(features: &Features, levels: u8) -> f64 {
    let span = f64::from(levels) - 1.0;
    1.0 + span * (-soft(Penalties::of(features).sum() - CONTENT, BEND)).exp()
}

/// Returns a discretised Gaussian around a quality on the scale of `levels`.
///
/// # Panics
/// Panics on fewer than two levels; every standard has two or more.
pub fn distribution(quality: f64, levels: u8) -> LevelDistribution {
    let spread = SPREAD * (f64::from(levels) - 1.0) / 6.0;
    let logit = |level: u8| -0.5 * ((f64::from(level) - quality) / spread).powi(2);
    let logits: Vec<f64> = (1..=levels).map(logit).collect();
    LevelDistribution::from_logits(&logits).expect("a standard has two levels or more")
}
