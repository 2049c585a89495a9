//! The tables of a scan in chunks: the places of packed rows, and constant matrices.

use candle_core::{Device, Result, Tensor};

use crate::models::ops::upload;

/// Rows of a sequence that are processed together. A power of 2.
pub(crate) const CHUNK: usize = 64;

/// The places of rows in chunks of [`CHUNK`] slots: the first chunk of every sequence, then the
/// second of every sequence, … A sequence's slots after its last row are empty.
#[derive(Debug, Clone)]
pub(super) struct ChunkTables {
    /// Chunks of the longest sequence.
    pub(super) chunks: usize,
    /// `(chunks · sequences · CHUNK)` u32: the row in each slot, the number of rows for an empty
    /// slot.
    pub(super) row_of_slot: Tensor,
    /// `(rows)` u32: the slot of each row.
    pub(super) slot_of_row: Tensor,
    /// `(CHUNK, CHUNK)` f32: 1 where the column is at or after the row. A row of values times this
    /// is their running sum.
    pub(super) running_sum: Tensor,
    /// `(CHUNK, CHUNK)` f32: 0 where the column is at or before the row, −∞ elsewhere.
    pub(super) causal: Tensor,
    /// `(CHUNK, CHUNK)` f32: the identity.
    pub(super) identity: Tensor,
    /// For blocks of 1, 2, 4, … rows, `(CHUNK, CHUNK)` f32: 1 in the lower left of each pair of
    /// blocks on the diagonal.
    pub(super) lower_left: Vec<Tensor>,
}

impl ChunkTables {
    /// Creates the tables of packed sequences of these lengths.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub(super) fn new(lengths: &[usize], device: &Device) -> Result<Self> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let (chunks, rows) = (longest.div_ceil(CHUNK), lengths.iter().sum());
        let mut row_of_slot = vec![index(rows); chunks * lengths.len() * CHUNK];
        let mut slot_of_row = Vec::with_capacity(rows);
        for (sequence, &length) in lengths.iter().enumerate() {
            for offset in 0..length {
                let chunk = offset / CHUNK * lengths.len() + sequence;
                let slot = chunk * CHUNK + offset % CHUNK;
                row_of_slot[slot] = index(slot_of_row.len());
                slot_of_row.push(index(slot));
            }
        }
        let count = row_of_slot.len();
        let one_if = |holds: bool| if holds { 1.0 } else { 0.0 };
        let sizes = std::iter::successors(Some(1), |size| Some(2 * size));
        let lower_left = sizes.take_while(|size| *size < CHUNK).map(|size| {
            let is_lower_left =
                |row: usize, column: usize| row / size % 2 == 1 && column / size + 1 == row / size;
            matrix(|row, column| one_if(is_lower_left(row, column)), device)
        });
        Ok(Self {
            chunks,
            row_of_slot: upload(row_of_slot, count, device)?,
            slot_of_row: upload(slot_of_row, rows, device)?,
            running_sum: matrix(|row, column| one_if(column >= row), device)?,
            causal: matrix(
                |row, column| if column <= row { 0.0 } else { f32::NEG_INFINITY },
                device,
            )?,
            identity: matrix(|row, column| one_if(row == column), device)?,
            lower_left: lower_left.collect::<Result<_>>()?,
        })
    }
}

fn index(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has far fewer rows")
}

fn matrix(value: impl Fn(usize, usize) -> f32, device: &Device) -> Result<Tensor> {
    let value = &value;
    let values = (0..CHUNK).flat_map(|row| (0..CHUNK).map(move |column| value(row, column)));
    upload(values.collect(), (CHUNK, CHUNK), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_slot_and_each_chunk_has_rows_of_one_sequence() {
        let tables = ChunkTables::new(&[65, 2, 0], &Device::Cpu).unwrap();
        let rows: Vec<u32> = tables.row_of_slot.to_vec1().unwrap();
        assert_eq!((tables.chunks, rows.len()), (2, 2 * 3 * CHUNK));
        assert_eq!((rows[0], rows[63], rows[64], rows[65], rows[66]), (0, 63, 65, 66, 67));
        assert_eq!((rows[3 * CHUNK], rows[3 * CHUNK + 1]), (64, 67));
        let back: Vec<u32> = tables.slot_of_row.to_vec1().unwrap();
        assert!(back.iter().enumerate().all(|(row, slot)| rows[*slot as usize] as usize == row));
    }

    #[test]
    fn the_blocks_below_the_diagonal_cover_each_place_once() {
        let tables = ChunkTables::new(&[1], &Device::Cpu).unwrap();
        let mut sum = tables.identity.clone();
        for part in &tables.lower_left {
            sum = (sum + part).unwrap();
        }
        assert_eq!(tables.lower_left.len(), 6);
        let lower: Vec<Vec<f32>> = tables.running_sum.t().unwrap().to_vec2().unwrap();
        assert_eq!(sum.to_vec2::<f32>().unwrap(), lower);
    }
}
