//! Mutations that ignore the format: bits, bytes, ranges, numbers, truncation, splices.

use std::ops::Range;

use fastrand::Rng;

/// Maximum length of a mutated file, in bytes. Small files are fast and find the same faults.
const LEN_MAX: usize = 64 << 10;

/// Numbers at which arithmetic often fails.
const INTERESTING: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Makes one to six changes, most often one.
pub(crate) fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, donor: &[u8]) {
    let changes = 1 + rng.usize(..6) * rng.usize(..2);
    for _ in 0..changes {
        change(rng, bytes, donor);
    }
    bytes.truncate(LEN_MAX);
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, donor: &[u8]) {
    if bytes.is_empty() {
        bytes.extend_from_slice(donor);
        return;
    }
    match rng.u8(..12) {
        0..3 => {
            let at = position(rng, bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
        }
        3..5 => {
            let at = position(rng, bytes.len());
            bytes[at] = rng.u8(..);
        }
        5..7 => {
            let width = 1 << rng.usize(..4);
            let at = position(rng, bytes.len());
            let end = bytes.len().min(at + width);
            write_number(rng, bytes, at..end);
        }
        7 => bytes.truncate(rng.usize(..bytes.len())),
        8 => {
            let range = range(rng, bytes.len());
            let copy = bytes[range].to_vec();
            let at = position(rng, bytes.len());
            bytes.splice(at..at, copy);
        }
        9 => {
            let range = range(rng, bytes.len());
            bytes.drain(range);
        }
        10 => {
            let noise: Vec<u8> = (0..rng.usize(1..32)).map(|_| rng.u8(..)).collect();
            let at = position(rng, bytes.len());
            bytes.splice(at..at, noise);
        }
        _ => {
            // The start of this file with the end of the other.
            bytes.truncate(position(rng, bytes.len()));
            bytes.extend_from_slice(&donor[rng.usize(..=donor.len())..]);
        }
    }
}

/// Overwrites a field with a number from [`INTERESTING`] or near one, in either byte order.
pub(crate) fn write_number(rng: &mut Rng, bytes: &mut [u8], field: Range<usize>) {
    let mut number = INTERESTING[rng.usize(..INTERESTING.len())];
    if rng.bool() {
        number = number.wrapping_add(rng.u64(..8)).wrapping_sub(4);
    }
    if rng.u8(..8) == 0 {
        number = rng.u64(..);
    }
    let field = &mut bytes[field];
    let width = field.len().min(8);
    if rng.bool() {
        field[..width].copy_from_slice(&number.to_le_bytes()[..width]);
    } else {
        field[..width].copy_from_slice(&number.to_be_bytes()[8 - width..]);
    }
}

/// Returns a random position. Headers, at the start, are more likely than their length suggests.
fn position(rng: &mut Rng, len: usize) -> usize {
    if rng.bool() { rng.usize(..len) } else { rng.usize(..len.min(160)) }
}

fn range(rng: &mut Rng, len: usize) -> Range<usize> {
    let start = position(rng, len);
    let length = if rng.bool() { rng.usize(..16) } else { rng.usize(..=len - start) };
    start..len.min(start + length)
}
