//! Blocking: the visibility of an 8 × 8 grid of blocks, as JPEG leaves it.
//!
//! Wang, Sheikh and Bovik ("No-reference perceptual quality assessment of JPEG compressed images",
//! ICIP 2002) compare the mean difference across block boundaries with that inside blocks. This
//! measure uses second differences, on which slopes have no effect, and searches the grid's offset,
//! because a crop may begin anywhere.

use crate::models::classic::features::plane::{Plane, Tile, absolute_difference};

/// JPEG's block side in pixels.
const PERIOD: usize = 8;
/// Step that rounding alone may leave, in grey levels.
const ROUNDING: f64 = 0.15;
/// Octaves by which the highest of eight phases exceeds the others by chance, times the square root
/// of the number of boundaries.
const CHANCE: f64 = 0.5;

/// Sums of steps by their position in the grid.
#[derive(Debug, Clone, Default)]
struct Phases {
    sums: [f64; PERIOD],
    counts: [f64; PERIOD],
    boundaries: [f64; PERIOD],
}

impl Phases {
    fn add(&mut self, position: usize, sum: f64, count: usize) {
        let phase = position % PERIOD;
        self.sums[phase] += sum;
        self.counts[phase] += count as f64;
        self.boundaries[phase] += 1.0;
    }

    fn merge(&mut self, other: &Self) {
        let add = |to: &mut [f64; PERIOD], from: &[f64; PERIOD]| {
            for (to, from) in to.iter_mut().zip(from) {
                *to += from;
            }
        };
        add(&mut self.sums, &other.sums);
        add(&mut self.counts, &other.counts);
        add(&mut self.boundaries, &other.boundaries);
    }

    /// Returns the grey levels by which the steps of the strongest phase exceed the others'.
    fn excess(&self) -> f64 {
        if self.boundaries.iter().any(|&boundaries| boundaries < 1.0) {
            return 0.0;
        }
        let means: [f64; PERIOD] =
            std::array::from_fn(|phase| self.sums[phase] / self.counts[phase]);
        let strongest = means.iter().copied().fold(0.0, f64::max);
        let others = (means.iter().sum::<f64>() - strongest) / (PERIOD - 1) as f64;
        strongest - others
    }

    /// Returns the octaves by which the steps of the strongest phase exceed the others'.
    fn octaves(&self) -> f64 {
        if self.boundaries.iter().any(|&boundaries| boundaries < 1.0) {
            return 0.0;
        }
        let mean = |phase: usize| self.sums[phase % PERIOD] / self.counts[phase % PERIOD];
        let strongest = (0..PERIOD).max_by(|&a, &b| mean(a).total_cmp(&mean(b))).unwrap_or(0);
        let others = (1..PERIOD).map(|step| mean(strongest + step)).sum::<f64>() / 7.0;
        // Pixels repeated by 2 or 4 peak on these phases, too, and are not JPEG's blocks.
        let siblings = [2, 4, 6].map(|step| mean(strongest + step));
        let rest = siblings.into_iter().fold(others, f64::max);
        let octaves = ((mean(strongest) + ROUNDING) / (rest + ROUNDING)).log2();
        let chance = CHANCE / self.boundaries[strongest].sqrt();
        (octaves - chance).max(0.0)
    }
}

/// Steps of the grid's columns and rows, summed over tiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocking {
    columns: Phases,
    rows: Phases,
}

impl Blocking {
    /// Adds a tile's plane.
    pub(crate) fn add(&mut self, plane: &Plane, tile: &Tile) {
        if plane.width < 2 * PERIOD || plane.height < 2 * PERIOD {
            return;
        }
        let mut steps = vec![0.0_f32; plane.width - 3];
        for y in 0..plane.height {
            let row = plane.row(y);
            for (step, window) in steps.iter_mut().zip(row.array_windows::<4>()) {
                *step += step_of(*window).abs();
            }
        }
        for (x, &sum) in steps.iter().enumerate() {
            self.columns.add(tile.x + x, f64::from(sum), plane.height);
        }
        let (mut inner, mut outer) = (vec![0.0; plane.width], vec![0.0; plane.width]);
        for y in 0..plane.height - 3 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|step| plane.row(y + step));
            for x in 0..plane.width {
                inner[x] = 1.5 * (c[x] - b[x]);
                outer[x] = 0.5 * (d[x] - a[x]);
            }
            self.rows.add(tile.y + y, absolute_difference(&inner, &outer), plane.width);
        }
    }

    /// Adds the steps of other tiles.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.columns.merge(&other.columns);
        self.rows.merge(&other.rows);
    }

    /// Returns the grey levels by which differences across the grid exceed those inside it; 0
    /// without a grid.
    pub(crate) fn excess(&self) -> f64 {
        0.5 * (self.columns.excess() + self.rows.excess())
    }

    /// Returns the octaves by which differences across the grid exceed those inside it; 0 without a
    /// grid.
    pub(crate) fn octaves(&self) -> f64 {
        0.5 * (self.columns.octaves() + self.rows.octaves())
    }
}

/// Returns the middle difference minus the mean of its neighbours.
fn step_of([a, b, c, d]: [f32; 4]) -> f32 {
    (c - b) - 0.5 * ((b - a) + (d - c))
}
