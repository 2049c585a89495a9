//! The sequence header of an AV1 picture: the largest size of its frames and its colours.
//!
//! Source: AV1 bitstream and decoding process specification, sections 5.3 to 5.5. Reads only what
//! precedes the decoding.

use crate::imaging::codecs::heif::code_points::CodePoints;

/// Kind of the unit that has the sequence header.
const SEQUENCE_HEADER: u8 = 1;

/// A sequence header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SequenceHeader {
    pub(crate) width_max: u32,
    pub(crate) height_max: u32,
    pub(crate) colour: CodePoints,
}

impl SequenceHeader {
    /// Finds the first sequence header among the units of a picture.
    pub(crate) fn find(units: &[u8]) -> Option<Self> {
        let mut rest = units;
        loop {
            let (head, after) = rest.split_first()?;
            let has_extension = head & 4 != 0;
            let has_len = head & 2 != 0;
            let after = after.get(usize::from(has_extension)..)?;
            let (len, after) = if has_len { leb128(after)? } else { (after.len(), after) };
            let (payload, next) = after.split_at_checked(len)?;
            if head >> 3 & 15 == SEQUENCE_HEADER {
                return Self::read(&mut Bits { bytes: payload, at: 0 });
            }
            rest = next;
        }
    }

    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let profile = bits.take(3)?;
        bits.take(1)?;
        let is_reduced = bits.flag()?;
        if is_reduced {
            bits.take(5)?;
        } else {
            operating_points(bits)?;
        }
        let width_len = bits.take(4)? + 1;
        let height_len = bits.take(4)? + 1;
        let width_max = bits.take(width_len)? + 1;
        let height_max = bits.take(height_len)? + 1;
        if !is_reduced && bits.flag()? {
            bits.take(7)?;
        }
        bits.take(3)?;
        if !is_reduced {
            inter_tools(bits)?;
        }
        bits.take(3)?;
        Some(Self { width_max, height_max, colour: colour(bits, profile)? })
    }
}

fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_len = None;
    let has_timing = bits.flag()?;
    if has_timing {
        bits.take(32)?;
        bits.take(32)?;
        if bits.flag()? {
            // A number with as many bits as there are zeros before it.
            let mut zeros = 0;
            while !bits.flag()? {
                zeros += 1;
            }
            bits.take(std::cmp::min(zeros, 32))?;
        }
        if bits.flag()? {
            delay_len = Some(bits.take(5)? + 1);
            bits.take(32)?;
            bits.take(10)?;
        }
    }
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.take(5)? {
        bits.take(12)?;
        if bits.take(5)? > 7 {
            bits.take(1)?;
        }
        if let Some(len) = delay_len
            && bits.flag()?
        {
            bits.take(len)?;
            bits.take(len)?;
            bits.take(1)?;
        }
        if has_display_delay && bits.flag()? {
            bits.take(4)?;
        }
    }
    Some(())
}

/// Skips the switches of the tools for sequences.
fn inter_tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.take(4)?;
    let has_order = bits.flag()?;
    if has_order {
        bits.take(2)?;
    }
    let chooses_screen_tools = bits.flag()?;
    let screen_tools = chooses_screen_tools || bits.flag()?;
    if screen_tools && !bits.flag()? {
        bits.take(1)?;
    }
    if has_order {
        bits.take(3)?;
    }
    Some(())
}

fn colour(bits: &mut Bits<'_>, profile: u32) -> Option<CodePoints> {
    let is_deep = bits.flag()?;
    if profile == 2 && is_deep {
        bits.take(1)?;
    }
    let is_grey = profile != 1 && bits.flag()?;
    let (primaries, transfer, matrix) = if bits.flag()? {
        let mut code = || bits.take(8).and_then(|code| u8::try_from(code).ok());
        (code()?, code()?, code()?)
    } else {
        (2, 2, 2)
    };
    let is_srgb = !is_grey && (primaries, transfer, matrix) == (1, 13, 0);
    let is_full_range = is_srgb || bits.flag()?;
    Some(CodePoints { primaries, transfer, matrix, is_full_range })
}

/// Reads a number of seven bits per byte, and returns it with the bytes after it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(8) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(number).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

/// Bits from the highest of each byte on.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        let mut number = 0;
        for _ in 0..count {
            number = number << 1 | u32::from(self.flag()?);
        }
        Some(number)
    }
}
