//! Finds the parts and numbers of image files for mutations to change, and repairs checksums, so
//! that decoders do not reject the changed file because of them.

use std::ops::Range;

use fastrand::Rng;
use flate2::Crc;

use super::mutate::write_number;

/// Bytes at the start of a part that are treated as numbers.
const FIELD_BYTES_MAX: usize = 24;

/// The parts of a file that can be moved, and its numbers.
#[derive(Default)]
pub(crate) struct Anatomy {
    pub(crate) parts: Vec<Range<usize>>,
    pub(crate) fields: Vec<Range<usize>>,
}

/// A format whose files are sequences of parts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
    /// HEIC and AVIF.
    Heif,
    Jxl,
}

impl Anatomy {
    /// Finds the parts of a file, up to the first that it cannot parse.
    pub(crate) fn of(kind: Kind, bytes: &[u8]) -> Self {
        let mut anatomy = Self::default();
        match kind {
            Kind::Jpeg => anatomy.jpeg(bytes),
            Kind::Png => anatomy.png(bytes),
            Kind::WebP => anatomy.webp(bytes),
            Kind::Gif => anatomy.gif(bytes),
            Kind::Bmp => anatomy.numbers(14..bytes.len().min(70), 4),
            Kind::Tiff => anatomy.tiff(bytes),
            Kind::Jxl if bytes.starts_with(b"\xff\x0a") => {
                anatomy.numbers(2..bytes.len().min(2 + FIELD_BYTES_MAX), 1);
            }
            Kind::Heif | Kind::Jxl => anatomy.boxes(bytes, 0..bytes.len()),
        }
        anatomy.fields.retain(|field| field.end <= bytes.len());
        anatomy
    }

    fn numbers(&mut self, range: Range<usize>, width: usize) {
        let starts = range.clone().step_by(width).filter(|start| start + width <= range.end);
        self.fields.extend(starts.map(|start| start..start + width));
    }

    fn jpeg(&mut self, bytes: &[u8]) {
        let mut at = 2;
        while let Some([0xff, marker, high, low]) = bytes.get(at..at + 4) {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let mut end = (at + 2 + len).min(bytes.len());
            self.fields.extend([at + 1..at + 2, at + 2..at + 4]);
            let payload = at + 4..end.min(at + 4 + FIELD_BYTES_MAX);
            self.numbers(payload.clone(), 1);
            self.numbers(payload, 2);
            if *marker == 0xda {
                let is_end = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7);
                let data = &bytes[end..];
                end += data.windows(2).position(is_end).unwrap_or(data.len());
            }
            self.parts.push(at..end);
            at = end;
        }
    }

    fn png(&mut self, bytes: &[u8]) {
        let mut at = 8;
        while let Some(len) = be32(bytes, at) {
            let end = at.saturating_add(len + 12).min(bytes.len());
            self.fields.extend([at..at + 4, at + 4..(at + 8).min(end)]);
            let payload = (at + 8).min(end)..end.min(at + 8 + FIELD_BYTES_MAX);
            self.numbers(payload.clone(), 1);
            self.numbers(payload, 4);
            self.parts.push(at..end);
            at = end;
        }
    }

    fn webp(&mut self, bytes: &[u8]) {
        self.fields.push(4..8);
        let mut at = 12;
        while let Some(len) = le32(bytes, at + 4) {
            let end = at.saturating_add(8 + len + len % 2).min(bytes.len());
            self.fields.extend([at..at + 4, at + 4..at + 8]);
            let payload = (at + 8).min(end)..end.min(at + 8 + 2 * FIELD_BYTES_MAX);
            for width in [1, 2, 3, 4] {
                self.numbers(payload.clone(), width);
            }
            self.parts.push(at..end);
            at = end;
        }
    }

    /// Finds the blocks of a GIF, up to the first unknown one.
    fn gif(&mut self, bytes: &[u8]) {
        self.numbers(6..13, 1);
        self.numbers(6..10, 2);
        let table = |packed: u8| if packed & 0x80 == 0 { 0 } else { 3 << ((packed & 7) + 1) };
        let mut at = 13 + table(bytes.get(10).copied().unwrap_or(0));
        while let Some(label) = bytes.get(at) {
            let (header, blocks) = match label {
                0x21 => (2, 2),
                0x2c => (10, 11 + table(bytes.get(at + 9).copied().unwrap_or(0))),
                _ => break,
            };
            self.numbers(at + 1..bytes.len().min(at + header.max(8)), 1);
            if *label == 0x2c {
                self.numbers(at + 1..bytes.len().min(at + 9), 2);
            }
            let mut end = at + blocks;
            while let Some(len) = bytes.get(end) {
                self.fields.push(end..end + 1);
                end += 1 + usize::from(*len);
                if *len == 0 {
                    break;
                }
            }
            let end = end.min(bytes.len());
            self.parts.push(at..end);
            at = end;
        }
    }

    /// Finds boxes, and the boxes inside of them.
    fn boxes(&mut self, bytes: &[u8], range: Range<usize>) {
        let mut at = range.start;
        while let Some(len) = be32(bytes, at).filter(|_| at + 8 <= range.end) {
            let len = if len == 0 { range.end - at } else { len };
            if len < 8 {
                return;
            }
            let end = at.saturating_add(len).min(range.end);
            self.fields.extend([at..at + 4, at + 4..at + 8]);
            // Bytes before the inner boxes.
            let inner = match &bytes[at + 4..at + 8] {
                b"iprp" | b"ipco" | b"moov" | b"trak" | b"mdia" | b"minf" | b"stbl" | b"dinf" => 8,
                b"meta" | b"iref" => 12,
                b"iinf" => 14,
                b"stsd" => 16,
                b"hvc1" | b"av01" => 86,
                _ => 0,
            };
            let payload = at + 8..end.min(at + 8 + 2 * FIELD_BYTES_MAX);
            for width in [1, 2, 4] {
                self.numbers(payload.clone(), width);
            }
            self.parts.push(at..end);
            if inner > 0 {
                self.boxes(bytes, end.min(at + inner)..end);
            }
            at = end;
        }
    }

    /// Finds the entries of the first directory. Their fields are the numbers.
    fn tiff(&mut self, bytes: &[u8]) {
        let is_little = bytes.starts_with(b"II");
        let number = |at: usize, len: usize| {
            let bytes = bytes.get(at..at.checked_add(len)?)?;
            let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
            Some(if is_little {
                bytes.iter().rev().fold(0, add)
            } else {
                bytes.iter().fold(0, add)
            })
        };
        let is_big = number(2, 2) == Some(43);
        let (offset_len, count_len, entry_len) = if is_big { (8, 8, 20) } else { (4, 2, 12) };
        self.fields.push(offset_len..2 * offset_len);
        let Some(directory) = number(offset_len, offset_len) else { return };
        let Some(count) = number(directory, count_len) else { return };
        self.fields.push(directory..directory + count_len);
        for index in 0..count.min(64) {
            let at = directory + count_len + index * entry_len;
            let end = at + entry_len;
            if end > bytes.len() {
                return;
            }
            let value = at + 4 + offset_len;
            self.fields.extend([at..at + 2, at + 2..at + 4, at + 4..value, value..end]);
            self.fields.push(value..value + 2);
            self.parts.push(at..end);
        }
    }
}

/// Makes one change with knowledge of the format: changes a number, or duplicates, removes or swaps
/// parts, or inserts a part of another file.
pub(crate) fn operate(rng: &mut Rng, kind: Kind, bytes: &mut Vec<u8>, donor: &[u8]) {
    let Anatomy { parts, fields } = Anatomy::of(kind, bytes);
    let is_number = parts.is_empty() || rng.bool();
    if is_number {
        if !fields.is_empty() {
            let field = fields[rng.usize(..fields.len())].clone();
            write_number(rng, bytes, field);
        }
        return;
    }
    let part = parts[rng.usize(..parts.len())].clone();
    let other = parts[rng.usize(..parts.len())].clone();
    if part.start < other.end && other.start < part.end && part != other {
        // A box and one inside of it.
        return;
    }
    // Entries of a TIFF directory have a fixed length and position.
    let is_fixed = kind == Kind::Tiff;
    match rng.u8(..4) {
        0 if is_fixed => bytes.copy_within(part, other.start),
        0 => {
            let copy = bytes[part].to_vec();
            bytes.splice(other.start..other.start, copy);
        }
        1 if is_fixed => bytes[part].fill(0),
        1 => drop(bytes.drain(part)),
        2 => {
            let (first, second) = (bytes[part.clone()].to_vec(), bytes[other.clone()].to_vec());
            if part.end <= other.start {
                bytes.splice(other, first);
                bytes.splice(part, second);
            }
        }
        _ => {
            let parts = Anatomy::of(kind, donor).parts;
            if !parts.is_empty() {
                let from = donor[parts[rng.usize(..parts.len())].clone()].to_vec();
                let replaced = if is_fixed && from.len() == part.len() {
                    part
                } else if is_fixed {
                    return;
                } else {
                    other.start..other.start
                };
                bytes.splice(replaced, from);
            }
        }
    }
}

/// Corrects lengths and checksums, so that decoders do not reject a changed file for those.
pub(crate) fn repair(kind: Kind, bytes: &mut [u8]) {
    match kind {
        Kind::Png => {
            for chunk in Anatomy::of(kind, bytes).parts {
                if chunk.len() >= 12 {
                    let end = chunk.end - 4;
                    let crc = crc32(&bytes[chunk.start + 4..end]);
                    bytes[end..chunk.end].copy_from_slice(&crc.to_be_bytes());
                }
            }
        }
        Kind::WebP => {
            let len = u32::try_from(bytes.len().saturating_sub(8)).unwrap();
            if let Some(field) = bytes.get_mut(4..8) {
                field.copy_from_slice(&len.to_le_bytes());
            }
        }
        _ => {}
    }
}

/// Computes the checksum of a PNG chunk.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn be32(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
