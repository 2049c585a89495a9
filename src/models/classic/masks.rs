//! Label maps of a small picture as run-length masks of the full one.

use crate::method::{MaskError, Rle};
use crate::models::classic::felzenszwalb::LabelMap;

/// Returns one mask for each label in a frame of `width` × `height` pixels, the largest first.
///
/// A pixel of the frame gets the label of the map's pixel under its centre. The runs are written
/// straight from the map, column by column: time grows with the number of runs, not of pixels.
///
/// # Errors
/// Fails if the frame has no pixel, or more than a mask can hold.
pub fn masks(map: &LabelMap, width: u32, height: u32) -> Result<Vec<Rle>, MaskError> {
    let (columns, rows) = (sources(width, map.width), starts(height, map.height));
    let mut runs = vec![LabelRuns::default(); map.count];
    for (x, &column) in columns.iter().enumerate() {
        let top = x as u64 * u64::from(height);
        let mut y = 0;
        while y < map.height {
            let label = map.labels[y * map.width + column];
            let first = y;
            while y < map.height && map.labels[y * map.width + column] == label {
                y += 1;
            }
            let (start, end) = (rows[first], rows[y]);
            if start < end {
                runs[label as usize].push(top + u64::from(start), top + u64::from(end));
            }
        }
    }
    let mut runs: Vec<LabelRuns> = runs.into_iter().filter(|runs| runs.area > 0).collect();
    runs.sort_by_key(|runs| std::cmp::Reverse(runs.area));
    runs.into_iter().map(|runs| runs.finish(width, height)).collect()
}

/// Returns, for each of `length` positions of the frame, the map's position under its centre.
fn sources(length: u32, small: usize) -> Vec<usize> {
    let length = length as usize;
    (0..length).map(|position| (2 * position + 1) * small / (2 * length)).collect()
}

/// Returns, for each of `small` positions of the map, its first position in the frame; then the
/// end.
fn starts(length: u32, small: usize) -> Vec<u32> {
    let sources = sources(length, small);
    (0..=small)
        .map(|position| sources.partition_point(|&source| source < position) as u32)
        .collect()
}

/// Column-major runs of one label.
#[derive(Debug, Clone, Default)]
struct LabelRuns {
    counts: Vec<u32>,
    /// The end of the last run of ones.
    end: u64,
    area: u64,
}

impl LabelRuns {
    fn push(&mut self, start: u64, end: u64) {
        let length = (end - start) as u32;
        match self.counts.last_mut() {
            Some(last) if start == self.end => *last += length,
            _ => self.counts.extend([(start - self.end) as u32, length]),
        }
        self.end = end;
        self.area += u64::from(length);
    }

    fn finish(mut self, width: u32, height: u32) -> Result<Rle, MaskError> {
        let pixels = u64::from(width) * u64::from(height);
        if self.end < pixels {
            self.counts.push((pixels - self.end) as u32);
        }
        Rle::from_counts(height, width, self.counts)
    }
}
