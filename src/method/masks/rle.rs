//! A binary mask as COCO run-length encoding, and set operations on it.
//!
//! As in the COCO data format, pixels are counted down the columns, left to right. Runs of zeros
//! and ones alternate, and the first run counts zeros. `rle_text` has the JSON form.

use crate::method::masks::bounding_box::BoundingBox;
use crate::method::masks::error::MaskError;
use crate::method::masks::limits::{PIXELS_MAX, RUNS_MAX};
use crate::method::masks::run_builder::RunBuilder;

/// A mask in COCO's run-length encoding: column-major runs, the first one of zeros.
///
/// The runs are in canonical form (only the first may be empty), so equal masks compare equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rle {
    width: u32,
    height: u32,
    counts: Vec<u32>,
}

impl Rle {
    /// Creates a mask from alternating runs of zeros and ones, zeros first. Removes empty runs.
    ///
    /// # Errors
    /// Fails if the frame has no pixels or more than [`PIXELS_MAX`], if there are more than
    /// [`RUNS_MAX`] runs, or if they do not sum to `height · width`.
    pub fn from_counts(height: u32, width: u32, counts: Vec<u32>) -> Result<Self, MaskError> {
        let expected = pixels_in_frame(width, height)?;
        if counts.len() > RUNS_MAX {
            return Err(MaskError::TooManyRuns);
        }
        let found = counts.iter().map(|&count| u64::from(count)).sum();
        if found != expected {
            return Err(MaskError::Sum { found, expected });
        }
        if !counts.iter().skip(1).any(|&count| count == 0) && !counts.is_empty() {
            return Ok(Self { width, height, counts });
        }
        let mut runs = RunBuilder::new();
        for (index, count) in counts.into_iter().enumerate() {
            runs.push(index % 2 == 1, count);
        }
        Ok(Self { width, height, counts: runs.counts })
    }

    /// Creates a mask from one value per pixel in row-major order.
    ///
    /// # Errors
    /// Fails if the frame has no pixels or more than [`PIXELS_MAX`], or if the number of values is
    /// not that of the pixels.
    pub fn from_bitmap(width: u32, height: u32, bitmap: &[bool]) -> Result<Self, MaskError> {
        let expected = pixels_in_frame(width, height)?;
        if u64::try_from(bitmap.len()) != Ok(expected) {
            return Err(MaskError::Bitmap { found: bitmap.len(), expected });
        }
        let stride = width as usize;
        Self::from_row_major(width, height, |x, y| bitmap[y as usize * stride + x as usize])
    }

    /// Creates a mask of the pixels for which `is_set(x, y)` returns true.
    ///
    /// # Errors
    /// Fails if the frame has no pixels or more than [`PIXELS_MAX`].
    pub fn from_row_major(
        width: u32,
        height: u32,
        is_set: impl Fn(u32, u32) -> bool,
    ) -> Result<Self, MaskError> {
        pixels_in_frame(width, height)?;
        let mut runs = RunBuilder::new();
        for x in 0..width {
            for y in 0..height {
                runs.push(is_set(x, y), 1);
            }
        }
        Ok(Self { width, height, counts: runs.counts })
    }

    /// Creates a mask from the start and end (exclusive) of each run of ones, counted down the
    /// columns, in ascending order and without overlap.
    ///
    /// # Errors
    /// Fails if the frame has no pixels or more than [`PIXELS_MAX`], or if a run leaves the frame
    /// or is out of order.
    pub fn from_spans(
        width: u32,
        height: u32,
        spans: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<Self, MaskError> {
        let expected = pixels_in_frame(width, height)?;
        let mut runs = RunBuilder::new();
        for (start, end) in spans {
            if start < runs.end || end < start || u64::from(end) > expected {
                return Err(MaskError::Sum { found: u64::from(end), expected });
            }
            runs.push_at(start, end - start);
        }
        runs.push_at(width * height, 0);
        Ok(Self { width, height, counts: runs.counts })
    }

    /// Returns the width of the frame in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the height of the frame in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns alternating run lengths of zeros and ones, column-major. They sum to height × width.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Returns the number of pixels that are set.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&count| u64::from(count)).sum()
    }

    /// Returns the smallest box around the set pixels, or `None` if the mask is empty.
    pub fn bbox(&self) -> Option<BoundingBox> {
        let (mut left, mut right, mut top, mut bottom) = (u32::MAX, 0, u32::MAX, 0);
        for (start, end) in self.spans() {
            let last = end - 1;
            let (first_column, last_column) = (start / self.height, last / self.height);
            left = left.min(first_column);
            right = right.max(last_column);
            if first_column == last_column {
                top = top.min(start % self.height);
                bottom = bottom.max(last % self.height);
            } else {
                // A run that continues in the next column touches both the bottom and the top.
                (top, bottom) = (0, self.height - 1);
            }
        }
        if left > right {
            return None;
        }
        Some(BoundingBox { x: left, y: top, width: right - left + 1, height: bottom - top + 1 })
    }

    /// Returns one byte per pixel in row-major order: 1 if set, else 0.
    pub fn to_row_major(&self) -> Vec<u8> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut pixels = vec![0; width * height];
        for (start, end) in self.spans() {
            for position in start as usize..end as usize {
                pixels[(position % height) * width + position / height] = 1;
            }
        }
        pixels
    }

    /// Returns the pixels that are set in any of the masks. Without masks, the result is empty.
    ///
    /// # Errors
    /// Fails if the frame has no pixels or more than [`PIXELS_MAX`], or if a mask has another
    /// frame.
    pub fn union<'a>(
        width: u32,
        height: u32,
        masks: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Self, MaskError> {
        pixels_in_frame(width, height)?;
        let mut spans = Vec::new();
        for mask in masks {
            if (mask.width, mask.height) != (width, height) {
                let found = (mask.width, mask.height);
                return Err(MaskError::Frame { found, expected: (width, height) });
            }
            spans.extend(mask.spans());
        }
        spans.sort_unstable();
        let mut runs = RunBuilder::new();
        for (start, end) in spans {
            let from = start.max(runs.end);
            if from < end {
                runs.push_at(from, end - from);
            }
        }
        runs.push_at(width * height, 0);
        Ok(Self { width, height, counts: runs.counts })
    }

    /// Returns the pixels that are not set.
    #[must_use]
    pub fn complement(&self) -> Self {
        let counts = if self.counts[0] == 0 {
            self.counts[1..].to_vec()
        } else {
            [&[0], self.counts.as_slice()].concat()
        };
        Self { counts, ..*self }
    }

    /// Scales the mask to a frame of another size by nearest neighbour.
    ///
    /// # Errors
    /// Fails if the new frame has no pixels or more than [`PIXELS_MAX`].
    pub fn resized(&self, width: u32, height: u32) -> Result<Self, MaskError> {
        pixels_in_frame(width, height)?;
        let mut columns = vec![Vec::new(); self.width as usize];
        for (mut start, end) in self.spans() {
            // A run may span several columns.
            while start < end {
                let column = start / self.height;
                let until = end.min((column + 1) * self.height);
                let top = column * self.height;
                columns[column as usize].push((start - top, until - top));
                start = until;
            }
        }
        // The first new pixel whose centre is at or below the upper edge of old pixel `y`.
        let (old, new) = (u64::from(self.height), u64::from(height));
        let edge = |y: u32| {
            let first = (2 * new * u64::from(y)).saturating_sub(old).div_ceil(2 * old);
            u32::try_from(first).unwrap_or(height)
        };
        let mut runs = RunBuilder::new();
        for x in 0..width {
            let centre = (2 * u64::from(x) + 1) * u64::from(self.width) / (2 * u64::from(width));
            let column = usize::try_from(centre).ok().and_then(|centre| columns.get(centre));
            for &(start, end) in column.into_iter().flatten() {
                let (start, end) = (edge(start), edge(end));
                if start < end {
                    runs.push_at(x * height + start, end - start);
                }
            }
        }
        runs.push_at(width * height, 0);
        Ok(Self { width, height, counts: runs.counts })
    }

    /// Iterates over start and end (exclusive) of each run of ones, counted down the columns.
    fn spans(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut position = 0;
        self.counts.chunks(2).filter_map(move |pair| {
            let &[zeros, ones] = pair else { return None };
            let start = position + zeros;
            position = start + ones;
            Some((start, position))
        })
    }
}

/// Returns the number of pixels of a valid frame.
fn pixels_in_frame(width: u32, height: u32) -> Result<u64, MaskError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(MaskError::EmptyFrame { width, height });
    }
    if pixels > PIXELS_MAX {
        return Err(MaskError::FrameTooLarge { width, height });
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_resized_mask_has_the_nearest_pixels(
            (width, height, bitmap) in bitmaps(),
            (to_width, to_height) in (1_u32..40, 1_u32..40),
        ) {
            let mask = Rle::from_bitmap(width, height, &bitmap).unwrap();
            let nearest = |x: u32, from: u32, to: u32| (2 * x + 1) * from / (2 * to);
            let expected = Rle::from_row_major(to_width, to_height, |x, y| {
                let (x, y) = (nearest(x, width, to_width), nearest(y, height, to_height));
                bitmap[(y * width + x) as usize]
            });
            prop_assert_eq!(mask.resized(to_width, to_height), expected);
        }
    }

    /// Generates width, height and one value per pixel.
    fn bitmaps() -> impl Strategy<Value = (u32, u32, Vec<bool>)> {
        (1_u32..20, 1_u32..20).prop_flat_map(|(width, height)| {
            let pixels = (width * height) as usize;
            (Just(width), Just(height), prop::collection::vec(any::<bool>(), pixels))
        })
    }

    #[test]
    fn runs_follow_the_columns_and_start_with_zeros() {
        // .#
        // ##
        let rle = Rle::from_bitmap(2, 2, &[false, true, true, true]).unwrap();
        assert_eq!(rle.counts(), [1, 3]);
        assert_eq!(rle.to_row_major(), [0, 1, 1, 1]);
    }

    #[test]
    fn empty_runs_are_removed_so_that_equal_masks_compare_equal() {
        let canonical = Rle::from_counts(2, 3, vec![2, 4]).unwrap();
        for counts in [vec![2, 4, 0], vec![1, 0, 1, 4], vec![2, 1, 0, 3], vec![2, 4, 0, 0, 0]] {
            assert_eq!(Rle::from_counts(2, 3, counts).unwrap(), canonical);
        }
        let none = Rle::from_counts(2, 3, vec![6]).unwrap();
        assert_eq!(Rle::from_counts(2, 3, vec![6, 0]).unwrap(), none);
        assert_eq!(none.complement().counts(), [0, 6]);
        assert_eq!(none.complement().complement(), none);
    }

    #[test]
    fn runs_that_do_not_fill_the_frame_are_refused() {
        for counts in [vec![], vec![5], vec![3, 4], vec![u32::MAX, u32::MAX, u32::MAX]] {
            assert!(matches!(Rle::from_counts(2, 3, counts), Err(MaskError::Sum { .. })));
        }
        assert!(matches!(Rle::from_counts(0, 3, vec![0]), Err(MaskError::EmptyFrame { .. })));
        assert!(matches!(
            Rle::from_counts(u32::MAX, u32::MAX, vec![1]),
            Err(MaskError::FrameTooLarge { .. })
        ));
        assert!(matches!(Rle::from_bitmap(2, 2, &[true]), Err(MaskError::Bitmap { .. })));
    }

    #[test]
    fn spans_become_runs_and_must_be_in_order_and_in_the_frame() {
        let mask = Rle::from_spans(2, 3, [(1, 2), (4, 6)]).unwrap();
        assert_eq!(mask.counts(), [1, 1, 2, 2]);
        let empty = Rle::from_spans(2, 3, []).unwrap();
        assert_eq!((empty.area(), empty.counts()), (0, &[6][..]));
        let adjacent = Rle::from_spans(2, 3, [(0, 2), (2, 2), (2, 3)]).unwrap();
        assert_eq!(adjacent.counts(), [0, 3, 3]);
        for spans in [[(2, 1), (3, 4)], [(0, 3), (2, 4)], [(0, 1), (5, 7)]] {
            assert!(Rle::from_spans(2, 3, spans).is_err(), "{spans:?}");
        }
    }

    #[test]
    fn the_largest_frame_can_be_filled_and_inverted() {
        let side = 1 << 15;
        let all = Rle::from_counts(side, side, vec![0, 1 << 30]).unwrap();
        assert_eq!(all.area(), PIXELS_MAX);
        assert_eq!(all.bbox(), Some([0, 0, side, side].into()));
        assert_eq!(all.complement().bbox(), None);
        assert_eq!(Rle::union(side, side, [&all, &all]).unwrap(), all);
    }

    #[test]
    fn a_union_of_no_masks_is_empty_and_of_different_frames_is_refused() {
        assert_eq!(Rle::union(3, 2, []).unwrap().counts(), [6]);
        let other = Rle::from_counts(3, 2, vec![6]).unwrap();
        assert!(matches!(Rle::union(3, 2, [&other]), Err(MaskError::Frame { .. })));
    }

    proptest! {
        #[test]
        fn a_bitmap_survives_encoding((width, height, bitmap) in bitmaps()) {
            let rle = Rle::from_bitmap(width, height, &bitmap).unwrap();
            let back: Vec<bool> = rle.to_row_major().iter().map(|&value| value == 1).collect();
            prop_assert_eq!(&back, &bitmap);
            let again = Rle::from_counts(height, width, rle.counts().to_vec()).unwrap();
            prop_assert_eq!(again, rle);
        }

        #[test]
        fn area_and_box_match_the_pixels((width, height, bitmap) in bitmaps()) {
            let rle = Rle::from_bitmap(width, height, &bitmap).unwrap();
            let set: Vec<(u32, u32)> = (0..height)
                .flat_map(|y| (0..width).map(move |x| (x, y)))
                .filter(|&(x, y)| bitmap[(y * width + x) as usize])
                .collect();
            prop_assert_eq!(rle.area(), set.len() as u64);
            let expected = set.iter().map(|p| p.0).min().map(|x| {
                let y = set.iter().map(|p| p.1).min().unwrap();
                let right = set.iter().map(|p| p.0).max().unwrap();
                let bottom = set.iter().map(|p| p.1).max().unwrap();
                BoundingBox { x, y, width: right - x + 1, height: bottom - y + 1 }
            });
            prop_assert_eq!(rle.bbox(), expected);
        }

        #[test]
        fn a_mask_and_its_complement_partition_the_frame((width, height, bitmap) in bitmaps()) {
            let rle = Rle::from_bitmap(width, height, &bitmap).unwrap();
            let complement = rle.complement();
            prop_assert_eq!(rle.area() + complement.area(), u64::from(width * height));
            prop_assert_eq!(complement.complement(), rle.clone());
            let all = Rle::union(width, height, [&rle, &complement]).unwrap();
            prop_assert_eq!(all.area(), u64::from(width * height));
        }

        #[test]
        fn a_pixel_is_in_the_union_if_it_is_in_any_mask(
            (width, height, maps) in (1_u32..12, 1_u32..12).prop_flat_map(|(width, height)| {
                let pixels = (width * height) as usize;
                let bitmap = prop::collection::vec(prop::bool::weighted(0.2), pixels);
                (Just(width), Just(height), prop::collection::vec(bitmap, 0..5))
            })
        ) {
            let masks: Vec<Rle> =
                maps.iter().map(|map| Rle::from_bitmap(width, height, map).unwrap()).collect();
            let any = |x: u32, y: u32| maps.iter().any(|map| map[(y * width + x) as usize]);
            let expected = Rle::from_row_major(width, height, any).unwrap();
            prop_assert_eq!(Rle::union(width, height, &masks).unwrap(), expected);
        }
    }
}
