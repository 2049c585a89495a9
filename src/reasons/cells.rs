//! The cells of a picture: squares at its own resolution with all that is measured locally. A
//! region's measures are those of the cells inside its mask.

use image::RgbImage;

use crate::method::Rle;
use crate::models::classic::features::{Blocking, Noise, Plane, Tile, spread};

/// Side of a cell in pixels: whole JPEG blocks, and four levels of a pyramid.
pub(crate) const CELL_PX: usize = 32;
/// Number of pyramid levels in a cell.
pub(crate) const LEVELS: usize = 4;
/// Maximum number of cells of one picture. Larger pictures are measured on cells spread evenly over
/// them.
const CELLS_MAX: usize = 2048;
/// Level from which a channel has reached its top: compression moves it by a few.
const CLIPPED: u8 = 252;
/// Luma from which a pixel is white, and below which it is dark.
const WHITE: f32 = 235.0;
const DARK: f32 = 90.0;
/// Share of a cell that must be inside a mask.
const INSIDE: f64 = 0.98;

/// Sums of the products of the gradients, per pixel: `[x·x, x·y, y·y]`.
pub(crate) type Tensor = [f32; 3];

/// The measures of one square.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) tile: Tile,
    /// Structure tensors of the quarters, each at every pyramid level.
    pub(crate) quarters: [[Tensor; LEVELS]; 4],
    pub(crate) noise: Noise,
    pub(crate) blocking: Blocking,
    /// Means of 4 × 4 pixels, on which noise has little effect.
    pub(crate) lumas: Vec<f32>,
    /// Number of pixels with a channel at its top.
    pub(crate) clipped: u32,
    /// Number of pixels that equal the one on their left.
    pub(crate) equal: u32,
    /// Number of white pixels.
    pub(crate) white: u32,
    /// Number of dark pixels.
    pub(crate) dark: u32,
}

/// Measures the cells of a picture. The rows and columns at the right and the bottom that do not
/// fill a cell are left out.
pub(crate) fn cells(image: &RgbImage) -> Vec<Cell> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (cell_width, cell_height) = (width.min(CELL_PX), height.min(CELL_PX));
    let (most_x, most_y) = (width / cell_width, height / cell_height);
    let thinning = ((most_x * most_y) as f64 / CELLS_MAX as f64).sqrt().max(1.0);
    let thinned = |most: usize| ((most as f64 / thinning) as usize).clamp(1, most);
    // Pictures of extreme proportions have a single row or column of cells.
    let columns = thinned(most_x).min(CELLS_MAX);
    let rows = thinned(most_y).min(CELLS_MAX);
    let mut cells = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        for column in 0..columns {
            let x = spread(column, columns, most_x - 1) * cell_width;
            let y = spread(row, rows, most_y - 1) * cell_height;
            cells.push(Cell::of(image, Tile { x, y, width: cell_width, height: cell_height }));
        }
    }
    cells
}

impl Cell {
    fn of(image: &RgbImage, tile: Tile) -> Self {
        let plane = Plane::luma(image, &tile);
        let half = plane.halved();
        let quarter = half.halved();
        let eighth = quarter.halved();
        let (mut noise, mut blocking) = (Noise::default(), Blocking::default());
        noise.add(&plane, &half, &quarter);
        blocking.add(&plane, &tile);
        let lumas = (0..quarter.height).flat_map(|y| quarter.row(y)).copied().collect();
        let levels = [&plane, &half, &quarter, &eighth];
        let quarters = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|(column, row)| levels.map(|level| tensor(level, column, row)));
        let clipped = tile.rows(image).map(clipped).sum();
        let equal = tile.rows(image).map(equal).sum();
        let (mut white, mut dark) = (0, 0);
        for y in 0..plane.height {
            for &luma in plane.row(y) {
                white += u32::from(luma >= WHITE);
                dark += u32::from(luma < DARK);
            }
        }
        Self { tile, quarters, noise, blocking, lumas, clipped, equal, white, dark }
    }

    /// Returns the centre as a share of the picture's width and height.
    pub(crate) fn centre(&self, image: &RgbImage) -> (f64, f64) {
        let share = |start: usize, side: usize, whole: u32| {
            (start as f64 + 0.5 * side as f64) / f64::from(whole)
        };
        let (tile, (width, height)) = (&self.tile, image.dimensions());
        (share(tile.x, tile.width, width), share(tile.y, tile.height, height))
    }
}

/// Counts the pixels of a row with a channel at its top.
fn clipped(row: &[u8]) -> u32 {
    row.as_chunks::<3>().0.iter().map(|&pixel| u32::from(is_clipped(pixel))).sum()
}

/// Counts the pixels of a row that equal the one on their left.
fn equal(row: &[u8]) -> u32 {
    let pairs = row.as_chunks::<3>().0.array_windows();
    pairs.map(|[left, pixel]| u32::from(left == pixel)).sum()
}

fn is_clipped([red, green, blue]: [u8; 3]) -> bool {
    red.max(green).max(blue) >= CLIPPED
}

/// Returns the mean products of the gradients in one quarter of a plane. A gradient is the mean
/// difference of 2 × 2 pixels, so that all directions respond alike.
fn tensor(plane: &Plane, column: usize, row: usize) -> Tensor {
    let (width, height) = (plane.width / 2, plane.height / 2);
    if width < 2 || height < 2 {
        return [0.0; 3];
    }
    let (left, top) = (column * width, row * height);
    let mut sums = [0.0_f32; 3];
    for y in top..top + height - 1 {
        let [upper, lower] = [y, y + 1].map(|y| plane.row(y)[left..left + width].array_windows());
        for ([upper_left, upper_right], [lower_left, lower_right]) in upper.zip(lower) {
            let (falling, rising) = (lower_right - upper_left, upper_right - lower_left);
            let (across, down) = (0.5 * (falling + rising), 0.5 * (falling - rising));
            sums[0] += across * across;
            sums[1] += across * down;
            sums[2] += down * down;
        }
    }
    let count = ((width - 1) * (height - 1)) as f32;
    sums.map(|sum| sum / count)
}

/// Returns the positions of the cells inside a mask.
pub(crate) fn inside(cells: &[Cell], mask: &Rle) -> Vec<usize> {
    let height = mask.height() as usize;
    let mut covered = vec![0_usize; cells.len()];
    let Some(first) = cells.first() else { return Vec::new() };
    let (cell_width, cell_height) = (first.tile.width, first.tile.height);
    // Cells are stored row by row on a grid.
    let columns = cells.iter().take_while(|cell| cell.tile.y == first.tile.y).count();
    let at_column = |x: usize| {
        let position = cells[..columns].partition_point(|cell| cell.tile.x + cell_width <= x);
        (position < columns && cells[position].tile.x <= x).then_some(position)
    };
    let tops: Vec<usize> = cells.iter().step_by(columns).map(|cell| cell.tile.y).collect();
    let mut start = 0;
    // Runs go down the columns of the picture, zeros first.
    for (index, &run) in mask.counts().iter().enumerate() {
        let end = start + run as usize;
        if index % 2 == 1 {
            let mut from = start;
            while from < end {
                let x = from / height;
                let to = end.min((x + 1) * height);
                if let Some(column) = at_column(x) {
                    let (upper, lower) = (from - x * height, to - x * height);
                    let row = tops.partition_point(|&top| top + cell_height <= upper);
                    for (row, &top) in tops.iter().enumerate().skip(row) {
                        if top >= lower {
                            break;
                        }
                        let shared = lower.min(top + cell_height) - upper.max(top);
                        covered[row * columns + column] += shared;
                    }
                }
                from = to;
            }
        }
        start = end;
    }
    let needed = INSIDE * (cell_width * cell_height) as f64;
    (0..cells.len()).filter(|&cell| covered[cell] as f64 >= needed).collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn image(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 + y * 3) as u8; 3]))
    }

    #[test]
    fn the_cells_inside_a_mask_are_those_without_a_pixel_outside() {
        let shapes: [fn(u32, u32) -> bool; 5] = [
            |x, y| (30..150).contains(&x) && (31..131).contains(&y),
            |x, _| x >= 64,
            |_, y| y < 64,
            |x, y| x + y > 150,
            |_, _| true,
        ];
        let image = image(200, 170);
        let cells = cells(&image);
        for (shape, is_set) in shapes.into_iter().enumerate() {
            let mask = Rle::from_row_major(200, 170, is_set).unwrap();
            let whole = |cell: &Cell| {
                let tile = &cell.tile;
                let set = (tile.y..tile.y + tile.height)
                    .flat_map(|y| (tile.x..tile.x + tile.width).map(move |x| (x as u32, y as u32)));
                let outside = set.filter(|&(x, y)| !is_set(x, y)).count();
                outside as f64 <= (1.0 - INSIDE) * (tile.width * tile.height) as f64
            };
            let expected: Vec<usize> =
                (0..cells.len()).filter(|&cell| whole(&cells[cell])).collect();
            assert_eq!(inside(&cells, &mask), expected, "shape {shape}");
            assert!(!expected.is_empty(), "shape {shape}");
        }
    }

    #[test]
    fn the_number_of_cells_is_bounded_and_they_reach_every_edge() {
        for (width, height) in [(16, 16), (40, 33), (3000, 2000), (20_000, 40), (40, 20_000)] {
            let cells = cells(&image(width, height));
            assert!((1..=CELLS_MAX).contains(&cells.len()), "{width}×{height}: {}", cells.len());
            let right = cells.iter().map(|cell| cell.tile.x + cell.tile.width).max().unwrap();
            let bottom = cells.iter().map(|cell| cell.tile.y + cell.tile.height).max().unwrap();
            assert!(right + CELL_PX > width as usize && bottom + CELL_PX > height as usize);
            assert!(right <= width as usize && bottom <= height as usize);
        }
    }
}
