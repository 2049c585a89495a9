//! Damaged JPEG files: a changed picture is refused, except for damage that leaves no trace.
//!
//! Huffman codes resynchronise after some bytes. If as many blocks were decoded as before, and all
//! are possible, the file is a legal one of another picture, which no decoder can detect.

use std::fs;
use std::ops::Range;
use std::path::Path;

use dog_iqa::imaging::{Picture, Settings, decode};
use fastrand::Rng;

/// Damages of each kind per file.
const TRIES: usize = 100;

/// Mean absolute difference of samples below which a picture counts as unchanged.
const UNCHANGED: f64 = 0.5;

const FILES: [&str; 5] = ["420.jpg", "444.jpg", "grey.jpg", "progressive.jpg", "restarts.jpg"];

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/jpeg_damage");
    fs::read(folder.join(name)).unwrap()
}

fn is_restart(pair: &[u8]) -> bool {
    pair[0] == 0xff && matches!(pair[1], 0xd0..=0xd7)
}

/// Returns the ranges of entropy-coded data.
fn image_data(jpeg: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 2;
    while jpeg[at + 1] != 0xd9 {
        let marker = jpeg[at + 1];
        at += 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if marker == 0xda {
            let is_marker = |pair: &[u8]| pair[0] == 0xff && pair[1] != 0 && !is_restart(pair);
            let len = jpeg[at..].windows(2).position(is_marker).unwrap();
            ranges.push(at..at + len);
            at += len;
        }
    }
    ranges
}

/// Returns a random position in the data.
fn position(rng: &mut Rng, ranges: &[Range<usize>]) -> usize {
    let mut offset = rng.usize(..ranges.iter().map(Range::len).sum::<usize>());
    for range in ranges {
        if offset < range.len() {
            return range.start + offset;
        }
        offset -= range.len();
    }
    unreachable!("the offset is below the sum")
}

/// Damages each file and returns the share of changed pictures that were refused.
fn refused(seed: u64, damage: impl Fn(&mut Rng, &mut Vec<u8>, usize)) -> f64 {
    let mut rng = Rng::with_seed(seed);
    let (mut changed, mut refused) = (0.0, 0.0);
    for name in FILES {
        let sound = file(name);
        let expected = decode(&sound, &Settings::default()).unwrap();
        let ranges = image_data(&sound);
        for _ in 0..TRIES {
            let mut damaged = sound.clone();
            let at = position(&mut rng, &ranges);
            damage(&mut rng, &mut damaged, at);
            match decode(&damaged, &Settings::default()) {
                Err(error) => {
                    let codes = ["decode.corrupt", "decode.truncated"];
                    assert!(codes.contains(&error.code()), "{name}: {error}");
                    changed += 1.0;
                    refused += 1.0;
                }
                Ok(picture) => changed += f64::from(u8::from(differs(&picture, &expected))),
            }
        }
    }
    refused / changed
}

fn differs(picture: &Picture, expected: &Picture) -> bool {
    let pairs = picture.pixels().iter().zip(expected.pixels().iter());
    let sum: f64 = pairs.map(|(found, expected)| f64::from(found.abs_diff(*expected))).sum();
    sum > UNCHANGED * expected.pixels().len() as f64
}

/// Asserts that the share of refused files is at least the floor, for each number of bytes.
fn assert_refused(
    name: &str,
    floors: [(usize, f64); 5],
    damage: impl Fn(&mut Rng, &mut Vec<u8>, usize, usize),
) {
    let shares =
        floors.map(|(len, _)| refused(len as u64, |rng, bytes, at| damage(rng, bytes, at, len)));
    let is_sufficient = shares.iter().zip(floors).all(|(share, (_, floor))| *share >= floor);
    assert!(is_sufficient, "of {name} bytes: {shares:.3?} refused, not {floors:?}");
}

#[test]
fn most_overwritten_data_is_refused() {
    let floors = [(1, 0.62), (4, 0.62), (16, 0.72), (40, 0.84), (200, 0.97)];
    assert_refused("overwritten", floors, |rng, bytes, at, len| {
        let end = (at + len).min(bytes.len() - 2);
        for byte in &mut bytes[at..end] {
            *byte = rng.u8(..);
        }
    });
}

#[test]
fn most_lost_data_is_refused() {
    let floors = [(1, 0.62), (4, 0.62), (10, 0.56), (40, 0.78), (100, 0.92)];
    assert_refused("lost", floors, |_, bytes, at, len| {
        let end = (at + len).min(bytes.len() - 2);
        bytes.drain(at..end);
    });
}

#[test]
fn data_that_is_cut_before_an_end_marker_is_always_refused() {
    let share = refused(1, |_, bytes, at| {
        bytes.truncate(at);
        bytes.extend([0xff, 0xd9]);
    });
    assert!(share >= 1.0, "{share:.3} of the changed pictures are refused");
}

#[test]
fn every_lost_repeated_or_renumbered_restart_marker_is_refused() {
    let sound = file("restarts.jpg");
    let markers: Vec<usize> = image_data(&sound)
        .into_iter()
        .flatten()
        .filter(|at| is_restart(&sound[*at..at + 2]))
        .collect();
    assert!(markers.len() >= 7, "it has {} restart markers", markers.len());
    for at in markers {
        let pair = [sound[at], sound[at + 1]];
        let mut lost = sound.clone();
        lost.drain(at..at + 2);
        let mut repeated = sound.clone();
        repeated.splice(at..at, pair);
        let mut renumbered = sound.clone();
        renumbered[at + 1] = 0xd0 + (pair[1] + 1) % 8;
        for damaged in [lost, repeated, renumbered] {
            let error = decode(&damaged, &Settings::default()).unwrap_err();
            assert_eq!(error.code(), "decode.corrupt", "marker at {at}: {error}");
        }
    }
}

#[test]
fn a_header_that_claims_more_than_the_data_is_refused() {
    for name in FILES {
        let mut jpeg = file(name);
        let frame = jpeg.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).unwrap();
        for (offset, side) in [(5, 400_u16), (7, 400), (5, 8000), (7, 8000)] {
            let stored = [jpeg[frame + offset], jpeg[frame + offset + 1]];
            jpeg[frame + offset..frame + offset + 2].copy_from_slice(&side.to_be_bytes());
            let error = decode(&jpeg, &Settings::default()).unwrap_err();
            let codes = ["decode.corrupt", "decode.truncated"];
            assert!(codes.contains(&error.code()), "{name}: {error}");
            jpeg[frame + offset..frame + offset + 2].copy_from_slice(&stored);
        }
    }
}
