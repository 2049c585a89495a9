//! Exposure, contrast and uniformity of a picture or a region.
//!
//! Exposure is that of `classic`: the percentiles of luma in log-odds between black and white.
//! Contrast is the range between outer percentiles (Peli, "Contrast in complex images", JOSA A
//! 7(10), 1990, discusses Michelson's, of which this is the robust form). Uniformity is the mean
//! deviation from the median colour.

use image::RgbImage;

use crate::models::classic::features::{log_odds, luma};
use crate::models::classic::{brightness, darkness};
use crate::reasons::cells::Cell;

/// Share of the pixels beyond each end of the range.
const OUTER: f64 = 0.002;
/// Share of clipped pixels that lamps and skies reach in good photos.
const CLIPPED_SKY: f64 = 0.12;
/// Penalty of brightness of a picture whose pixels are all clipped.
const CLIPPING: f64 = 1.2;

/// Penalties of exposure, 0 at the best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Exposure {
    pub(crate) dark: f64,
    pub(crate) bright: f64,
}

/// Measures the exposure of cells. Returns `None` without any.
pub(crate) fn exposure(cells: &[&Cell]) -> Option<Exposure> {
    let mut lumas: Vec<f32> = cells.iter().flat_map(|cell| cell.lumas.iter().copied()).collect();
    if lumas.is_empty() {
        return None;
    }
    let odds = log_odds(|share| {
        let position = (share * (lumas.len() - 1) as f64) as usize;
        *lumas.select_nth_unstable_by(position, f32::total_cmp).1
    });
    let sum =
        |count: fn(&Cell) -> u32| cells.iter().map(|cell| f64::from(count(cell))).sum::<f64>();
    let pixels = sum(|cell| (cell.tile.width * cell.tile.height) as u32);
    let clipped = sum(|cell| cell.clipped);
    let blown = CLIPPING * (clipped / pixels - CLIPPED_SKY).max(0.0);
    Some(Exposure { dark: darkness(&odds), bright: brightness(&odds) + blown })
}

/// The use of a picture's colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Colours {
    /// Difference of the outer percentiles of luma, in grey levels.
    pub(crate) range: f64,
    /// Mean deviation from the median, of the channel that deviates most, in levels.
    pub(crate) deviation: f64,
}

/// Measures the colours of the pixels of cells, every third row.
pub(crate) fn colours(image: &RgbImage, cells: &[Cell]) -> Colours {
    let mut channels = [[0_u64; 256]; 3];
    let mut lumas = [0_u64; 256];
    for cell in cells {
        for row in cell.tile.rows(image).step_by(3) {
            for &pixel in row.as_chunks::<3>().0 {
                for (counts, value) in channels.iter_mut().zip(pixel) {
                    counts[usize::from(value)] += 1;
                }
                lumas[(luma(pixel.map(f32::from)) + 0.5) as usize] += 1;
            }
        }
    }
    let deviation = channels.iter().map(deviation).fold(0.0, f64::max);
    let range = (percentile(&lumas, 1.0 - OUTER) - percentile(&lumas, OUTER)) as f64;
    Colours { range, deviation }
}

/// Returns the level that exceeds a share of the counts.
fn percentile(counts: &[u64; 256], share: f64) -> usize {
    let total: u64 = counts.iter().sum();
    let needed = (share * total as f64) as u64;
    let mut seen = 0;
    let exceeds = counts.iter().position(|&count| {
        seen += count;
        seen > needed
    });
    exceeds.unwrap_or(255)
}

fn deviation(counts: &[u64; 256]) -> f64 {
    let median = percentile(counts, 0.5);
    let total: u64 = counts.iter().sum();
    let sum: u64 =
        (0_u64..).zip(counts).map(|(level, count)| count * level.abs_diff(median as u64)).sum();
    sum as f64 / total.max(1) as f64
}
