//! The sharpest detail of a picture in each direction, in octaves that are missing.
//!
//! As in `classic`'s sharpness (Crété-Roffet et al., "The blur effect", SPIE 6492, 2007), the
//! energy of the gradients is compared between the levels of a pyramid: a blur removes it from
//! the fine levels first. The energy of each direction comes from the structure tensor, so that
//! motion, which blurs one direction only, stands out (Liu, Li and Jia, "Image partial blur
//! detection and classification", CVPR 2008, compare directions likewise). Only the sharpest
//! cells count (Vu, Phan and Chandler, "S3: a spectral and spatial measure of local perceived
//! sharpness", IEEE TIP 21(3), 2012): a picture with a sharp part is in focus, whatever its
//! background.

use crate::reasons::cells::{Cell, LEVELS, Tensor};

/// Number of directions over half a turn. Even, so that each has a perpendicular one.
const DIRECTIONS: usize = 12;
/// Share of the cells that are sharper than the measured one. The sharp subject of a close-up fills
/// little of the picture.
const SHARPEST: f64 = 0.05;
/// Share of the cells with detail that are in focus, and their minimum number.
const IN_FOCUS: f64 = 0.2;
const IN_FOCUS_MIN: usize = 16;
/// Share of the cells in focus that are sharper than the measured one.
const SHARPEST_IN_FOCUS: f64 = 0.15;
/// Minimum number of cells with detail in a direction.
const CELLS_MIN: usize = 4;
/// Level whose energy tells if a cell has detail: most blur leaves it.
const COARSE: usize = 2;
/// Range of the energy that counts as detail: a tenth of the strongest cell's, within these limits.
/// Squared grey levels.
const DETAIL: (f32, f32) = (1.0, 8.0);
/// Share of a cell's energy that a direction must have. In a weaker one, the neighbours leak in.
const OWN_SHARE: f32 = 0.1;
/// Variance that rounding leaves in a difference, in squared grey levels.
const ROUNDING: f32 = 0.04;
/// Share of the fine energy that noise cannot explain away.
const NOT_NOISE: f32 = 0.3;
/// Step between levels, in octaves, up to which a picture is sharp, and its range up to the step of
/// a ramp without detail.
const STEP: (f32, f32) = (0.4, 1.6);
/// Longer side in pixels up to which a viewer sees every pixel.
const VISIBLE_PX: f32 = 2000.0;

/// The missing octaves of the sharpest detail.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct MissingDetail {
    /// In the sharpest direction: blur of every kind.
    pub(crate) least: f64,
    /// Excess of the most blurred direction over the perpendicular one: motion. The sum of the
    /// cells' excess and half of that of their pooled energy.
    pub(crate) excess: f64,
}

/// Measures cells, given the variance of their noise and the picture's longer side. Returns `None`
/// if too few have detail.
pub(crate) fn missing_detail(
    cells: &[&Cell],
    noise_variance: f64,
    longest_px: u32,
) -> Option<MissingDetail> {
    let weights: [f32; LEVELS - 1] = std::array::from_fn(|level| {
        let fineness = longest_px as f32 / VISIBLE_PX / (1_u32 << level) as f32;
        1.0 / fineness.max(1.0).powi(2)
    });
    let noise = noise_variance as f32;
    let coarse_noise = noise * 0.25_f32.powi(COARSE as i32);
    let parts = || cells.iter().flat_map(|cell| &cell.quarters);
    let strongest = parts().map(|tensors| sum(tensors[COARSE])).fold(0.0, f32::max);
    let detail_min = (0.1 * strongest).clamp(DETAIL.0, DETAIL.1) + 3.0 * coarse_noise;
    let mut found: Vec<Part<'_>> = Vec::with_capacity(4 * cells.len());
    let directions: [Tensor; DIRECTIONS] = std::array::from_fn(along);
    for tensors in parts() {
        let total = sum(tensors[COARSE]);
        // No direction has more than the total.
        if total < detail_min {
            continue;
        }
        let lost = directions.map(|direction| {
            let energies = tensors.map(|tensor| energy(tensor, direction));
            let coarse = energies[COARSE];
            (coarse >= detail_min && coarse >= OWN_SHARE * total)
                .then(|| lost(energies, noise, &weights))
        });
        if lost.iter().any(Option::is_some) {
            found.push(Part { lost, tensors });
        }
    }
    let of_all = sharpest(&found, SHARPEST);
    let least = of_all.into_iter().flatten().min_by(f32::total_cmp)?;
    // Motion is that of the cells in focus: a background out of focus has few directions.
    let in_focus = ((IN_FOCUS * found.len() as f64) as usize).max(IN_FOCUS_MIN).min(found.len());
    if in_focus < found.len() {
        found.select_nth_unstable_by(in_focus, |a, b| a.least().total_cmp(&b.least()));
        found.truncate(in_focus);
    }
    // Long motion leaves them no detail along it.
    let mut missing = sharpest(&found, SHARPEST_IN_FOCUS);
    for (missing, of_all) in missing.iter_mut().zip(of_all) {
        *missing = missing.or(of_all);
    }
    let excess = (0..DIRECTIONS).filter_map(|direction| {
        // The perpendicular direction, or one next to it: edges lie on a coarse set of directions.
        let across = (DIRECTIONS / 2 - 1..=DIRECTIONS / 2 + 1)
            .filter_map(|turn| missing[(direction + turn) % DIRECTIONS])
            .min_by(f32::total_cmp)?;
        Some(missing[direction]? - across)
    });
    let excess = excess.fold(0.0, f32::max) + 0.5 * pooled_excess(&found, noise, &weights);
    Some(MissingDetail { least: f64::from(least), excess: f64::from(excess) })
}

/// A quarter of a cell that has detail.
struct Part<'a> {
    /// The missing octaves in each direction with detail.
    lost: [Option<f32>; DIRECTIONS],
    tensors: &'a [Tensor; LEVELS],
}

impl Part<'_> {
    /// Returns the missing octaves in the sharpest direction.
    fn least(&self) -> f32 {
        self.lost.iter().flatten().copied().fold(f32::INFINITY, f32::min)
    }
}

/// Returns the excess of the most blurred direction in the mean energy of all parts. The mean keeps
/// growing with long motion, which leaves single parts no detail along it. Strong edges count by
/// their height, not by its square.
fn pooled_excess(parts: &[Part<'_>], noise: f32, weights: &[f32; LEVELS - 1]) -> f32 {
    let mut pooled = [[0.0_f32; 3]; LEVELS];
    let mut total = 0.0;
    for part in parts {
        let weight = sum(part.tensors[COARSE]).sqrt().recip();
        total += weight;
        for (pooled, tensor) in pooled.iter_mut().zip(part.tensors) {
            for (sum, entry) in pooled.iter_mut().zip(tensor) {
                *sum += weight * entry;
            }
        }
    }
    let missing: [f32; DIRECTIONS] = std::array::from_fn(|direction| {
        let energies = pooled.map(|tensor| energy(tensor, along(direction)) / total);
        lost(energies, noise, weights)
    });
    let across = |direction: usize| missing[(direction + DIRECTIONS / 2) % DIRECTIONS];
    (0..DIRECTIONS).map(|direction| missing[direction] - across(direction)).fold(0.0, f32::max)
}

/// Returns the missing octaves in each direction that a share of the cells do not exceed, or `None`
/// in directions without detail.
fn sharpest(parts: &[Part<'_>], share: f64) -> [Option<f32>; DIRECTIONS] {
    std::array::from_fn(|direction| {
        let mut lost: Vec<f32> = parts.iter().filter_map(|part| part.lost[direction]).collect();
        if lost.len() < CELLS_MIN {
            return None;
        }
        let position = (share * lost.len() as f64) as usize;
        Some(*lost.select_nth_unstable_by(position, f32::total_cmp).1)
    })
}

/// Returns the weights of a tensor's entries for the energy along a direction.
fn along(direction: usize) -> Tensor {
    let angle = std::f32::consts::PI * direction as f32 / DIRECTIONS as f32;
    let (sin, cos) = angle.sin_cos();
    [cos * cos, 2.0 * sin * cos, sin * sin]
}

fn energy(tensor: Tensor, weights: Tensor) -> f32 {
    let [across, both, down] = [0, 1, 2].map(|entry| tensor[entry] * weights[entry]);
    (across + both + down).max(0.0)
}

fn sum(tensor: Tensor) -> f32 {
    tensor[0] + tensor[2]
}

/// Returns the octaves that are missing between the levels.
fn lost(energies: [f32; LEVELS], noise: f32, weights: &[f32; LEVELS - 1]) -> f32 {
    let mut shrunk = 1.0;
    let detail = energies.map(|energy| {
        let detail = (energy - noise * shrunk).max(NOT_NOISE * energy) + ROUNDING * shrunk;
        // Each halving removes three quarters of the noise.
        shrunk *= 0.25;
        detail
    });
    let steps = weights.iter().zip(detail.array_windows());
    steps
        .map(|(weight, [fine, coarse])| {
            let step = (coarse / fine).log2();
            weight * ((step - STEP.0) / STEP.1).max(0.0)
        })
        .sum()
}
