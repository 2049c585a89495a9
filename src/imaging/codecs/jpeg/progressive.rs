//! Blocks of progressive scans (ITU-T T.81, annex G).
#![expect(clippy::cast_possible_truncation, reason = "positions are below 64, bits below 16")]

use crate::imaging::codecs::jpeg::bits::BitReader;
use crate::imaging::codecs::jpeg::coefficients::{Block, ZIGZAG};
use crate::imaging::codecs::jpeg::fault::Fault;
use crate::imaging::codecs::jpeg::huffman::{HuffmanTable, extended};
use crate::imaging::codecs::jpeg::scan::BlockCoder;
use crate::imaging::codecs::jpeg::sequential::{AC_BITS_MAX, difference};

/// Decodes the upper bits of DC coefficients.
#[derive(Clone)]
pub(crate) struct DcFirstCoder<'a> {
    /// The table of each component of the scan.
    pub(crate) tables: Vec<&'a HuffmanTable>,
    pub(crate) predictions: [i16; 4],
    pub(crate) bit: u32,
}

impl BlockCoder for DcFirstCoder<'_> {
    fn restart(&mut self) {
        self.predictions = [0; 4];
    }

    #[inline(always)]
    fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        slot: usize,
        block: &mut Block,
        _: &mut u8,
    ) -> Result<(), Fault> {
        let prediction = &mut self.predictions[slot];
        *prediction = prediction.wrapping_add(difference(self.tables[slot], reader)?);
        block[0] = *prediction << self.bit;
        Ok(())
    }
}

/// Decodes a further bit of DC coefficients.
#[derive(Clone)]
pub(crate) struct DcRefinementCoder {
    pub(crate) bit: u32,
}

impl BlockCoder for DcRefinementCoder {
    fn restart(&mut self) {}

    #[inline(always)]
    fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        _: usize,
        block: &mut Block,
        _: &mut u8,
    ) -> Result<(), Fault> {
        reader.refill();
        block[0] |= (reader.take(1) as i16) << self.bit;
        Ok(())
    }
}

/// The part of the spectrum that a scan decodes.
#[derive(Clone, Copy)]
pub(crate) struct Band {
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// The lowest bit that is decoded.
    pub(crate) bit: u32,
}

/// Decodes the upper bits of AC coefficients.
#[derive(Clone)]
pub(crate) struct AcFirstCoder<'a> {
    pub(crate) table: &'a HuffmanTable,
    pub(crate) band: Band,
    /// Blocks, from the current one on, without further coefficients.
    pub(crate) blocks_to_skip: u32,
}

impl BlockCoder for AcFirstCoder<'_> {
    fn restart(&mut self) {
        self.blocks_to_skip = 0;
    }

    fn is_settled(&self) -> bool {
        self.blocks_to_skip == 0
    }

    #[inline(always)]
    fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        _: usize,
        block: &mut Block,
        last: &mut u8,
    ) -> Result<(), Fault> {
        if self.blocks_to_skip > 0 {
            self.blocks_to_skip -= 1;
            return Ok(());
        }
        let mut k = self.band.first;
        while k <= self.band.last {
            reader.refill();
            let (run, value) = if let Some(entry) = self.table.short(reader) {
                (entry.run, entry.value)
            } else {
                let symbol = self.table.symbol(reader)?;
                let (run, size) = (symbol >> 4, symbol & 15);
                match (run, size) {
                    (15, 0) => {
                        k += 16;
                        continue;
                    }
                    (_, 0) => {
                        self.blocks_to_skip = run_of_blocks(reader, run) - 1;
                        return Ok(());
                    }
                    (_, 1..=AC_BITS_MAX) => {
                        let size = u32::from(size);
                        (usize::from(run), extended(reader.take(size), size))
                    }
                    _ => return Err(Fault::BadCode),
                }
            };
            k += run;
            if k > self.band.last {
                return Err(Fault::TooManyCoefficients);
            }
            block[usize::from(ZIGZAG[k])] = value << self.band.bit;
            *last = (*last).max(k as u8);
            k += 1;
        }
        if k > self.band.last + 1 { Err(Fault::TooManyCoefficients) } else { Ok(()) }
    }
}

/// Returns the number of blocks, this one included, that have no further coefficients.
fn run_of_blocks(reader: &mut BitReader<'_>, bits: u8) -> u32 {
    let bits = u32::from(bits);
    (1 << bits) + if bits > 0 { reader.take(bits) } else { 0 }
}

/// Decodes a further bit of AC coefficients.
#[derive(Clone)]
pub(crate) struct AcRefinementCoder<'a> {
    pub(crate) table: &'a HuffmanTable,
    pub(crate) band: Band,
    /// Blocks, from the current one on, without new coefficients.
    pub(crate) blocks_to_skip: u32,
}

impl BlockCoder for AcRefinementCoder<'_> {
    fn restart(&mut self) {
        self.blocks_to_skip = 0;
    }

    fn is_settled(&self) -> bool {
        self.blocks_to_skip == 0
    }

    #[inline(always)]
    fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        _: usize,
        block: &mut Block,
        last: &mut u8,
    ) -> Result<(), Fault> {
        let mut k = self.band.first;
        while self.blocks_to_skip == 0 && k <= self.band.last {
            reader.refill();
            let symbol = self.table.symbol(reader)?;
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            let value = match size {
                0 if run < 15 => {
                    self.blocks_to_skip = run_of_blocks(reader, symbol >> 4);
                    break;
                }
                0 => 0,
                1 if reader.take(1) == 1 => 1 << self.band.bit,
                1 => -1 << self.band.bit,
                _ => return Err(Fault::BadCode),
            };
            k = self.refine(reader, block, k, run);
            if k > self.band.last {
                // A run of 16 zeros may end with the band, a new coefficient must be in it.
                return if size == 0 { Ok(()) } else { Err(Fault::TooManyCoefficients) };
            }
            if size > 0 {
                block[usize::from(ZIGZAG[k])] = value;
                *last = (*last).max(k as u8);
            }
            k += 1;
        }
        if self.blocks_to_skip > 0 {
            self.blocks_to_skip -= 1;
            // Positions after the last one are zero, so they have no bit.
            let end = self.band.last.min(usize::from(*last));
            for position in k..=end {
                refine_one(reader, &mut block[usize::from(ZIGZAG[position])], self.band.bit);
            }
        }
        Ok(())
    }
}

impl AcRefinementCoder<'_> {
    /// Reads the bits of all coefficients until `zeros` zero ones have passed. Returns the position
    /// of the next zero one.
    #[inline(always)]
    fn refine(
        &self,
        reader: &mut BitReader<'_>,
        block: &mut Block,
        mut k: usize,
        mut zeros: usize,
    ) -> usize {
        while k <= self.band.last {
            let coefficient = &mut block[usize::from(ZIGZAG[k])];
            if *coefficient != 0 {
                refine_one(reader, coefficient, self.band.bit);
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            k += 1;
        }
        k
    }
}

/// Reads the next bit of a coefficient that is not zero.
#[inline(always)]
fn refine_one(reader: &mut BitReader<'_>, coefficient: &mut i16, bit: u32) {
    if *coefficient == 0 {
        return;
    }
    reader.refill();
    if reader.take(1) == 1 && *coefficient & 1 << bit == 0 {
        let step = 1 << bit;
        *coefficient = coefficient.wrapping_add(if *coefficient > 0 { step } else { -step });
    }
}
