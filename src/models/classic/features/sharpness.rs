//! Sharpness: the missing fine detail, in octaves.
//!
//! Crété-Roffet et al. ("The blur effect", SPIE 6492, 2007) compare the differences of neighbouring
//! pixels before and after a blur: a sharp picture loses many, a blurred one few. Here the blur is
//! the 2 × 2 mean of a pyramid, level by level and in four directions. With the transfer functions
//! of these differences the ratio of one level's energy to the next is `1 / (4 cos⁴ πf)` at the
//! frequency `f`. It grows with `f`, so anything that weakens high frequencies more than low ones
//! lowers each ratio. Blur of any width is visible at the level of its width. Natural pictures have
//! similar energy in each octave (Field 1987), which means a ratio near 1/2; a smooth ramp has 1/4.

use crate::models::classic::features::plane::{Plane, squared_difference};

/// Number of pyramid levels that are measured, each half as large as the one before.
pub(crate) const LEVELS: usize = 7;
/// Right, down and the two diagonals.
const DIRECTIONS: usize = 4;
/// Energy that rounding to whole grey levels leaves in a difference: twice 1/12, rounded down
/// because smooth pictures round alike.
const ROUNDING: f64 = 0.02;
/// Factor by which more noise is subtracted than was measured. Remaining noise would look like
/// detail, and clipping at black and white hides some of it from the measurement.
const NOISE_MARGIN: f64 = 1.5;
/// Share of an octave that is lost if it holds nothing but noise.
const DROWNED: f64 = 0.8;
/// Minimum share of the energy that counts as detail.
const DETAIL_MIN: f64 = 0.02;
/// Steps of the spectrum below this, in octaves, are those of a sharp picture.
const STEP_SHARP: f64 = 0.75;
/// The step of a smooth ramp: nothing is left of this octave.
const STEP_SMOOTH: f64 = 2.0;
/// Softness of the bend at [`STEP_SHARP`].
const BEND: f64 = 0.25;
/// Weight of each octave, the finest first: cameras leave little in the finest, and the coarsest
/// depend on content more than on sharpness.
const WEIGHTS: [f64; LEVELS - 1] = [0.8, 1.0, 1.0, 1.0, 0.8, 0.6];
/// Pixels along a picture's longer side that a viewer can distinguish. A viewer steps back to see
/// the whole, so the finest octave of a large picture matters less.
const VISIBLE_PX: f64 = 2000.0;
/// Weight of the worst direction beyond the mean of all: motion blurs one direction only.
const WORST_DIRECTION: f64 = 0.5;

/// Energies of differences by level and direction, summed over tiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sharpness {
    energies: [[f64; DIRECTIONS]; LEVELS],
    counts: [f64; LEVELS],
}

impl Sharpness {
    /// Adds one level of a tile's pyramid.
    pub(crate) fn add(&mut self, level: usize, plane: &Plane) {
        if plane.width < 2 || plane.height < 2 {
            return;
        }
        let energies = &mut self.energies[level];
        for y in 0..plane.height - 1 {
            let (upper, lower) = (plane.row(y), plane.row(y + 1));
            let (upper_left, upper_right) = (&upper[..upper.len() - 1], &upper[1..]);
            let (lower_left, lower_right) = (&lower[..lower.len() - 1], &lower[1..]);
            energies[0] += squared_difference(upper_left, upper_right);
            energies[1] += squared_difference(upper_left, lower_left);
            energies[2] += squared_difference(upper_left, lower_right);
            energies[3] += squared_difference(upper_right, lower_left);
        }
        self.counts[level] += ((plane.width - 1) * (plane.height - 1)) as f64;
    }

    /// Returns the missing octaves of detail, given the variance of the picture's noise and its
    /// longer side in pixels.
    pub(crate) fn lost_octaves(&self, noise_variance: f64, longest_px: usize) -> f64 {
        let weights: [f64; LEVELS - 1] = std::array::from_fn(|level| {
            let fineness = longest_px as f64 / VISIBLE_PX / 2.0_f64.powi(level as i32);
            WEIGHTS[level] / (1.0 + fineness * fineness)
        });
        let lost: [f64; DIRECTIONS] =
            std::array::from_fn(|direction| self.lost_in(direction, noise_variance, &weights));
        let mean = lost.iter().sum::<f64>() / DIRECTIONS as f64;
        let worst = lost.iter().copied().fold(0.0, f64::max);
        mean + WORST_DIRECTION * (worst - mean)
    }

    fn lost_in(&self, direction: usize, noise_variance: f64, weights: &[f64]) -> f64 {
        let energy = |level: usize| self.energies[level][direction] / self.counts[level];
        // A difference holds the noise of two pixels, and each halving removes three quarters of
        // it.
        let shrunk = |level: usize| 0.25_f64.powi(level as i32);
        let noise = |level: usize| 2.0 * NOISE_MARGIN * noise_variance * shrunk(level);
        let detail = |level: usize| {
            let left = (energy(level) - noise(level)).max(DETAIL_MIN * energy(level));
            left + ROUNDING * shrunk(level)
        };
        let present = |level: usize| self.energies[level][direction] > 0.0;
        let steps = (0..LEVELS - 1).filter(|&level| present(level) && present(level + 1));
        steps
            .map(|level| {
                let step = (detail(level + 1) / detail(level)).log2();
                let excess = BEND * ((step - STEP_SHARP) / BEND).exp().ln_1p();
                let lost = excess / (STEP_SMOOTH - STEP_SHARP);
                let drowned = (noise(level) / energy(level)).min(1.0);
                weights[level] * (lost + drowned * (DROWNED - lost))
            })
            .sum()
    }
}
