//! The orientation in EXIF data, which is a TIFF directory.

use image::metadata::Orientation;

use crate::imaging::codecs::byte_order::{be16, be32, le16, le32};

const ORIENTATION: u32 = 0x0112;

/// Reads the orientation from EXIF data. Missing or broken data means upright.
pub(crate) fn orientation(exif: Option<&[u8]>) -> Orientation {
    // Some writers keep the prefix that EXIF has in JPEG files.
    exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
        .and_then(stored)
        .and_then(|value| u8::try_from(value).ok())
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// Returns the number in the first directory's entry.
fn stored(exif: &[u8]) -> Option<u32> {
    type Read = fn(&[u8], usize) -> Option<u32>;
    let (read16, read32): (Read, Read) = match exif.get(..4)? {
        b"II*\0" => (le16, le32),
        b"MM\0*" => (be16, be32),
        _ => return None,
    };
    let directory = read32(exif, 4)? as usize;
    let count = read16(exif, directory)? as usize;
    let entries = (0..count).map(|index| directory + 2 + 12 * index);
    for at in entries {
        if read16(exif, at)? != ORIENTATION {
            continue;
        }
        // The number is a SHORT by the standard. Some devices write a LONG, or a signed one.
        return match read16(exif, at + 2)? {
            1 => exif.get(at + 8).copied().map(u32::from),
            3 | 8 => read16(exif, at + 8),
            4 | 9 => read32(exif, at + 8),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(is_little: bool, kind: u16, value: [u8; 4]) -> Vec<u8> {
        let number = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let magic: &[u8] = if is_little { b"II*\0\x08\0\0\0" } else { b"MM\0*\0\0\0\x08" };
        let count = if is_little { [1, 0, 0, 0] } else { [0, 0, 0, 1] };
        let other = [number(0x010f), number(2), number(0), number(0), number(0), number(0)];
        let entry = [number(0x0112), number(kind)];
        [magic, &number(2), &other.concat(), &entry.concat(), &count, &value].concat()
    }

    #[test]
    fn the_number_is_read_in_every_type_of_integer() {
        for (is_little, kind, value) in [
            (true, 3, [6, 0, 0, 0]),
            (false, 3, [0, 6, 0, 0]),
            (true, 4, [6, 0, 0, 0]),
            (false, 4, [0, 0, 0, 6]),
            (true, 1, [6, 0, 0, 0]),
            (false, 8, [0, 6, 0, 0]),
            (false, 9, [0, 0, 0, 6]),
        ] {
            let bytes = exif(is_little, kind, value);
            assert_eq!(orientation(Some(&bytes)), Orientation::Rotate90, "type {kind}");
            let prefixed = [b"Exif\0\0", bytes.as_slice()].concat();
            assert_eq!(orientation(Some(&prefixed)), Orientation::Rotate90);
        }
    }

    #[test]
    fn anything_else_is_upright() {
        let sound = exif(true, 3, [6, 0, 0, 0]);
        let broken = [
            exif(true, 3, [0, 0, 0, 0]),
            exif(true, 3, [9, 0, 0, 0]),
            exif(true, 4, [6, 1, 0, 0]),
            exif(true, 5, [6, 0, 0, 0]),
            exif(true, 2, *b"6\0\0\0"),
            sound[..sound.len() - 4].to_vec(),
            b"II*\0\xff\xff\xff\xff".to_vec(),
            b"<x:xmpmeta".to_vec(),
            Vec::new(),
        ];
        for bytes in broken {
            assert_eq!(orientation(Some(&bytes)), Orientation::NoTransforms, "{bytes:?}");
        }
        assert_eq!(orientation(None), Orientation::NoTransforms);
    }
}
