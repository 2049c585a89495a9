//! The coefficients of a component's blocks.

/// Coefficients of a block, in rows.
pub(crate) type Block = [i16; 64];

/// The position of each coefficient of the coding order, in rows.
#[rustfmt::skip]
pub(crate) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Blocks of a component: all, or those of one row of MCUs at a time.
pub(crate) struct Grid {
    blocks: Vec<Block>,
    /// For each block, the last position of the coding order that may not be zero.
    lasts: Vec<u8>,
    /// Blocks of a row, with those that fill up the last MCU.
    stride: usize,
    rows: usize,
}

impl Grid {
    /// Creates blocks of zeros.
    pub(crate) fn new(stride: usize, rows: usize) -> Self {
        Self { blocks: vec![[0; 64]; stride * rows], lasts: vec![0; stride * rows], stride, rows }
    }

    /// Returns the position of a block. Row numbers repeat if not all rows are kept.
    pub(crate) fn position(&self, row: usize, column: usize) -> usize {
        row % self.rows * self.stride + column
    }

    /// Returns the block at a position, and its last position in the coding order.
    #[inline(always)]
    pub(crate) fn block(&mut self, position: usize) -> (&mut Block, &mut u8) {
        (&mut self.blocks[position], &mut self.lasts[position])
    }

    /// Returns the blocks of a row and their last positions.
    pub(crate) fn row(&self, row: usize) -> (&[Block], &[u8]) {
        let start = self.position(row, 0);
        (&self.blocks[start..start + self.stride], &self.lasts[start..start + self.stride])
    }
}
