//! Decoding against Pillow: every file in `tests/goldens/imaging` decodes to the same picture.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use dog_iqa::imaging::{DecodeError, Filter, ImageFormat, Settings, decode, resize};
use image::codecs::png::PngDecoder;
use image::{DynamicImage, RgbImage};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Case {
    file: String,
    expected: String,
    largest: u8,
    mean: f64,
    reason: String,
}

#[derive(Deserialize)]
struct Resized {
    filter: String,
    width: u32,
    height: u32,
    sha256: String,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/imaging")
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(goldens().join(name)).expect("the golden is in the repository")
}

/// Reads the expected pixels without the code under test.
fn expected(name: &str) -> RgbImage {
    let decoder = PngDecoder::new(Cursor::new(golden(name))).expect("it is a PNG file");
    DynamicImage::from_decoder(decoder).expect("it is complete").into_rgb8()
}

#[test]
fn every_kind_of_file_decodes_as_in_pillow() {
    let cases: Vec<Case> = serde_json::from_slice(&golden("cases.json")).unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let picture = match decode(&golden(&case.file), &Settings::default()) {
            Ok(picture) => picture,
            Err(error) => {
                failures.push(format!("{}: {error}", case.file));
                continue;
            }
        };
        let expected = expected(&case.expected);
        if picture.pixels().dimensions() != expected.dimensions() {
            failures.push(format!("{}: {picture:?}", case.file));
            continue;
        }
        let differences = picture.pixels().iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b));
        let largest = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / expected.len() as f64;
        if largest > case.largest || mean > case.mean {
            failures.push(format!(
                "{}: largest difference {largest} (allowed {}), mean {mean:.3} (allowed {}): {}",
                case.file, case.largest, case.mean, case.reason
            ));
        }
    }
    assert!(cases.len() > 70, "the list is complete");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_format_is_detected_by_content() {
    for (name, format) in [
        ("420.jpg", ImageFormat::Jpeg),
        ("rgb.png", ImageFormat::Png),
        ("lossy.webp", ImageFormat::WebP),
        ("animated.gif", ImageFormat::Gif),
        ("rgb.bmp", ImageFormat::Bmp),
        ("raw.tif", ImageFormat::Tiff),
    ] {
        let bytes = golden(name);
        let picture = decode(&bytes, &Settings::default()).unwrap();
        assert_eq!(picture.format(), format, "{name}");
        assert_eq!(picture.bytes_len(), bytes.len() as u64);
        assert_eq!(picture.sha256()[..], Sha256::digest(&bytes)[..]);
    }
}

#[test]
fn a_truncated_file_is_an_error_and_never_a_partial_picture() {
    let cases: Vec<Case> = serde_json::from_slice(&golden("cases.json")).unwrap();
    for case in &cases {
        let bytes = golden(&case.file);
        for percent in [1, 10, 30, 50, 70, 90] {
            let truncated = &bytes[..bytes.len() * percent / 100];
            let error = match decode(truncated, &Settings::default()) {
                Ok(picture) => {
                    // A file that is truncated after its first frame or page has the same picture.
                    let whole = decode(&bytes, &Settings::default()).unwrap();
                    let is_same = picture.pixels() == whole.pixels();
                    assert!(is_same, "{} truncated to {percent} %: {picture:?}", case.file);
                    continue;
                }
                Err(error) => error,
            };
            let code = error.code();
            let is_expected = matches!(
                code,
                "decode.truncated"
                    | "decode.corrupt"
                    | "decode.empty"
                    | "decode.unsupported_format"
            );
            assert!(is_expected, "{} truncated to {percent} %: {code}", case.file);
        }
    }
}

#[test]
fn a_jpeg_without_its_last_blocks_is_truncated() {
    for name in ["420.jpg", "444.jpg", "progressive.jpg", "restarts.jpg", "cmyk-adobe.jpg"] {
        let bytes = golden(name);
        let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let lens = [scan + 14, bytes.len() / 2, bytes.len() * 9 / 10, bytes.len() - 5];
        for len in lens.into_iter().filter(|len| *len > scan + 12) {
            let error = decode(&bytes[..len], &Settings::default()).unwrap_err();
            assert_eq!(error.code(), "decode.truncated", "{name} truncated to {len}: {error}");
        }
    }
}

#[test]
fn bytes_after_the_end_of_a_jpeg_are_ignored() {
    let mut bytes = golden("444.jpg");
    let alone = decode(&bytes, &Settings::default()).unwrap();
    // Phones append depth maps and videos.
    bytes.extend(golden("420.jpg"));
    bytes.extend([0; 100]);
    assert_eq!(decode(&bytes, &Settings::default()).unwrap().pixels(), alone.pixels());
}

/// Returns the offset of the first byte of image data.
fn image_data(jpeg: &[u8]) -> usize {
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).expect("it has a scan");
    scan + 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]))
}

#[test]
fn a_jpeg_with_damaged_image_data_is_corrupt() {
    for name in ["444.jpg", "420.jpg", "grey.jpg"] {
        let mut bytes = golden(name);
        let start = image_data(&bytes);
        // No Huffman code consists only of ones.
        for pair in bytes[start + 20..start + 60].chunks_exact_mut(2) {
            pair.copy_from_slice(&[0xff, 0x00]);
        }
        let error = decode(&bytes, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), "decode.corrupt", "{name}: {error}");
    }
}

#[test]
fn a_second_scan_of_the_same_components_is_corrupt() {
    let mut bytes = golden("444.jpg");
    let start = image_data(&bytes);
    let scan = start - 14;
    let header = bytes[scan..start].to_vec();
    let middle = start + (bytes.len() - start) / 2;
    bytes.splice(middle..middle, header);
    let error = decode(&bytes, &Settings::default()).unwrap_err();
    assert_eq!(error.code(), "decode.corrupt", "{error}");
}

#[test]
fn stray_bytes_between_segments_are_skipped() {
    let clean = golden("444.jpg");
    let mut bytes = clean.clone();
    let tables = bytes.windows(2).position(|pair| pair == [0xff, 0xdb]).unwrap();
    bytes.splice(tables..tables, [0, 1, 2, 3, 4, 5, 0xff, 0x00, 7]);
    let picture = decode(&bytes, &Settings::default()).unwrap();
    let expected = decode(&clean, &Settings::default()).unwrap();
    assert_eq!(picture.pixels(), expected.pixels());
}

#[test]
fn a_file_of_another_kind_is_reported_by_its_kind() {
    let check = |content: &[u8], word: &str| {
        let error = decode(content, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), "decode.unsupported_format");
        assert!(error.to_string().contains(word), "{error}");
    };
    check(b"\n<!DOCTYPE html><html><body>Not found</body></html>", "an HTML page");
    check(b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>", "an XML document");
    check(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "an SVG drawing");
    check(b"{\"message\": \"forbidden\"}", "JSON");
    check(b"%PDF-1.7", "a PDF document");
    check(b"\0\0\0\x18ftypisom\0\0\0\0mp41isom", "a video");
    for (is_built, content, word) in [
        (
            cfg!(feature = "heic"),
            &b"\0\0\0\x14ftypheic\0\0\0\0mif1"[..],
            "an HEIC image, for which",
        ),
        (cfg!(feature = "heic"), b"\0\0\0\x14ftypheim\0\0\0\0mif1", "an HEIC image, for which"),
        (cfg!(feature = "avif"), b"\0\0\0\x14ftypmif1\0\0\0\0avif", "an AVIF image, for which"),
        (cfg!(feature = "jxl"), b"\xff\x0a\xfa\x1f", "a JPEG XL image, for which"),
    ] {
        if is_built {
            // Only the start of a file of this format.
            let error = decode(content, &Settings::default()).unwrap_err();
            assert_eq!(error.code(), "decode.truncated", "{error}");
        } else {
            check(content, word);
        }
    }
    check(b"BMbut just a sentence", "no known image format");
    check(b"\xff", "no known image format");
    assert_eq!(decode(b"", &Settings::default()).unwrap_err(), DecodeError::Empty);
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    let (width, height) = (157, 103);
    let mut state: u32 = 1;
    let samples = (0..width * height * 3).map(|_| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        u8::try_from(state >> 23).unwrap()
    });
    let source = RgbImage::from_raw(width, height, samples.collect()).unwrap();
    let cases: Vec<Resized> = serde_json::from_slice(&golden("resize.json")).unwrap();
    assert!(cases.len() >= 36, "the list is complete");
    for Resized { filter, width, height, sha256 } in cases {
        let kind = match filter.as_str() {
            "box" => Filter::Box,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let resized = resize(&source, width, height, kind);
        let digest = hex::encode(Sha256::digest(resized.as_raw()));
        assert_eq!(digest, sha256, "{filter} to {width}×{height}");
    }
}
