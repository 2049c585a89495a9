//! Checks strips and tiles that are JPEG files, before the `tiff` crate decodes them.

use std::io::Cursor;

use tiff::decoder::ifd::Value;
use tiff::decoder::{ChunkType, Decoder};
use tiff::tags::Tag;

use crate::imaging::codecs::jpeg;
use crate::imaging::codecs::tiff::error::{FORMAT, classify, too_large_inside};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;

/// Compression of strips or tiles that are JPEG files.
const JPEG: u16 = 7;

/// Pixels that JPEG strips or tiles may have beyond four times those of the image: one large tile,
/// of which a small image fills a corner.
const EXCESS_PX: u64 = 1 << 22;

/// Refuses JPEG strips and tiles that are larger than the image explains, or damaged. The decoder
/// decodes each one whole, at the size that its own header claims, and copies its bytes and the
/// common tables. It fills damaged blocks in, so each one is also decoded here.
pub(crate) fn check(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    bytes: &[u8],
    header: Header,
) -> Result<(), DecodeError> {
    if decoder.find_tag_unsigned(Tag::Compression).map_err(classify)? != Some(JPEG) {
        return Ok(());
    }
    let (offsets, lens) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(classify)?;
    let lens = decoder.get_tag_u64_vec(lens).map_err(classify)?;
    let tables = decoder.find_tag(Tag::JPEGTables).map_err(classify)?;
    let tables = tables.map(Value::into_u8_vec).transpose().map_err(classify)?;

    let mut pixels_left = 4 * u64::from(header.width) * u64::from(header.height) + EXCESS_PX;
    let mut bytes_left = bytes.len().saturating_mul(16) + (1 << 20);
    for (offset, len) in offsets.into_iter().zip(lens) {
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        let chunk = usize::try_from(len).ok().and_then(|len| rest.get(..len)).unwrap_or(rest);
        // Joined without the end marker of the tables and the start marker of the chunk.
        let (tables, scans) = match tables.as_deref().and_then(<[u8]>::split_last_chunk::<2>) {
            Some((tables, _)) => (tables, chunk.get(2..).unwrap_or_default()),
            None => (&[][..], chunk),
        };
        let copied = tables.len() + scans.len();
        bytes_left = bytes_left.checked_sub(copied).ok_or_else(too_large_inside)?;
        let jpeg = [tables, scans].concat();
        let (width, height) = jpeg::size(&jpeg).map_err(of_tiff)?.unwrap_or((0, 0));
        let pixels = u64::from(width) * u64::from(height);
        pixels_left = pixels_left.checked_sub(pixels).ok_or_else(too_large_inside)?;
        let header = Header { format: ImageFormat::Jpeg, width, height };
        drop(jpeg::decode(&jpeg, header).map_err(of_tiff)?);
    }
    Ok(())
}

/// Attributes an error of a strip or tile to the file.
fn of_tiff(error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Truncated { detail, .. } => DecodeError::Truncated { format: FORMAT, detail },
        DecodeError::Corrupt { detail, .. } => DecodeError::Corrupt { format: FORMAT, detail },
        DecodeError::UnsupportedFeature { feature, .. } => {
            DecodeError::UnsupportedFeature { format: FORMAT, feature }
        }
        other => other,
    }
}
