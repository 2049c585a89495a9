//! Blocks of sequential scans (ITU-T T.81, F.2.2).
#![expect(clippy::cast_possible_truncation, reason = "positions are below 64")]

use crate::imaging::codecs::jpeg::bits::BitReader;
use crate::imaging::codecs::jpeg::coefficients::{Block, ZIGZAG};
use crate::imaging::codecs::jpeg::fault::Fault;
use crate::imaging::codecs::jpeg::huffman::{HuffmanTable, extended};
use crate::imaging::codecs::jpeg::scan::BlockCoder;

/// The largest number of bits of a difference of DC coefficients of 8-bit samples.
pub(crate) const DC_BITS_MAX: u8 = 11;

/// The largest number of bits of an AC coefficient of 8-bit samples.
pub(crate) const AC_BITS_MAX: u8 = 10;

/// Decodes all coefficients of a block.
#[derive(Clone)]
pub(crate) struct SequentialCoder<'a> {
    /// Tables of each component of the scan.
    tables: Vec<(&'a HuffmanTable, &'a HuffmanTable)>,
    predictions: [i16; 4],
}

impl<'a> SequentialCoder<'a> {
    pub(crate) fn new(tables: Vec<(&'a HuffmanTable, &'a HuffmanTable)>) -> Self {
        Self { tables, predictions: [0; 4] }
    }
}

impl BlockCoder for SequentialCoder<'_> {
    fn restart(&mut self) {
        self.predictions = [0; 4];
    }

    #[inline(always)]
    fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        slot: usize,
        block: &mut Block,
        last: &mut u8,
    ) -> Result<(), Fault> {
        let (dc, ac) = self.tables[slot];
        let prediction = &mut self.predictions[slot];
        *prediction = prediction.wrapping_add(difference(dc, reader)?);
        *block = [0; 64];
        block[0] = *prediction;
        *last = 0;
        let mut k = 1;
        while k < 64 {
            reader.refill();
            if let Some(entry) = ac.short(reader) {
                k += entry.run;
                let position = *ZIGZAG.get(k).ok_or(Fault::TooManyCoefficients)?;
                block[usize::from(position) % 64] = entry.value;
                *last = k as u8;
                k += 1;
                continue;
            }
            let symbol = ac.symbol(reader)?;
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            match (run, size) {
                (0, 0) => return Ok(()),
                (15, 0) => k += 16,
                (_, 1..=AC_BITS_MAX) => {
                    k += run;
                    let position = *ZIGZAG.get(k).ok_or(Fault::TooManyCoefficients)?;
                    let value = extended(reader.take(u32::from(size)), u32::from(size));
                    block[usize::from(position) % 64] = value;
                    *last = k as u8;
                    k += 1;
                }
                _ => return Err(Fault::BadCode),
            }
        }
        if k > 64 { Err(Fault::TooManyCoefficients) } else { Ok(()) }
    }
}

/// Decodes the difference of a DC coefficient to the one before it.
#[inline(always)]
pub(crate) fn difference(table: &HuffmanTable, reader: &mut BitReader<'_>) -> Result<i16, Fault> {
    reader.refill();
    if let Some(entry) = table.short(reader) {
        return if entry.run == 0 { Ok(entry.value) } else { Err(Fault::BadCode) };
    }
    let size = table.symbol(reader)?;
    match size {
        0 => Ok(0),
        1..=DC_BITS_MAX => Ok(extended(reader.take(u32::from(size)), u32::from(size))),
        _ => Err(Fault::BadCode),
    }
}
