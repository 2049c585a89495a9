//! Kinds of odd files, one test each, with relatives of the files in `tests/goldens/odd_images`.

use std::fs;
use std::path::Path;

use dog_iqa::imaging::{DecodeError, Picture, Settings, decode};
use flate2::Crc;

fn golden(name: &str) -> Vec<u8> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    fs::read(goldens.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn sound(bytes: &[u8]) -> Picture {
    decode(bytes, &Settings::default()).unwrap()
}

fn refused(bytes: &[u8]) -> DecodeError {
    decode(bytes, &Settings::default()).unwrap_err()
}

/// Asserts that a file is refused with this code and these words.
fn assert_refused(bytes: &[u8], code: &str, words: &str) {
    let error = refused(bytes);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// Asserts that both files have the same pixels.
fn assert_same(found: &[u8], expected: &[u8]) {
    assert_eq!(sound(found).pixels(), sound(expected).pixels());
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("the part is there")
}

fn inserted(mut bytes: Vec<u8>, at: usize, part: &[u8]) -> Vec<u8> {
    bytes.splice(at..at, part.iter().copied());
    bytes
}

fn png_chunk(name: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let named = [name.as_slice(), payload].concat();
    let mut checksum = Crc::new();
    checksum.update(&named);
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes()[..], &named, &checksum.sum().to_be_bytes()].concat()
}

/// Returns a PNG file with chunks after its header.
fn png_with(png: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    inserted(png.to_vec(), 33, &chunks.concat())
}

#[test]
fn a_jpeg_process_that_is_not_supported_is_named() {
    let jpeg = golden("imaging/444.jpg");
    let frame = position(&jpeg, &[0xff, 0xc0]);
    for (marker, words) in [
        (0xc3, "lossless"),
        (0xc5, "hierarchical"),
        (0xc6, "hierarchical"),
        (0xc7, "hierarchical"),
        (0xc9, "arithmetic"),
        (0xca, "arithmetic"),
        (0xcb, "arithmetic"),
        (0xcd, "arithmetic"),
        (0xcf, "arithmetic"),
        (0xf7, "JPEG-LS"),
    ] {
        let mut changed = jpeg.clone();
        changed[frame + 1] = marker;
        assert_refused(&changed, "decode.unsupported_feature", words);
    }
    let mut twelve_bits = jpeg.clone();
    twelve_bits[frame + 4] = 12;
    assert_refused(&twelve_bits, "decode.unsupported_feature", "8 bits");
    let hierarchical = inserted(jpeg, 2, b"\xff\xde\0\x0b\x08\0\x20\0\x20\x01\x01\x11\0");
    assert_refused(&hierarchical, "decode.unsupported_feature", "hierarchical");
}

#[test]
fn a_jpeg_height_behind_the_image_data_is_not_supported() {
    let mut jpeg = golden("imaging/444.jpg");
    let frame = position(&jpeg, &[0xff, 0xc0]);
    let height = [jpeg[frame + 5], jpeg[frame + 6]];
    jpeg[frame + 5..frame + 7].fill(0);
    assert_refused(&jpeg, "decode.corrupt", "45×0");
    let end = jpeg.len() - 2;
    let lines = [&[0xff, 0xdc, 0, 4], &height[..]].concat();
    assert_refused(&inserted(jpeg, end, &lines), "decode.unsupported_feature", "DNL");
}

#[test]
fn a_jpeg_without_its_end_marker_is_whole() {
    for name in ["420.jpg", "444.jpg", "grey.jpg", "progressive.jpg", "restarts.jpg"] {
        let jpeg = golden(&format!("jpeg_damage/{name}"));
        let end = jpeg.len() - 2;
        assert_same(&jpeg[..end], &jpeg);
        assert_same(&jpeg[..=end], &jpeg);
        assert_same(&[&jpeg[..end], b"\0\0\x01\x0a\x0e\0SEFT"].concat(), &jpeg);
        assert_eq!(refused(&jpeg[..end - 2]).code(), "decode.truncated", "{name}");
    }
}

#[test]
fn stray_bytes_before_the_end_marker_are_ignored() {
    for name in ["420.jpg", "444.jpg", "grey.jpg", "progressive.jpg", "restarts.jpg"] {
        let jpeg = golden(&format!("jpeg_damage/{name}"));
        let end = jpeg.len() - 2;
        for stray in [&b"\0"[..], &[0; 2], &[0; 17], &[0; 2634], b"\xff\xff", b"\xff\xd0\xff\xd1"] {
            assert_same(&inserted(jpeg.clone(), end, stray), &jpeg);
        }
    }
}

#[test]
fn blocks_behind_the_last_one_are_a_sign_of_lost_ones() {
    // Without its first eight rows of pixels, the header explains fewer blocks than the data has.
    for name in ["420.jpg", "444.jpg", "grey.jpg"] {
        let mut jpeg = golden(&format!("jpeg_damage/{name}"));
        let frame = position(&jpeg, &[0xff, 0xc0]);
        jpeg[frame + 6] -= 16;
        assert_refused(&jpeg, "decode.corrupt", "more blocks");
    }
}

#[test]
fn inks_without_an_adobe_segment_are_stored_inverted() {
    let jpeg = golden("imaging/cmyk-adobe.jpg");
    let segment = position(&jpeg, b"\xff\xee");
    let mut unmarked = jpeg.clone();
    unmarked.drain(segment..segment + 16);
    assert_same(&unmarked, &jpeg);
}

#[test]
fn a_progressive_jpeg_in_hundreds_of_scans_is_too_large() {
    let jpeg = golden("odd_images/in/h-prog-883-4mp.jpg");
    assert_refused(&jpeg, "decode.too_large", "scans");
}

#[test]
fn a_png_chunk_of_pixels_with_a_wrong_checksum_is_refused() {
    let png = golden("imaging/palette.png");
    for name in [b"IHDR", b"PLTE", b"IDAT"] {
        let at = position(&png, name);
        let len = u32::from_be_bytes(*png[at - 4..].first_chunk().unwrap()) as usize;
        let mut changed = png.clone();
        changed[at + 4 + len] ^= 1;
        assert_refused(&changed, "decode.corrupt", "checksum");
    }
    let mut text = png_chunk(*b"tEXt", b"k\0v");
    *text.last_mut().unwrap() ^= 1;
    assert_same(&png_with(&png, &[text]), &png);
}

#[test]
fn a_png_is_whole_if_its_rows_are() {
    let png = golden("imaging/rgb.png");
    let end = png.len() - 12;
    for len in [end, end + 3, end + 11] {
        assert_same(&png[..len], &png);
    }
    // A text that is cut, and the checksums of the image data.
    let text = png_chunk(*b"tEXt", b"comment\0which is cut");
    assert_same(&[&png[..end], &text[..15]].concat(), &png);
    assert_same(&png[..end - 4], &png);
    assert_refused(&png[..end - 200], "decode.truncated", "");
    // A length that is too large swallows the chunks behind.
    let mut longer = png.clone();
    let length = position(&png, b"IDAT") - 4;
    longer[length..length + 4].copy_from_slice(&1_000_000_u32.to_be_bytes());
    assert_refused(&longer, "decode.corrupt", "length");
    let missing = [&png[..33], &png_chunk(*b"IEND", b"")].concat();
    assert_refused(&missing, "decode.corrupt", "no image data");
    assert_refused(&png[..40], "decode.truncated", "");
}

#[test]
fn an_ios_png_is_named() {
    let png = inserted(golden("imaging/rgb.png"), 8, &png_chunk(*b"CgBI", &[0x50, 0, 0x20, 2]));
    assert_refused(&png, "decode.unsupported_feature", "CgBI");
}

#[test]
fn png_colours_are_those_of_browsers() {
    const LINEAR: [u8; 4] = 100_000_u32.to_be_bytes();
    const DISPLAY: [u8; 4] = 45_455_u32.to_be_bytes();
    let plain = golden("imaging/rgb.png");
    let gamma = |value: [u8; 4]| png_chunk(*b"gAMA", &value);
    let p3 = || png_chunk(*b"cICP", &[12, 13, 0, 1]);
    let chromaticities =
        |values: [u32; 8]| png_chunk(*b"cHRM", &values.map(u32::to_be_bytes).concat());
    let srgb = [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000];
    let wide = [31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000];

    // These change nothing: the usual exponent, values that `sRGB` overrides, primaries without
    // exponent.
    for chunks in [
        vec![gamma(DISPLAY)],
        vec![gamma(DISPLAY), chromaticities(srgb)],
        vec![png_chunk(*b"sRGB", &[0]), gamma(LINEAR)],
        vec![chromaticities(wide)],
        vec![gamma([0; 4])],
        vec![png_chunk(*b"cICP", &[1, 13, 0, 1]), gamma(LINEAR)],
    ] {
        assert_same(&png_with(&plain, &chunks), &plain);
    }
    // Linear samples are brighter, also in grey.
    for name in ["imaging/rgb.png", "imaging/grey.png", "imaging/sixteen.png"] {
        let plain = golden(name);
        let linear = sound(&png_with(&plain, &[gamma(LINEAR)]));
        let plain = sound(&plain);
        let pairs = linear.pixels().iter().zip(plain.pixels().iter()).map(|(a, b)| (*a, *b));
        assert!(pairs.clone().all(|(linear, plain)| linear >= plain), "{name}");
        assert!(pairs.clone().any(|(linear, plain)| linear > plain + 20), "{name}");
    }
    // `cICP` wins over all others; `cHRM` counts with `gAMA`.
    let expected = png_with(&plain, &[p3()]);
    assert_ne!(sound(&expected).pixels(), sound(&plain).pixels());
    for others in [vec![gamma(LINEAR)], vec![png_chunk(*b"sRGB", &[0])]] {
        assert_same(&png_with(&plain, &[others, vec![p3()]].concat()), &expected);
    }
    let calibrated = sound(&png_with(&plain, &[gamma(DISPLAY), chromaticities(wide)]));
    let expected = sound(&expected);
    let pairs = calibrated.pixels().iter().zip(expected.pixels().iter());
    let largest = pairs.map(|(found, expected)| found.abs_diff(*expected)).max();
    assert!(largest <= Some(2), "P3 by its primaries differs by {largest:?}");
    for transfer in [16, 18] {
        let hdr = png_with(&plain, &[png_chunk(*b"cICP", &[9, transfer, 0, 1])]);
        assert_refused(&hdr, "decode.unsupported_feature", "high dynamic range");
    }
}

#[test]
fn a_gif_canvas_without_a_size_has_that_of_its_frame() {
    let gif = golden("imaging/plain.gif");
    for range in [6..8, 8..10, 6..10] {
        let mut changed = gif.clone();
        changed[range].fill(0);
        assert_same(&changed, &gif);
    }
    let mut empty = gif[..13].to_vec();
    empty[6..11].fill(0);
    assert_eq!(refused(&empty).code(), "decode.corrupt");
}

#[test]
fn a_gif_without_its_whole_first_frame_is_cut_off() {
    let gif = golden("imaging/plain.gif");
    for percent in [50, 80, 95] {
        let cut = &gif[..gif.len() * percent / 100];
        assert_refused(cut, "decode.truncated", "");
        // A trailer proves nothing.
        assert!(decode(&[cut, b"\0;"].concat(), &Settings::default()).is_err());
    }
}

/// Returns a bitmap with another length of its second header. What the old one has more is dropped.
fn with_header_len(bmp: &[u8], len: u32) -> Vec<u8> {
    let stored = u32::from_le_bytes(*bmp[14..].first_chunk().unwrap());
    let mut header = bmp[14..14 + stored as usize].to_vec();
    header.resize(len as usize, 0);
    header[..4].copy_from_slice(&len.to_le_bytes());
    let pixels = u32::from_le_bytes(*bmp[10..].first_chunk().unwrap()) + len - stored;
    [&bmp[..10], &pixels.to_le_bytes(), &header, &bmp[14 + stored as usize..]].concat()
}

#[test]
fn an_os2_bitmap_is_read() {
    for name in ["rgb.bmp", "grey.bmp", "palette.bmp", "one-bit.bmp"] {
        let bmp = golden(&format!("imaging/{name}"));
        assert_same(&with_header_len(&bmp, 64), &bmp);
    }
    let rgb = golden("imaging/rgb.bmp");
    assert_same(&with_header_len(&rgb, 16), &rgb);
    let mut coded = with_header_len(&rgb, 64);
    coded[30] = 4;
    assert_refused(&coded, "decode.unsupported_feature", "run-length");
    coded[30] = 3;
    assert_refused(&coded, "decode.unsupported_feature", "fax");
}

#[test]
fn a_bitmap_without_planes_has_one() {
    let mut bmp = golden("imaging/rgb.bmp");
    bmp[26] = 0;
    assert_same(&bmp, &golden("imaging/rgb.bmp"));
    let mut inner = bmp;
    inner[30] = 5;
    assert_refused(&inner, "decode.unsupported_feature", "PNG");
}

#[test]
fn a_bitmap_whose_alpha_is_zero_everywhere_is_opaque() {
    let bmp = golden("odd_images/in/b-v5-alpha-all0.bmp");
    let opaque = sound(&bmp);
    let mut visible = bmp.clone();
    let pixels = u32::from_le_bytes(*bmp[10..].first_chunk().unwrap()) as usize;
    for pixel in visible[pixels..].as_chunks_mut::<4>().0 {
        pixel[3] = 255;
    }
    assert_eq!(sound(&visible).pixels(), opaque.pixels());
    // A single visible pixel means that the others are not.
    visible[pixels..].as_chunks_mut::<4>().0.iter_mut().skip(1).for_each(|pixel| pixel[3] = 0);
    let white = sound(&visible).pixels().pixels().filter(|pixel| pixel.0 == [255; 3]).count();
    assert!(white + 1 >= (opaque.width() * opaque.height()) as usize);
}

#[test]
fn a_lossy_webp_that_claims_more_than_its_data_is_refused() {
    let webp = golden("imaging/lossy.webp");
    let mut giant = webp.clone();
    for side in [26, 28] {
        giant[side..side + 2].copy_from_slice(&6000_u16.to_le_bytes());
    }
    assert_refused(&giant, "decode.truncated", "too short for its size");
    // The data ends early, and all lengths agree.
    let mut cut = webp[..webp.len() / 3 * 2].to_vec();
    let len = u32::try_from(cut.len()).unwrap();
    cut[4..8].copy_from_slice(&(len - 8).to_le_bytes());
    assert_eq!(refused(&cut).code(), "decode.truncated");
    cut[16..20].copy_from_slice(&(len - 20).to_le_bytes());
    let code = refused(&cut).code();
    assert!(["decode.truncated", "decode.corrupt"].contains(&code), "{code}");
}

/// Returns a little-endian TIFF file with the bits of each byte of its strips in reverse order.
fn with_reversed_bits(tiff: &[u8]) -> Vec<u8> {
    let number = |at: usize, len: usize| {
        tiff[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let directory = number(4, 4);
    let entries: Vec<usize> =
        (0..number(directory, 2)).map(|index| directory + 2 + 12 * index).collect();
    let values = |tag: usize| -> Vec<usize> {
        let entry = *entries.iter().find(|entry| number(**entry, 2) == tag).unwrap();
        let (len, count) = (if number(entry + 2, 2) == 3 { 2 } else { 4 }, number(entry + 4, 4));
        let at = if len * count <= 4 { entry + 8 } else { number(entry + 8, 4) };
        (0..count).map(|index| number(at + index * len, len)).collect()
    };
    let mut reversed = tiff.to_vec();
    for (offset, len) in values(273).into_iter().zip(values(279)) {
        for byte in &mut reversed[offset..offset + len] {
            *byte = byte.reverse_bits();
        }
    }
    // The new entry is in a directory at the end, in order of the tags.
    let mut copies: Vec<[u8; 12]> =
        entries.iter().map(|entry| *tiff[*entry..].first_chunk().unwrap()).collect();
    copies.retain(|entry| entry[..2] != 266_u16.to_le_bytes());
    copies.push([10, 1, 3, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
    copies.sort_by_key(|entry| u16::from_le_bytes([entry[0], entry[1]]));
    let start = u32::try_from(reversed.len()).unwrap();
    reversed[4..8].copy_from_slice(&start.to_le_bytes());
    reversed.extend(u16::try_from(copies.len()).unwrap().to_le_bytes());
    reversed.extend(copies.concat());
    reversed.extend([0; 4]);
    reversed
}

#[test]
fn a_tiff_with_its_lowest_bit_first_is_read() {
    for name in ["one-bit.tif", "fax.tif", "packbits.tif", "deflate.tif", "raw.tif"] {
        let tiff = golden(&format!("imaging/{name}"));
        assert_same(&with_reversed_bits(&tiff), &tiff);
    }
}

#[test]
fn a_fax_that_ends_early_is_cut_off() {
    for name in ["t-g3-1d-msb.tif", "t-g3-2d-lsb.tif", "t-g4-msb.tif", "t-g4-lsb.tif"] {
        let mut tiff = golden(&format!("odd_images/in/{name}"));
        let expected = sound(&tiff);
        // Its strip is behind the header, before the directory.
        let directory = u32::from_le_bytes(*tiff[4..].first_chunk().unwrap()) as usize;
        let strip = if directory > 100 { 8..directory } else { directory + 100..tiff.len() };
        let middle = strip.start + strip.len() / 2;
        tiff[middle..strip.end].fill(0);
        match decode(&tiff, &Settings::default()) {
            Err(error) => {
                let codes = ["decode.truncated", "decode.corrupt"];
                assert!(codes.contains(&error.code()), "{name}: {error}");
            }
            Ok(picture) => assert_eq!(picture.pixels(), expected.pixels(), "{name}"),
        }
    }
}

#[test]
fn a_file_of_some_bytes_may_not_claim_a_hundred_megapixels() {
    let mut png = golden("imaging/one-bit.png");
    png[16..24].copy_from_slice(&[10_000_u32.to_be_bytes(); 2].concat());
    let header = png_chunk(*b"IHDR", &png[16..29]);
    png.splice(8..33, header);
    assert_refused(&png, "decode.too_large", "40 MP");
}
