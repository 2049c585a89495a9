//! Positions of patches and of tokens.
//!
//! A patch has a row and a column; a token has a time, a row and a column, all equal in text. The
//! table of learned positions is interpolated to an image's grid, with its corners kept.

use crate::models::qwen3_5_vl::processor::Grid;

/// A token's time, row and column.
pub type Position = [u32; 3];

/// The four rows of the table of positions around each patch, and their weights, by tap: upper
/// left, upper right, lower left, lower right.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// Rows of the table.
    pub indices: [Vec<u32>; 4],
    /// Weights, which add up to 1.
    pub weights: [Vec<f32>; 4],
}

impl Taps {
    /// Computes the taps of a grid's patches, in their order, in a table of `side` × `side` rows.
    ///
    /// # Panics
    /// Panics if the table has 2³² rows or more.
    pub fn new(grid: Grid, side: usize) -> Self {
        let (rows, columns) = (steps(side, grid.rows), steps(side, grid.columns));
        let mut taps =
            Self { indices: std::array::from_fn(|_| Vec::new()), weights: Default::default() };
        for (row, column) in grid.patches() {
            let ((top, down), (left, right)) = (split(rows[row]), split(columns[column]));
            let last = side - 1;
            let (bottom, end) = ((top + 1).min(last), (left + 1).min(last));
            let places = [(top, left), (top, end), (bottom, left), (bottom, end)];
            let shares = [
                (1.0 - down) * (1.0 - right),
                (1.0 - down) * right,
                down * (1.0 - right),
                down * right,
            ];
            for (tap, ((y, x), share)) in places.into_iter().zip(shares).enumerate() {
                let index = u32::try_from(y * side + x).expect("the table has few rows");
                taps.indices[tap].push(index);
                taps.weights[tap].push(share);
            }
        }
        taps
    }
}

/// Spreads `count` positions over 0..=side − 1, both ends included, in the order of operations of
/// the reference's `linspace`: from the start in the first half, from the end in the second.
fn steps(side: usize, count: usize) -> Vec<f32> {
    let end = (side - 1) as f32;
    let step = if count > 1 { end / (count - 1) as f32 } else { 0.0 };
    let at = |index: usize| {
        if index < count / 2 {
            step * index as f32
        } else {
            end - step * (count - 1 - index) as f32
        }
    };
    if count == 1 { vec![0.0] } else { (0..count).map(at).collect() }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position lies within the table"
)]
fn split(position: f32) -> (usize, f32) {
    (position as usize, position.fract())
}

/// Computes the angles of a grid's patches for heads with these frequencies: those of the row, then
/// those of the column.
pub fn patch_angles(grid: Grid, frequencies: &[f32]) -> Vec<f32> {
    let turns = |position: usize| frequencies.iter().map(move |&f| position as f32 * f);
    grid.patches().flat_map(|(row, column)| turns(row).chain(turns(column))).collect()
}

/// Returns the positions of the tokens of an image that begins at `start`, and that of the token
/// behind it.
///
/// # Panics
/// Panics if the grid has 2³² rows or columns or more.
pub fn image_positions(grid: Grid, start: u32) -> (Vec<Position>, u32) {
    let (rows, columns) = grid.merged();
    let number = |index: usize| u32::try_from(index).expect("an image has few tokens");
    let token = |row, column| [start, start + number(row), start + number(column)];
    let all = (0..rows).flat_map(|row| (0..columns).map(move |column| token(row, column)));
    (all.collect(), start + number(rows.max(columns)))
}

/// Returns the positions of `count` tokens of text that begin at `start`, and that of the token
/// behind them.
///
/// # Panics
/// Panics if there are 2³² tokens or more.
pub fn text_positions(count: usize, start: u32) -> (Vec<Position>, u32) {
    let end = start + u32::try_from(count).expect("a prompt has few tokens");
    ((start..end).map(|position| [position; 3]).collect(), end)
}

/// Computes the angles of tokens. The pairs of a head turn with time, row, column, time, row, … in
/// turn; where a section has no pair left, the pair turns with the time.
pub fn token_angles(positions: &[Position], frequencies: &[f32], sections: [usize; 3]) -> Vec<f32> {
    let axis_of = |pair: usize| {
        let axis = pair % 3;
        if pair < 3 * sections[axis] { axis } else { 0 }
    };
    let axes: Vec<usize> = (0..frequencies.len()).map(axis_of).collect();
    let pairs = positions.iter().flat_map(|position| {
        axes.iter().zip(frequencies).map(|(&axis, &f)| position[axis] as f32 * f)
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_corners() {
        let grid = Grid { rows: 4, columns: 6 };
        let taps = Taps::new(grid, 3);
        // The first patch is the upper left corner, the last one the lower right.
        assert_eq!((taps.indices[0][0], taps.weights[0][0]), (0, 1.0));
        assert_eq!((taps.indices[0][23], taps.weights[0][23]), (8, 1.0));
        for patch in 0..24 {
            let sum: f32 = taps.weights.iter().map(|weights| weights[patch]).sum();
            assert!((sum - 1.0).abs() < 1e-6);
        }
        assert_eq!(steps(48, 1), [0.0]);
    }

    #[test]
    fn text_continues_behind_the_longer_side_of_an_image() {
        let (positions, next) = image_positions(Grid { rows: 4, columns: 6 }, 7);
        assert_eq!((positions.len(), next), (6, 10));
        assert_eq!((positions[0], positions[5]), ([7, 7, 7], [7, 8, 9]));
        assert_eq!(text_positions(2, next), (vec![[10; 3], [11; 3]], 12));
    }

    #[test]
    fn pairs_take_turns_until_their_section_ends() {
        // Sections of 3, 3 and 2 pairs.
        let angles = token_angles(&[[100, 20, 3]], &[1.0; 8], [3, 3, 2]);
        assert_eq!(angles, [100.0, 20.0, 3.0, 100.0, 20.0, 3.0, 100.0, 20.0]);
        let angles = token_angles(&[[100, 20, 3]], &[1.0; 5], [3, 1, 1]);
        assert_eq!(angles, [100.0, 20.0, 3.0, 100.0, 100.0]);
    }
}
