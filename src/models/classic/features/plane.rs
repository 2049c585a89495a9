//! A grey picture in floating point, its halves, and the tiles that are measured.

use image::RgbImage;

/// Maximum number of pixels of one picture that are measured. Larger pictures are measured on tiles
/// at full resolution, because scaling down hides blur, noise and blocking.
pub const PIXELS_MAX: usize = 1 << 18;
/// Side of a tile in pixels, a multiple of JPEG's 8.
const TILE_PX: usize = 128;

/// Luma (ITU-R BT.601) in 0..=255, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// Computes the luma of one tile.
    pub(crate) fn luma(image: &RgbImage, tile: &Tile) -> Self {
        let mut values = Vec::with_capacity(tile.width * tile.height);
        for row in tile.rows(image) {
            let (pixels, _) = row.as_chunks::<3>();
            values.extend(pixels.iter().map(|&pixel| luma(pixel.map(f32::from))));
        }
        Self { width: tile.width, height: tile.height, values }
    }

    /// Returns the means of 2 × 2 pixels; an odd row or column at the end is dropped.
    pub(crate) fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let (upper, _) = self.row(2 * y).as_chunks::<2>();
            let (lower, _) = self.row(2 * y + 1).as_chunks::<2>();
            let pairs = upper.iter().zip(lower);
            values.extend(pairs.map(|(a, b)| 0.25 * (a[0] + a[1] + b[0] + b[1])));
        }
        Self { width, height, values }
    }

    pub(crate) fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..][..self.width]
    }
}

/// Returns the luma of one pixel.
pub(crate) fn luma([red, green, blue]: [f32; 3]) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// Returns the sum of the squared differences.
pub(crate) fn squared_difference(a: &[f32], b: &[f32]) -> f64 {
    lanes(a, b, |a, b| (a - b) * (a - b))
}

/// Returns the sum of the absolute differences.
pub(crate) fn absolute_difference(a: &[f32], b: &[f32]) -> f64 {
    lanes(a, b, |a, b| (a - b).abs())
}

/// Sums in eight lanes, so that the compiler vectorises it.
fn lanes(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut sums = [0.0_f32; 8];
    let ((heads_a, tail_a), (heads_b, tail_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in heads_a.iter().zip(heads_b) {
        for lane in 0..8 {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    for (sum, (&a, &b)) in sums.iter_mut().zip(tail_a.iter().zip(tail_b)) {
        *sum += term(a, b);
    }
    sums.iter().copied().map(f64::from).sum()
}

/// A rectangle of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Tile {
    /// Returns the tile's rows of interleaved RGB bytes.
    pub(crate) fn rows<'a>(&self, image: &'a RgbImage) -> impl Iterator<Item = &'a [u8]> {
        let stride = 3 * image.width() as usize;
        let (left, right) = (3 * self.x, 3 * (self.x + self.width));
        let rows = image.as_raw().chunks_exact(stride).skip(self.y).take(self.height);
        rows.map(move |row| &row[left..right])
    }
}

/// Returns the whole picture if it is small enough, else tiles spread evenly over it, edges
/// included.
pub(crate) fn tiles(width: usize, height: usize) -> Vec<Tile> {
    if width * height <= PIXELS_MAX {
        return vec![Tile { x: 0, y: 0, width, height }];
    }
    let tile = Tile { x: 0, y: 0, width: width.min(TILE_PX), height: height.min(TILE_PX) };
    let count = PIXELS_MAX / (tile.width * tile.height);
    let (most_x, most_y) = (width / tile.width, height / tile.height);
    let ideal = (count as f64 * most_x as f64 / most_y as f64).sqrt().round() as usize;
    let columns = ideal.clamp(1, most_x.min(count));
    let rows = (count / columns).clamp(1, most_y);
    let mut tiles = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        for column in 0..columns {
            let x = spread(column, columns, width - tile.width);
            let y = spread(row, rows, height - tile.height);
            tiles.push(Tile { x, y, ..tile });
        }
    }
    tiles
}

/// Returns the position of the `index`th of `count` things spread evenly over `0..=last`.
pub(crate) fn spread(index: usize, count: usize, last: usize) -> usize {
    if count == 1 { last / 2 } else { index * last / (count - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stay_inside_and_within_the_budget() {
        let sizes = [(1, 1), (512, 512), (513, 512), (4000, 3000), (100_000, 7), (3, 1_000_000)];
        for (width, height) in sizes {
            let tiles = tiles(width, height);
            let measured: usize = tiles.iter().map(|tile| tile.width * tile.height).sum();
            assert!((1..=PIXELS_MAX).contains(&measured), "{width}×{height}: {measured}");
            for tile in tiles {
                assert!(tile.x + tile.width <= width && tile.y + tile.height <= height);
            }
        }
    }

    #[test]
    fn large_pictures_are_measured_from_edge_to_edge() {
        let tiles = tiles(4000, 3000);
        let touches = |x, y| tiles.iter().any(|tile| tile.x == x && tile.y == y);
        assert!(tiles.len() > 1 && touches(0, 0) && touches(4000 - TILE_PX, 3000 - TILE_PX));
    }

    #[test]
    fn sums_over_lanes_include_every_element() {
        let a: Vec<f32> = (0..21_u8).map(f32::from).collect();
        let b = vec![0.0; 21];
        assert!((absolute_difference(&a, &b) - 210.0).abs() < 1e-3);
        assert!((squared_difference(&a, &b) - 2870.0).abs() < 1e-3);
    }
}
