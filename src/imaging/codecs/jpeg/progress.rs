//! The scans that were decoded, and the coefficients that are still missing.
#![expect(clippy::cast_possible_truncation, reason = "a side has 16 bits")]

use crate::imaging::codecs::jpeg::frame::{Frame, Process};
use crate::imaging::codecs::jpeg::markers::FORMAT;
use crate::imaging::codecs::jpeg::scan::Scan;
use crate::imaging::error::DecodeError;

/// The highest bit from which refinement may start.
const BIT_MAX: u32 = 13;

/// Limits on the blocks that all scans of a progressive image may visit: for each block, for each
/// byte of the file, and for any image. Encoders write 10 to 20 scans, and a scan that changes
/// anything has data. Without limits, a file of some kilobytes takes minutes in hundreds of scans.
const VISITS_PER_BLOCK: u64 = 16;
const VISITS_PER_BYTE: u64 = 256;
const VISITS_FREE: u64 = 4 << 20;

/// The progress of the scans.
pub(crate) struct Progress {
    process: Process,
    /// For each component and coefficient, the lowest bit that was decoded.
    bits: Vec<[Option<u32>; 64]>,
    visits_left: u64,
    /// The error of a scan beyond the limit.
    too_many: DecodeError,
    has_end: bool,
}

impl Progress {
    pub(crate) fn new(frame: &Frame, file_len: usize) -> Self {
        let visits_left = VISITS_PER_BLOCK * frame.blocks() as u64
            + VISITS_PER_BYTE * file_len as u64
            + VISITS_FREE;
        let bits = vec![[None; 64]; frame.components.len()];
        let too_many = DecodeError::TooManyScans {
            format: FORMAT,
            width: frame.width as u32,
            height: frame.height as u32,
            bytes_len: file_len as u64,
        };
        Self { process: frame.process, bits, visits_left, too_many, has_end: false }
    }

    /// Adds a scan, and checks that it continues those before it.
    pub(crate) fn add(&mut self, frame: &Frame, scan: &Scan) -> Result<(), DecodeError> {
        let corrupt = |detail| Err(DecodeError::corrupt(FORMAT, detail));
        let Some(visits_left) = self.visits_left.checked_sub(scan.blocks(frame) as u64) else {
            return Err(self.too_many.clone());
        };
        self.visits_left = visits_left;
        if self.process == Process::Sequential {
            for used in &scan.components {
                if self.bits[used.index] != [None; 64] {
                    return corrupt("its scans hold a component twice");
                }
                self.bits[used.index] = [Some(0); 64];
            }
            return Ok(());
        }
        let Scan { first, last, bit_before, bit, .. } = *scan;
        let is_band = first <= last && last < 64;
        let is_dc = first == 0 && last == 0;
        let is_refinement = bit_before > 0;
        let is_sound = is_band
            && bit <= BIT_MAX
            && (is_dc || first > 0 && scan.components.len() == 1)
            && (!is_refinement || bit_before == bit + 1);
        if !is_sound {
            return corrupt("a scan header is not valid");
        }
        for used in &scan.components {
            let bits = &mut self.bits[used.index];
            if !is_dc && bits[0].is_none() {
                return corrupt("its scans are out of order");
            }
            for found in &mut bits[first..=last] {
                if *found != is_refinement.then_some(bit_before) {
                    return corrupt("its scans are out of order");
                }
                *found = Some(bit);
            }
        }
        Ok(())
    }

    /// Returns true if all bits of all coefficients were decoded.
    pub(crate) fn is_complete(&self) -> bool {
        self.bits.as_flattened().iter().all(|bit| *bit == Some(0))
    }

    /// Notes the end marker. It allows that the last bits of some coefficients were never written.
    pub(crate) fn accept_end(&mut self) {
        self.has_end = true;
    }

    /// Returns true if the picture is whole: complete, or at least begun in all components and
    /// ended by its writer.
    pub(crate) fn is_whole(&self) -> bool {
        let has_begun = self.bits.iter().all(|bits| bits[0].is_some());
        self.is_complete() || has_begun && self.has_end && self.process == Process::Progressive
    }
}
