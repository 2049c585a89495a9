//! Fax coding of rows of bits (ITU-T T.4 and T.6, TIFF 6.0 section 10). The tables of codes are
//! those of the `fax` crate.

use std::convert::Infallible;
use std::iter;

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, ByteReader};

use crate::imaging::codecs::tiff::error::FORMAT;
use crate::imaging::error::DecodeError;

/// Zero bits with which no run starts: an end of line, or fill before it.
const END_OF_LINE_BITS: u8 = 9;

/// Bytes of zeros behind the data. The tables look ahead; no code consists of zeros.
const ZEROS: usize = 4;

/// A variant of fax coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Runs of pixels. Rows start at byte boundaries, without end codes.
    Rows,
    /// Runs of pixels, with end codes.
    Group3,
    /// After each end code, a bit tells if the row refers to the one before.
    Group3TwoDimensional,
    /// Each row refers to the one before, without end codes.
    Group4,
}

/// Decodes rows of a strip and appends them as bits, 1 for black. Each row starts at a byte
/// boundary.
pub(crate) fn unpack(
    strip: &[u8],
    coding: Coding,
    width: u32,
    rows: u32,
    unpacked: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let bytes = strip.iter().copied().chain(iter::repeat_n(0, ZEROS));
    let Ok(reader) = ByteReader::new(bytes.map(Ok::<u8, Infallible>));
    let mut decoder = RowDecoder { reader, width, changes: Vec::new(), reference: Vec::new() };
    for _ in 0..rows {
        if decoder.row(coding).is_none() {
            return Err(decoder.error());
        }
        decoder.append(unpacked);
        std::mem::swap(&mut decoder.changes, &mut decoder.reference);
    }
    Ok(())
}

/// Decodes one row after the other. A row is the list of positions at which its colour changes; it
/// starts white.
struct RowDecoder<Bytes> {
    reader: ByteReader<Bytes>,
    width: u32,
    changes: Vec<u32>,
    /// The row before.
    reference: Vec<u32>,
}

impl<Bytes: Iterator<Item = Result<u8, Infallible>>> RowDecoder<Bytes> {
    /// Decodes a row, or returns `None` if its codes are not valid.
    fn row(&mut self, coding: Coding) -> Option<()> {
        self.changes.clear();
        let is_one_dimensional = match coding {
            Coding::Rows => {
                let padding = self.reader.bits_to_byte_boundary();
                self.skip(padding)?;
                true
            }
            Coding::Group3 => {
                self.skip_end_of_line()?;
                true
            }
            Coding::Group3TwoDimensional => {
                self.skip_end_of_line()?;
                let tag = self.reader.peek(1)?;
                self.skip(1)?;
                tag == 1
            }
            Coding::Group4 => false,
        };
        if is_one_dimensional { self.runs() } else { self.modes() }
    }

    fn skip(&mut self, bits: u8) -> Option<()> {
        self.reader.consume(bits).ok()
    }

    /// Skips an end of line and the fill before it, if they are there.
    fn skip_end_of_line(&mut self) -> Option<()> {
        if self.reader.peek(END_OF_LINE_BITS)? != 0 {
            return Some(());
        }
        while self.reader.peek(1)? == 0 {
            self.skip(1)?;
        }
        self.skip(1)
    }

    /// Decodes alternating runs, white first, up to the end of the row.
    fn runs(&mut self) -> Option<()> {
        let mut at = 0;
        let mut is_black = false;
        while at < self.width {
            at = self.run_to(at, is_black)?;
            self.changes.push(at);
            is_black = !is_black;
        }
        Some(())
    }

    /// Decodes a run and returns its end.
    fn run_to(&mut self, start: u32, is_black: bool) -> Option<u32> {
        let mut end = start;
        loop {
            let reader = &mut self.reader;
            let part = if is_black { black::decode(reader) } else { white::decode(reader) }?;
            end = end.checked_add(u32::from(part)).filter(|end| *end <= self.width)?;
            // Longer runs have a multiple of 64 first.
            if part < 64 {
                return Some(end);
            }
        }
    }

    /// Decodes changes relative to those of the row before.
    fn modes(&mut self) -> Option<()> {
        let mut at = 0;
        let mut is_black = false;
        let mut is_start = true;
        // The first change of the reference behind the position.
        let mut next = 0;
        while at < self.width {
            let is_passed = |change: &u32| if is_start { false } else { *change <= at };
            while self.reference.get(next).is_some_and(is_passed) {
                next += 1;
            }
            // Even changes are to black. The one that counts is to the other colour.
            let first = next + usize::from((next % 2 == 1) != is_black);
            let change = |index: usize| self.reference.get(index).copied().unwrap_or(self.width);
            let (first, second) = (change(first), change(first + 1));
            match mode::decode(&mut self.reader)? {
                Mode::Pass => at = second,
                Mode::Vertical(offset) => {
                    at = first.checked_add_signed(i32::from(offset)).filter(|to| *to >= at)?;
                    if at > self.width {
                        return None;
                    }
                    self.changes.push(at);
                    is_black = !is_black;
                }
                Mode::Horizontal => {
                    let middle = self.run_to(at, is_black)?;
                    at = self.run_to(middle, !is_black)?;
                    self.changes.extend([middle, at]);
                }
                Mode::Extension | Mode::EOF => return None,
            }
            is_start = false;
        }
        Some(())
    }

    /// Appends the row as bits.
    fn append(&self, unpacked: &mut Vec<u8>) {
        let start = unpacked.len();
        unpacked.resize(start + self.width.div_ceil(8) as usize, 0);
        let row = &mut unpacked[start..];
        for black in self.changes.chunks(2) {
            if let [from, to @ ..] = black {
                fill(row, *from, to.first().copied().unwrap_or(self.width));
            }
        }
    }

    /// Returns the error of a row that is not valid: only zeros are left after the data.
    fn error(&self) -> DecodeError {
        if self.reader.peek(16).unwrap_or(0) == 0 {
            DecodeError::truncated(FORMAT, "its fax data ends before its last row")
        } else {
            DecodeError::corrupt(FORMAT, "its fax data has a code that is not valid")
        }
    }
}

/// Sets a range of bits.
fn fill(row: &mut [u8], from: u32, to: u32) {
    let (first, last) = ((from / 8) as usize, (to / 8) as usize);
    let (head, tail) = (0xff_u8 >> (from % 8), !(0xff_u8 >> (to % 8)));
    if first == last {
        if let Some(byte) = row.get_mut(first) {
            *byte |= head & tail;
        }
        return;
    }
    row[first] |= head;
    row[first + 1..last].fill(0xff);
    if let Some(byte) = row.get_mut(last) {
        *byte |= tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_bits_is_filled() {
        for from in 0..40 {
            for to in from..=40 {
                let mut row = [0; 5];
                fill(&mut row, from, to);
                let bit = |at: u32| row[(at / 8) as usize] >> (7 - at % 8) & 1;
                assert!(
                    (0..40).all(|at| (bit(at) == 1) == (from..to).contains(&at)),
                    "{from} {to}"
                );
            }
        }
    }

    #[test]
    fn rows_of_runs_start_at_bytes() {
        // White 4 (1011), black 2 (11), white 2 (0111): ten bits, then the next row.
        let strip = [0b1011_1101, 0b1100_0000, 0b1011_1101, 0b1100_0000];
        let mut rows = Vec::new();
        unpack(&strip, Coding::Rows, 8, 2, &mut rows).unwrap();
        assert_eq!(rows, [0b0000_1100; 2]);
        let error = unpack(&strip, Coding::Rows, 8, 3, &mut rows).unwrap_err();
        assert_eq!(error.code(), "decode.truncated");
    }

    #[test]
    fn a_run_beyond_the_row_is_corrupt() {
        let error = unpack(&[0b1011_1101, 0xff], Coding::Rows, 5, 1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.code(), "decode.corrupt");
    }
}
