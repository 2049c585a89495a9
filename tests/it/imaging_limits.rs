//! Limits that are checked before decoding, for every format.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use allocation_counter::measure;
use dog_iqa::imaging::{ImageFormat, Settings, decode, probe};
use image::DynamicImage;
use proptest::prelude::*;

/// Memory for refusing a giant image: enough for its header, too little for one row of its pixels.
const REFUSAL_BYTES_MAX: u64 = 32 << 10;

/// Returns a header of each format with this size, and no image data.
fn headers(width: u32, height: u32) -> Vec<(ImageFormat, Vec<u8>)> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    png.extend([8, 2, 0, 0, 0]);
    // The checksum does not matter: the size is refused before it is verified.
    png.extend([0; 4]);

    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend(width.to_le_bytes());
    // A negative height means top-down rows.
    bmp.extend(height.wrapping_neg().to_le_bytes());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);

    let mut tiff = b"II*\0\x08\0\0\0\x02\0".to_vec();
    for (tag, value) in [(256_u16, width), (257, height)] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(b"\x04\0\x01\0\0\0");
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([0; 4]);

    let mut webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
    webp.extend(&(width - 1).to_le_bytes()[..3]);
    webp.extend(&(height - 1).to_le_bytes()[..3]);

    vec![
        (ImageFormat::Png, png),
        (ImageFormat::Bmp, bmp),
        (ImageFormat::Tiff, tiff),
        (ImageFormat::WebP, webp),
    ]
}

/// Returns the same for GIF and JPEG, which have 16 bits for a side.
fn small_headers(width: u16, height: u16) -> Vec<(ImageFormat, Vec<u8>)> {
    let mut gif = b"GIF89a".to_vec();
    gif.extend(width.to_le_bytes());
    gif.extend(height.to_le_bytes());
    gif.extend([0; 3]);

    let mut jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc0\0\x11\x08".to_vec();
    jpeg.extend(height.to_be_bytes());
    jpeg.extend(width.to_be_bytes());
    jpeg.extend(b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01");
    vec![(ImageFormat::Gif, gif), (ImageFormat::Jpeg, jpeg)]
}

#[test]
fn a_giant_header_is_refused_before_its_pixels_are_allocated() {
    let giants = headers(100_000, 100_000).into_iter().chain(small_headers(65_535, 65_535));
    for (format, bytes) in giants {
        let probed = probe(&bytes, &Settings::default()).unwrap_err();
        let mut decoded = None;
        let used = measure(|| decoded = decode(&bytes, &Settings::default()).err());
        assert_eq!(probed.code(), "decode.too_large", "{format}: {probed}");
        assert_eq!(decoded, Some(probed), "{format}");
        assert!(used.bytes_max < REFUSAL_BYTES_MAX, "{format}: {} bytes", used.bytes_max);
    }
}

#[test]
fn the_message_names_the_size_the_limits_and_the_settings() {
    let (_, png) = headers(21_000, 18_000).swap_remove(0);
    let error = probe(&png, &Settings::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "image is 21000×18000 px, the limits are 100 MP and 65535 px a side; raise \
         imaging.pixels_max and imaging.side_max_px or resize upstream"
    );
}

#[test]
fn the_header_of_every_format_is_read() {
    let all = headers(641, 427).into_iter().chain(small_headers(641, 427));
    for (format, bytes) in all {
        let header = probe(&bytes, &Settings::default()).unwrap();
        assert_eq!((header.format, header.width, header.height), (format, 641, 427));
        // There is no image data after the header, so decoding fails.
        let error = decode(&bytes, &Settings::default()).unwrap_err();
        let codes = ["decode.truncated", "decode.corrupt", "decode.unsupported_feature"];
        assert!(codes.contains(&error.code()), "{format}: {error}");
    }
}

#[test]
fn each_limit_is_a_setting() {
    let (_, png) = headers(640, 480).swap_remove(0);
    let check = |settings: &Settings, expected: Option<&str>| {
        let code = probe(&png, settings).err().map(|error| error.code());
        assert_eq!(code, expected, "{settings:?}");
    };
    let base = Settings::default();
    check(&Settings { pixels_max: 640 * 480, ..base.clone() }, None);
    check(&Settings { pixels_max: 640 * 480 - 1, ..base.clone() }, Some("decode.too_large"));
    check(&Settings { side_max_px: 640, ..base.clone() }, None);
    check(&Settings { side_max_px: 639, ..base }, Some("decode.too_large"));
}

#[test]
fn an_image_without_pixels_is_corrupt() {
    for (format, bytes) in small_headers(0, 7) {
        let error = probe(&bytes, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), "decode.corrupt", "{format}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// A few bytes of a file are changed, half of the time near its start. The result is a picture
    /// or an error, and no decoder panics.
    #[test]
    fn a_mutated_file_is_a_picture_or_an_error(
        name in prop::sample::select(vec![
            "420.jpg", "progressive.jpg", "icc-cmyk.jpg", "orientation-6.jpg", "palette.png",
            "icc-alpha.png", "lossy.webp", "alpha.webp", "animated.gif", "palette.bmp",
            "predictor.tif", "palette.tif", "icc-cmyk.tif", "fax.tif",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        is_near_start in any::<bool>(),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/imaging").join(name);
        let mut bytes = fs::read(golden).unwrap();
        let len = if is_near_start { bytes.len().min(150) } else { bytes.len() };
        for (index, value) in changes {
            bytes[index.index(len)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let settings = Settings { pixels_max: 1_000_000, ..Settings::default() };
        if let Err(error) = decode(&bytes, &settings) {
            prop_assert_ne!(error.code(), "decode.panicked", "{}", error);
        }
    }
}

#[test]
fn a_tiff_directory_outside_the_file_is_truncated() {
    for bytes in [&b"II*\0"[..], b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0"] {
        let error = probe(bytes, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), "decode.truncated", "{bytes:?}");
    }
}

#[test]
fn a_tiff_file_with_large_samples_may_have_fewer_pixels() {
    let tiff = |picture: DynamicImage| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Tiff).unwrap();
        bytes.into_inner()
    };
    let flat = tiff(DynamicImage::new_rgb8(40, 40));
    let deep = tiff(DynamicImage::new_rgb32f(40, 40));
    let limits = |pixels_max| Settings { pixels_max, ..Settings::default() };
    decode(&flat, &limits(1_600)).unwrap();
    decode(&deep, &limits(3_200)).unwrap();
    let error = decode(&deep, &limits(3_199)).unwrap_err();
    assert_eq!(error.code(), "decode.too_large", "{error}");
}
