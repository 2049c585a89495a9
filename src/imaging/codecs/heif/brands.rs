//! The brands of a file: they tell image files from videos, and HEIC from AVIF.
//!
//! Sources: ISO/IEC 23008-12, annexes B to M; the AV1 image file format, section 7.

use crate::imaging::codecs::heif::boxes::{Fields, boxes};

/// A kind of image file that the first box announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// HEVC images, or images of any coding in the same container.
    Heic,
    Avif,
    /// A video or another kind of file.
    Other,
}

const HEVC: [&[u8; 4]; 8] =
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"];
const AV1: [&[u8; 4]; 2] = [b"avif", b"avis"];
/// Image files whose brand does not name a coding, or one that is not supported.
const OTHER_IMAGES: [&[u8; 4]; 11] = [
    b"mif1", b"mif2", b"mif3", b"msf1", b"avci", b"avcs", b"jpeg", b"jpgs", b"vvic", b"vvis",
    b"j2ki",
];

/// Returns the family of a file that starts with a file type box, or `None` without such a box.
pub(crate) fn family(bytes: &[u8]) -> Option<Family> {
    let first = boxes(bytes).next().filter(|entry| entry.kind == *b"ftyp")?;
    let mut fields = Fields(first.payload);
    let major = fields.code()?;
    let compatible = fields.0.get(4..).unwrap_or_default().as_chunks::<4>().0;
    let is_any = |list: &[&[u8; 4]], brand: &[u8; 4]| list.contains(&brand);
    if is_any(&AV1, &major) {
        return Some(Family::Avif);
    }
    if is_any(&HEVC, &major) {
        return Some(Family::Heic);
    }
    // A video may list the brands of image sequences, so its own brand decides.
    let may_be_image = is_any(&OTHER_IMAGES, &major)
        || compatible.iter().any(|brand| matches!(brand, b"mif1" | b"heic" | b"avif"));
    Some(if !may_be_image {
        Family::Other
    } else if compatible.iter().any(|brand| is_any(&AV1, brand))
        && !compatible.iter().any(|brand| is_any(&HEVC, brand))
    {
        Family::Avif
    } else {
        Family::Heic
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(brands: &[&[u8; 4]]) -> Vec<u8> {
        let len = u32::try_from(8 + 4 + 4 * brands.len()).unwrap();
        let mut bytes = [&len.to_be_bytes()[..], b"ftyp", brands[0], &[0; 4]].concat();
        bytes.extend(brands[1..].iter().copied().flatten());
        bytes
    }

    #[test]
    fn the_major_brand_decides_and_a_general_one_leaves_it_to_the_compatible_ones() {
        for (brands, expected) in [
            (&[b"heic", b"mif1"][..], Family::Heic),
            (&[b"heim", b"mif1"], Family::Heic),
            (&[b"avif", b"mif1"], Family::Avif),
            (&[b"mif1", b"avif"], Family::Avif),
            (&[b"mif1", b"heic", b"avif"], Family::Heic),
            (&[b"msf1", b"avis"], Family::Avif),
            (&[b"mif1"], Family::Heic),
            (&[b"MiHB", b"mif1", b"heix"], Family::Heic),
            (&[b"isom", b"mp41"], Family::Other),
            (&[b"isom", b"hevc"], Family::Other),
            (&[b"M4V ", b"M4A "], Family::Other),
        ] {
            assert_eq!(family(&file(brands)), Some(expected), "{brands:?}");
        }
        assert_eq!(family(b"\0\0\0\x0cmoovabcd"), None);
    }
}
