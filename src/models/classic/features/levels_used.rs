//! Banding: the grey levels that a picture does not use within its range, in octaves.
//!
//! Brightening or stretching an 8-bit picture leaves gaps in its histogram, which are visible as
//! banding. (Stamm and Liu, "Forensic detection of image manipulation using statistical intrinsic
//! fingerprints", IEEE TIFS 5(3), 2010, analyse the same gaps.) A histogram is compared with its
//! smoothed copy. After a gain of g, one level in g is used, and the measure is log₂ g.

use image::RgbImage;

use crate::models::classic::features::plane::Tile;

/// Levels at both ends that are ignored, because clipping fills them.
const ENDS: usize = 2;
/// Radius of the smoothing, in levels.
const REACH: usize = 4;
/// Levels in a window that is measured as one.
const WINDOW: usize = 16;

/// Histograms of the three channels, summed over tiles.
#[derive(Debug, Clone)]
pub(crate) struct LevelsUsed {
    counts: [[u32; 256]; 3],
}

impl Default for LevelsUsed {
    fn default() -> Self {
        Self { counts: [[0; 256]; 3] }
    }
}

impl LevelsUsed {
    /// Adds a tile.
    pub(crate) fn add(&mut self, image: &RgbImage, tile: &Tile) {
        let [reds, greens, blues] = &mut self.counts;
        for row in tile.rows(image) {
            let (pixels, _) = row.as_chunks::<3>();
            for &[red, green, blue] in pixels {
                reds[usize::from(red)] += 1;
                greens[usize::from(green)] += 1;
                blues[usize::from(blue)] += 1;
            }
        }
    }

    /// Returns the missing octaves of levels. Each window is weighted with the root of its pixels:
    /// gaps in few deep shadows are as visible as those in many mid-tones.
    pub(crate) fn lost_octaves(&self) -> f64 {
        let (mut weighted, mut weights) = (0.0, 0.0);
        for counts in &self.counts {
            // Square roots even out the peaks of single-coloured things.
            let roots = counts.map(|count| f64::from(count).sqrt());
            for start in (0..256).step_by(WINDOW) {
                let window = start.max(ENDS)..(start + WINDOW).min(256 - ENDS);
                let (mut smooth, mut sum) = (0.0, 0.0);
                for level in window.clone() {
                    smooth += smoothed(&roots, level).powi(2);
                    sum += f64::from(counts[level]);
                }
                if sum > 0.0 {
                    // Few pixels leave gaps by chance.
                    let by_chance = (1.0 + window.len() as f64 / sum).log2();
                    weighted += sum.sqrt() * ((sum / smooth).log2() - by_chance).max(0.0);
                    weights += sum.sqrt();
                }
            }
        }
        if weights > 0.0 { weighted / weights } else { 0.0 }
    }
}

/// Returns the mean around a level, with weights that fall to both sides.
fn smoothed(values: &[f64; 256], level: usize) -> f64 {
    let reach = level.saturating_sub(REACH).max(ENDS)..=(level + REACH).min(255 - ENDS);
    let (mut sum, mut weights) = (0.0, 0.0);
    for (neighbour, value) in reach.clone().zip(&values[reach]) {
        let weight = (REACH + 1 - level.abs_diff(neighbour)) as f64;
        sum += weight * value;
        weights += weight;
    }
    sum / weights
}
