//! Rewrites the first page of a file into a form that the decoder reads: bits in the usual order,
//! and fax pages without compression.

use std::borrow::Cow;

use crate::imaging::codecs::tiff::directory::{
    BITS_PER_SAMPLE, COMPRESSION, Directory, FILL_ORDER, ROWS_PER_STRIP, SAMPLES_PER_PIXEL,
    STRIP_BYTE_COUNTS, STRIP_OFFSETS, T4_OPTIONS, TILE_BYTE_COUNTS, TILE_OFFSETS,
};
use crate::imaging::codecs::tiff::error::{FORMAT, too_large_inside};
use crate::imaging::codecs::tiff::fax::{Coding, unpack};
use crate::imaging::error::DecodeError;
use crate::imaging::header::Header;

const UNCOMPRESSED: u64 = 1;

/// Compression of strips or tiles that are JPEG files, in which the order of bits is fixed.
const JPEG: [u64; 3] = [6, 7, 34_892];

const LOWEST_BIT_FIRST: u64 = 2;

/// Returns the file in the form that the decoder reads.
pub(crate) fn rewritten<'a>(
    bytes: &'a [u8],
    directory: Directory<'a>,
    header: Header,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let compression = directory.number(COMPRESSION, UNCOMPRESSED);
    let is_reversed =
        directory.number(FILL_ORDER, 1) == LOWEST_BIT_FIRST && !JPEG.contains(&compression);
    let has_pixels_of_one_bit =
        directory.number(BITS_PER_SAMPLE, 1) == 1 && directory.number(SAMPLES_PER_PIXEL, 1) == 1;
    let options = directory.number(T4_OPTIONS, 0);
    let coding = match compression {
        2 => Some(Coding::Rows),
        3 if options & 1 == 0 => Some(Coding::Group3),
        3 => Some(Coding::Group3TwoDimensional),
        4 => Some(Coding::Group4),
        _ => None,
    };
    let mut page = Cow::Borrowed(bytes);
    if is_reversed {
        page = Cow::Owned(with_reversed_bits(bytes, directory)?);
    }
    if let Some(coding) = coding.filter(|_| has_pixels_of_one_bit)
        && let Some(strips) = strips(&page, directory)
    {
        let rows = unpack_strips(&strips, coding, directory, header)?;
        let mut unpacked = page.to_vec();
        let start = unpacked.len() as u64;
        unpacked.extend_from_slice(&rows);
        directory.set(&mut unpacked, COMPRESSION, UNCOMPRESSED);
        directory.set(&mut unpacked, STRIP_OFFSETS, start);
        directory.set(&mut unpacked, STRIP_BYTE_COUNTS, rows.len() as u64);
        directory.set(&mut unpacked, ROWS_PER_STRIP, u64::from(header.height));
        page = Cow::Owned(unpacked);
    }
    Ok(page)
}

/// Returns the data of all strips, or `None` if the page has none or the file ends before one.
fn strips<'a>(page: &'a [u8], directory: Directory<'_>) -> Option<Vec<&'a [u8]>> {
    let offsets = directory.numbers(STRIP_OFFSETS)?;
    let lens = directory.numbers(STRIP_BYTE_COUNTS)?;
    let ranges = offsets.into_iter().zip(lens);
    ranges.map(|(offset, len)| range(page, offset, len)).collect()
}

fn range(page: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    page.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(len).ok()?)
}

/// Decodes all strips to rows of bits, each of which starts at a byte boundary.
fn unpack_strips(
    strips: &[&[u8]],
    coding: Coding,
    directory: Directory<'_>,
    header: Header,
) -> Result<Vec<u8>, DecodeError> {
    let mut rows_left = header.height;
    let in_strip = directory.number(ROWS_PER_STRIP, u64::from(u32::MAX)).max(1);
    let in_strip = u32::try_from(in_strip).unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    for strip in strips {
        let count = rows_left.min(in_strip);
        unpack(strip, coding, header.width, count, &mut rows)?;
        rows_left -= count;
    }
    if rows_left > 0 {
        return Err(DecodeError::truncated(FORMAT, "its last strips are missing"));
    }
    Ok(rows)
}

/// Returns a copy of the file in which the bits of each byte of image data are in the usual order.
fn with_reversed_bits(bytes: &[u8], directory: Directory<'_>) -> Result<Vec<u8>, DecodeError> {
    let mut copy = bytes.to_vec();
    let mut bytes_left = bytes.len();
    for (offsets, lens) in [(STRIP_OFFSETS, STRIP_BYTE_COUNTS), (TILE_OFFSETS, TILE_BYTE_COUNTS)] {
        let (Some(offsets), Some(lens)) = (directory.numbers(offsets), directory.numbers(lens))
        else {
            continue;
        };
        for (offset, len) in offsets.into_iter().zip(lens) {
            let range = usize::try_from(offset).ok().zip(usize::try_from(len).ok());
            let data = range.and_then(|(at, len)| copy.get_mut(at..)?.get_mut(..len));
            let Some(data) = data else {
                return Err(DecodeError::truncated(FORMAT, "its data ends early"));
            };
            bytes_left = bytes_left.checked_sub(data.len()).ok_or_else(too_large_inside)?;
            for byte in data {
                *byte = byte.reverse_bits();
            }
        }
    }
    directory.set(&mut copy, FILL_ORDER, 1);
    Ok(copy)
}
