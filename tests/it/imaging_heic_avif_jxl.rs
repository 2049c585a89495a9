//! HEIC, AVIF and JPEG XL against their reference decoders: every file in
//! `tests/goldens/heic_avif_jxl`, and in the folders of `DOGIQA_GOLDENS`, decodes to the same
//! picture.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use dog_iqa::imaging::{ImageFormat, OrientationRule, Settings, decode, probe};
use image::codecs::png::PngDecoder;
use image::{DynamicImage, RgbImage};
use serde::Deserialize;

use crate::golden_folders::{Suite, announce, folders, shown};

const FOLDER: &str = "heic_avif_jxl";

#[derive(Deserialize)]
struct Case {
    file: String,
    expected: String,
    largest: u8,
    mean: f64,
    reason: String,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(FOLDER)
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(goldens().join(name)).expect("the golden is in the repository")
}

fn cases(folder: &Path) -> Vec<Case> {
    serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap()
}

/// Reads the expected pixels without the code under test.
fn png(path: &Path) -> RgbImage {
    let decoder = PngDecoder::new(Cursor::new(fs::read(path).unwrap())).expect("it is a PNG file");
    DynamicImage::from_decoder(decoder).expect("it is complete").into_rgb8()
}

#[test]
fn every_file_decodes_as_by_its_reference_decoder() {
    let mut failures = Vec::new();
    // Folders of other formats, too, have the layout of these.
    for folder in folders(Suite::Decoding, &[FOLDER, "imaging"]) {
        let cases = cases(&folder);
        for case in &cases {
            failures.extend(failure(&folder, case));
        }
        announce(&format!("golden {}: {} pictures compared\n", shown(&folder), cases.len()));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Compares a file with its expected picture, and describes the difference if it is too large.
fn failure(folder: &Path, case: &Case) -> Option<String> {
    let Case { file, largest: largest_max, mean: mean_max, reason, .. } = case;
    let picture = match decode(&fs::read(folder.join(file)).unwrap(), &Settings::default()) {
        Ok(picture) => picture,
        Err(error) => return Some(format!("{file}: {error}")),
    };
    let expected = png(&folder.join(&case.expected));
    if picture.pixels().dimensions() != expected.dimensions() {
        return Some(format!("{file}: {picture:?}, expected {:?}", expected.dimensions()));
    }
    let differences = picture.pixels().iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b));
    let largest = differences.clone().max().unwrap_or(0);
    let mean = differences.map(f64::from).sum::<f64>() / expected.len() as f64;
    (largest > *largest_max || mean > *mean_max).then(|| {
        format!(
            "{file}: largest difference {largest} (allowed {largest_max}), mean {mean:.3} \
             (allowed {mean_max}): {reason}"
        )
    })
}

#[test]
fn every_case_is_listed_and_its_format_is_detected() {
    let cases = cases(&goldens());
    for (ending, format, count) in [
        (".heic", ImageFormat::Heic, 25),
        (".avif", ImageFormat::Avif, 20),
        (".jxl", ImageFormat::Jxl, 15),
    ] {
        let files = cases.iter().filter(|case| case.file.ends_with(ending));
        assert!(files.clone().count() >= count, "the list of {ending} files is complete");
        for case in files {
            let header = probe(&golden(&case.file), &Settings::default()).unwrap();
            assert_eq!(header.format, format, "{}", case.file);
        }
    }
}

#[test]
fn a_truncated_file_is_an_error_and_never_a_partial_picture() {
    for case in cases(&goldens()) {
        let bytes = golden(&case.file);
        for percent in [1, 5, 10, 30, 50, 70, 90, 99] {
            let truncated = &bytes[..bytes.len() * percent / 100];
            match decode(truncated, &Settings::default()) {
                Ok(picture) => {
                    // The rest after the first frame or the primary image may be missing.
                    let whole = decode(&bytes, &Settings::default()).unwrap();
                    let is_same = picture.pixels() == whole.pixels();
                    assert!(is_same, "{} truncated to {percent} %: {picture:?}", case.file);
                }
                Err(error) => {
                    let is_expected =
                        ["decode.truncated", "decode.unsupported_format"].contains(&error.code());
                    assert!(is_expected, "{} truncated to {percent} %: {error}", case.file);
                }
            }
        }
    }
}

#[test]
fn a_container_turns_its_picture_once_and_only_if_asked() {
    let as_stored = Settings { orientation: OrientationRule::AsStored, ..Settings::default() };
    for ending in ["heic", "avif", "jxl"] {
        let bytes = golden(&format!("orientation-6.{ending}"));
        let size = |settings: &Settings| {
            let picture = decode(&bytes, settings).unwrap();
            (picture.width(), picture.height())
        };
        assert_eq!(size(&Settings::default()), (70, 96), "{ending}");
        assert_eq!(size(&as_stored), (96, 70), "{ending}");
    }
    // Its EXIF data asks for a turn, and its container does not.
    let picture = decode(&golden("exif-orientation.heic"), &Settings::default()).unwrap();
    assert_eq!((picture.width(), picture.height()), (96, 70));
}

#[test]
fn high_dynamic_range_is_refused_by_name() {
    for (name, function) in [("pq.jxl", "PQ"), ("hlg.jxl", "HLG")] {
        let error = decode(&golden(name), &Settings::default()).unwrap_err();
        assert_eq!(error.code(), "decode.unsupported_feature");
        assert!(error.to_string().contains(function), "{error}");
    }
}

/// Replaces the only occurrence of bytes.
fn replaced(file: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = golden(file);
    let mut found = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from);
    let at = found.next().expect("the bytes occur").0;
    assert!(found.next().is_none(), "the bytes occur once");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn what_is_not_supported_is_named() {
    for (bytes, word) in [
        (replaced("grey.heic", b"hvc1", b"avc1"), "AVC (H.264)"),
        (replaced("grey.heic", b"hvc1", b"vvc1"), "VVC (H.266)"),
        (replaced("grey.heic", b"hvc1", b"jpeg"), "JPEG"),
        (replaced("grey.heic", b"hvc1", b"unci"), "uncompressed"),
        (replaced("grey.heic", b"hvc1", b"lhv1"), "several layers"),
        (replaced("grey.avif", b"av01", b"j2k1"), "JPEG 2000"),
        (golden("mini.heic"), "compact container"),
        (replaced("444.heic", b"nclx\0\x01\0\x0d\0\x06", b"nclx\0\x01\0\x0d\0\x0e"), "ICtCp"),
        (replaced("444.heic", b"nclx\0\x01\0\x0d\0\x06", b"nclx\0\x09\0\x10\0\x09"), "(PQ)"),
    ] {
        let error = decode(&bytes, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), "decode.unsupported_feature", "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn damage_in_a_picture_is_corrupt() {
    for name in
        ["444.heic", "420.heic", "444.avif", "420.avif", "lossy.jxl", "lossless.jxl", "jpeg.jxl"]
    {
        let whole = golden(name);
        for percent in [50, 60, 70, 80] {
            let mut bytes = whole.clone();
            let start = bytes.len() * percent / 100;
            for byte in &mut bytes[start..start + 4] {
                *byte = !*byte;
            }
            let error = decode(&bytes, &Settings::default()).unwrap_err();
            assert_eq!(error.code(), "decode.corrupt", "{name} at {percent} %: {error}");
        }
    }
}
