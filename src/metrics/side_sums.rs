//! Sums over the negative and the positive values of a distribution, and over products of
//! neighbours.

use crate::metrics::lanes::{LANES, Lanes, each, load, padded, vectorised};

/// Partial sums of a distribution. Zeros belong to no side.
#[derive(Debug, Clone, Default)]
struct PartialSums {
    negatives: Lanes,
    negative_squares: Lanes,
    positives: Lanes,
    positive_squares: Lanes,
    absolutes: Lanes,
}

/// Sums over a distribution of `count` values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SideSums {
    pub(crate) count: f64,
    pub(crate) negatives: f64,
    pub(crate) negative_squares: f64,
    pub(crate) positives: f64,
    pub(crate) positive_squares: f64,
    pub(crate) absolutes: f64,
}

impl PartialSums {
    #[inline(always)]
    fn add(&mut self, values: Lanes) {
        let negative = each(|lane| if values[lane] < 0.0 { values[lane] } else { 0.0 });
        let positive = each(|lane| if values[lane] > 0.0 { values[lane] } else { 0.0 });
        let one_if = |condition| if condition { 1.0 } else { 0.0 };
        self.negatives = each(|lane| self.negatives[lane] + one_if(values[lane] < 0.0));
        self.positives = each(|lane| self.positives[lane] + one_if(values[lane] > 0.0));
        self.negative_squares =
            each(|lane| self.negative_squares[lane] + negative[lane] * negative[lane]);
        self.positive_squares =
            each(|lane| self.positive_squares[lane] + positive[lane] * positive[lane]);
        self.absolutes = each(|lane| self.absolutes[lane] + (positive[lane] - negative[lane]));
    }

    /// Adds whole lanes of values.
    fn add_all(&mut self, values: &[f64]) {
        *self = vectorised(|| {
            // In registers: the sums are stored once a row.
            let mut sums = self.clone();
            for at in (0..values.len()).step_by(LANES) {
                sums.add(load(values, at));
            }
            sums
        });
    }

    /// Adds the products of whole lanes of values with the others at the same positions.
    fn add_products(&mut self, values: &[f64], others: &[f64]) {
        *self = vectorised(|| {
            let mut sums = self.clone();
            for at in (0..values.len()).step_by(LANES) {
                let (value, other) = (load(values, at), load(others, at));
                sums.add(each(|lane| value[lane] * other[lane]));
            }
            sums
        });
    }

    fn total(&self, count: usize) -> SideSums {
        let sum = |lanes: &Lanes| lanes.iter().sum();
        SideSums {
            count: count as f64,
            negatives: sum(&self.negatives),
            negative_squares: sum(&self.negative_squares),
            positives: sum(&self.positives),
            positive_squares: sum(&self.positive_squares),
            absolutes: sum(&self.absolutes),
        }
    }
}

/// The sums of a block and of the products of its neighbours: to the right, below, and along both
/// diagonals. Beyond an edge the block continues at the opposite one.
#[derive(Debug, Clone)]
pub(crate) struct NeighbourSums {
    width: usize,
    rows: usize,
    values: PartialSums,
    products: [PartialSums; 4],
    first: BlockRow,
    previous: BlockRow,
    current: BlockRow,
}

/// A row with the last value in front of it and the first one after it.
#[derive(Debug, Clone)]
struct BlockRow {
    extended: Vec<f64>,
    /// The row itself, with zeros up to whole lanes.
    padded: Vec<f64>,
}

impl NeighbourSums {
    /// Creates empty sums of a block with rows of `width` values.
    pub(crate) fn new(width: usize) -> Self {
        let (padded, extended) = (vec![0.0; padded(width)], vec![0.0; padded(width) + 2]);
        let row = BlockRow { extended, padded };
        Self {
            width,
            rows: 0,
            values: PartialSums::default(),
            products: Default::default(),
            first: row.clone(),
            previous: row.clone(),
            current: row,
        }
    }

    /// Adds the next row.
    pub(crate) fn add_row(&mut self, row: &[f64]) {
        let (width, BlockRow { extended, padded }) = (self.width, &mut self.current);
        extended[0] = row[width - 1];
        extended[1..=width].copy_from_slice(row);
        extended[width + 1] = row[0];
        padded[..width].copy_from_slice(row);
        self.values.add_all(padded);
        if self.rows == 0 {
            self.first.clone_from(&self.current);
        } else {
            self.add_products();
        }
        std::mem::swap(&mut self.previous, &mut self.current);
        self.rows += 1;
    }

    /// Returns the sums of the values, and of the products by their direction. Afterwards the sums
    /// are empty again.
    pub(crate) fn finish(&mut self) -> (SideSums, [SideSums; 4]) {
        self.current.clone_from(&self.first);
        self.add_products();
        let count = self.width * self.rows;
        let values = std::mem::take(&mut self.values).total(count);
        let products = std::mem::take(&mut self.products).map(|sums| sums.total(count));
        self.rows = 0;
        (values, products)
    }

    fn add_products(&mut self) {
        let (here, above) = (&self.current, &self.previous);
        let [right, below, down_right, down_left] = &mut self.products;
        right.add_products(&here.padded, &here.extended);
        below.add_products(&here.padded, &above.extended[1..]);
        down_right.add_products(&here.padded, &above.extended);
        down_left.add_products(&here.padded, &above.extended[2..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_wrap_around_the_block() {
        let (width, height) = (11_usize, 3_usize);
        let value = |x: usize, y: usize| {
            let number = (1 + y % height * width + x % width) as f64;
            (number * 2.7).sin()
        };
        let mut sums = NeighbourSums::new(width);
        for round in 0..2 {
            for y in 0..height {
                let row: Vec<f64> = (0..width).map(|x| value(x, y)).collect();
                sums.add_row(&row);
            }
            let (values, products) = sums.finish();
            let is_same = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
            assert!(is_same(values.count, 33.0), "round {round}");
            let mut found = vec![values];
            found.extend(products);
            let shifts = [None, Some((1, 0)), Some((0, 1)), Some((1, 1)), Some((width - 1, 1))];
            for (sums, shift) in found.iter().zip(shifts) {
                let pixels = (0..width * height).map(|index| (index % width, index / width));
                let all: Vec<f64> = pixels
                    .map(|(x, y)| {
                        let other = shift.map_or(1.0, |(dx, dy)| value(x + dx, y + dy));
                        value(x, y) * other
                    })
                    .collect();
                let negatives = all.iter().filter(|&&product| product < 0.0);
                assert!(is_same(sums.negatives, negatives.clone().count() as f64));
                assert!(is_same(sums.positives, 33.0 - sums.negatives));
                let squares: f64 = negatives.map(|product| product * product).sum();
                assert!(is_same(sums.negative_squares, squares));
                let absolutes: f64 = all.iter().map(|product| product.abs()).sum();
                assert!(is_same(sums.absolutes, absolutes));
            }
        }
    }
}
