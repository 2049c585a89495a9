//! Rows of several sequences, packed one after the other without padding.

use std::cell::OnceCell;
use std::ops::Range;

use candle_core::{Device, Result};

use crate::models::layers::chunk_tables::ChunkTables;

/// The number of rows of each packed sequence. Its tables are on the device, and are created once
/// for all layers.
#[derive(Debug)]
pub struct Sequences {
    lengths: Vec<usize>,
    tables: OnceCell<ChunkTables>,
}

impl Sequences {
    /// Creates packed sequences of these lengths.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self { lengths, tables: OnceCell::new() }
    }

    /// Returns the number of rows of each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Returns the rows of each sequence, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.lengths.iter().scan(0, |start, length| {
            let first = *start;
            *start += length;
            Some(first..*start)
        })
    }

    /// Returns the tables of a scan in chunks. The first call creates them.
    pub(super) fn chunk_tables(&self, device: &Device) -> Result<ChunkTables> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables.clone());
        }
        let tables = ChunkTables::new(&self.lengths, device)?;
        Ok(self.tables.get_or_init(|| tables).clone())
    }
}
