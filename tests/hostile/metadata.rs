//! Metadata of images: colour profiles and orientation. Invalid metadata never fails the image.

use fastrand::Rng;

use super::anatomy::{Anatomy, Kind};
use super::bombs::{jpeg_segment, png_chunk, zlib};
use super::campaign::{Target, run};
use super::decode;
use super::images::{file, files};
use super::mutate::{mutate, write_number};

/// Start of a segment with a colour profile: its name, its number and the number of segments.
const ICC: &[u8] = b"ICC_PROFILE\0\x01\x01";
const EXIF: &[u8] = b"Exif\0\0";

#[test]
fn hostile_colour_profiles() {
    // Each profile with a picture in its colour space.
    let pairs: Vec<_> = [
        ("icc-p3.jpg", "444.jpg"),
        ("icc-grey.jpg", "grey.jpg"),
        ("icc-cmyk.jpg", "cmyk-adobe.jpg"),
    ]
    .map(|(profile, picture)| (segment(&file(profile), ICC), file(picture)))
    .into();
    let sixteen = file("sixteen.png");
    let generate = |rng: &mut Rng| {
        let (profile, picture) = &pairs[rng.usize(..pairs.len())];
        let (donor, _) = &pairs[rng.usize(..pairs.len())];
        let mut profile = profile.clone();
        // The tag table starts at byte 128 with the number of tags. Each tag has a name, an offset
        // and a length.
        for _ in 0..rng.u8(..4) {
            let at = 128 + 4 * rng.usize(..40);
            if at + 4 <= profile.len() {
                write_number(rng, &mut profile, at..at + 4);
            }
        }
        mutate(rng, &mut profile, donor);
        if rng.u8(..4) == 0 {
            let chunk = png_chunk(*b"iCCP", &[b"p\0\0".as_slice(), &zlib(&profile)].concat());
            return inserted(&sixteen, 33, &chunk);
        }
        inserted(picture, 2, &jpeg_segment(0xe2, &[ICC, &profile].concat()))
    };
    run(&Target {
        name: "hostile_colour_profiles",
        cost: 10,
        generate: &generate,
        check: &|bytes| check_still_decodes(bytes),
        memory_max: &|bytes| decode::memory_max(bytes),
    });
}

#[test]
fn hostile_orientations() {
    let exif: Vec<_> = files(".jpg")
        .iter()
        .map(|jpeg| segment(jpeg, EXIF))
        .filter(|exif| !exif.is_empty())
        .collect();
    assert_eq!(exif.len(), 8, "one file for each orientation");
    let (jpeg, png) = (file("444.jpg"), file("rgb.png"));
    let generate = |rng: &mut Rng| {
        let mut exif = exif[rng.usize(..exif.len())].clone();
        let fields = Anatomy::of(Kind::Tiff, &exif).fields;
        for _ in 0..rng.u8(..4) {
            let field = fields[rng.usize(..fields.len())].clone();
            write_number(rng, &mut exif, field);
        }
        if rng.bool() {
            mutate(rng, &mut exif, b"MM\0*\0\0\0\x08");
        }
        if rng.bool() {
            return inserted(&png, 33, &png_chunk(*b"eXIf", &exif));
        }
        inserted(&jpeg, 2, &jpeg_segment(0xe1, &[EXIF, &exif].concat()))
    };
    run(&Target {
        name: "hostile_orientations",
        cost: 1,
        generate: &generate,
        check: &|bytes| check_still_decodes(bytes),
        memory_max: &|bytes| decode::memory_max(bytes),
    });
}

/// Asserts that the image decodes: invalid metadata never fails it.
fn check_still_decodes(bytes: &[u8]) -> bool {
    assert!(decode::check(bytes), "the image is refused for its metadata");
    true
}

/// Returns the first segment of a JPEG file that starts with this name, without the name. Returns
/// nothing if there is none.
fn segment(jpeg: &[u8], name: &[u8]) -> Vec<u8> {
    let mut payloads =
        Anatomy::of(Kind::Jpeg, jpeg).parts.into_iter().filter_map(|part| jpeg[part].get(4..));
    payloads.find_map(|payload| payload.strip_prefix(name)).unwrap_or_default().to_vec()
}

fn inserted(file: &[u8], at: usize, part: &[u8]) -> Vec<u8> {
    [&file[..at], part, &file[at..]].concat()
}
