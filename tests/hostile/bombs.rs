//! Decompression bombs: small files that claim or decompress to large ones. Each stays within the
//! memory that its limits allow. It is refused, or decoded to the picture that it shows.

use std::io::Write;
use std::ops::Range;

use allocation_counter::measure;
use dog_iqa::imaging::{DecodeError, Picture, Settings, decode as decode_image};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::anatomy::{Anatomy, Kind, crc32};
use super::decode;
use super::images::file;

/// Decompressed size of a bomb, in bytes.
const DECOMPRESSED: usize = 64 << 20;

/// Largest side in pixels that a WebP bitstream can claim.
const WEBP_SIDE: u16 = 16_383;

/// Decodes with the limits of the campaigns. Asserts that it stays within their memory limit.
pub(crate) fn decode_measured(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let used = measure(|| {
        decode::check(bytes);
    });
    let allowed = decode::memory_max(bytes);
    assert!(
        used.bytes_max <= allowed,
        "decoding allocated {} bytes, {allowed} allowed",
        used.bytes_max
    );
    decode_image(bytes, &decode::settings())
}

/// Returns the error's code, or the size of the picture.
fn outcome(bytes: &[u8]) -> String {
    match decode_measured(bytes) {
        Ok(picture) => format!("{}×{}", picture.width(), picture.height()),
        Err(error) => error.code().to_owned(),
    }
}

/// Returns a chunk with its length and checksum.
pub(crate) fn png_chunk(name: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let named = [name.as_slice(), payload].concat();
    [&len.to_be_bytes()[..], &named, &crc32(&named).to_be_bytes()].concat()
}

/// Returns a segment with its length. Truncates a payload that is too long for one segment.
pub(crate) fn jpeg_segment(marker: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(0xfffd)];
    let len = u16::try_from(payload.len() + 2).unwrap();
    [&[0xff, marker], &len.to_be_bytes()[..], payload].concat()
}

/// Returns a chunk of a RIFF file, padded to an even length.
pub(crate) fn riff_chunk(name: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&name, &len.to_le_bytes()[..], payload, &vec![0; payload.len() % 2]].concat()
}

/// Returns a WebP file with these chunks.
pub(crate) fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
    riff_chunk(*b"RIFF", &[b"WEBP".as_slice(), &chunks.concat()].concat())
}

/// Returns the header of an extended WebP file.
pub(crate) fn webp_canvas(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes();
    riff_chunk(*b"VP8X", &[&[flags, 0, 0, 0], &side(width)[..3], &side(height)[..3]].concat())
}

/// Returns a lossy bitstream that claims this size.
pub(crate) fn vp8(width: u16, height: u16) -> Vec<u8> {
    let mut bitstream = file("lossy.webp")[20..].to_vec();
    bitstream[6..8].copy_from_slice(&width.to_le_bytes());
    bitstream[8..10].copy_from_slice(&height.to_le_bytes());
    bitstream
}

/// Returns a little-endian TIFF file with one strip at byte 1,024, and these further entries.
pub(crate) fn tiff(entries: &[(u16, u16, u32, u32)], strip: &[u8]) -> Vec<u8> {
    let strip_len = u32::try_from(strip.len()).unwrap();
    let mut entries = entries.to_vec();
    entries.extend([(273, 4, 1, 1024), (279, 4, 1, strip_len)]);
    entries.sort_unstable();
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.resize(1024, 0);
    bytes.extend(strip);
    bytes
}

/// Returns the entries of a grey picture with this compression.
pub(crate) fn grey(width: u32, height: u32, compression: u32) -> Vec<(u16, u16, u32, u32)> {
    let long = |tag, value| (tag, 4, 1, value);
    let short = |tag, value| (tag, 3, 1, value);
    vec![
        long(256, width),
        long(257, height),
        short(258, 8),
        short(259, compression),
        short(262, 1),
        short(277, 1),
        long(278, height),
    ]
}

/// Returns a grey JPEG file whose frame claims this size.
pub(crate) fn grey_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = file("grey.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

/// Returns the range of a GIF file's first frame.
fn gif_frame(gif: &[u8]) -> Range<usize> {
    let mut blocks = Anatomy::of(Kind::Gif, gif).parts.into_iter();
    blocks.find(|block| gif[block.start] == 0x2c).unwrap()
}

pub(crate) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a file with a part inserted.
pub(crate) fn with(mut bytes: Vec<u8>, at: usize, part: &[u8]) -> Vec<u8> {
    bytes.splice(at..at, part.iter().copied());
    bytes
}

#[test]
fn decoding_allocates_no_more_bytes_per_pixel_than_documented() {
    const SIDE: u32 = 2048;
    let pixels = u64::from(SIDE).pow(2);
    let rows = |row_len: u32| zlib(&vec![0; (row_len * SIDE) as usize]);
    // Samples of 16 bits with alpha.
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let size = SIDE.to_be_bytes();
    png.extend(png_chunk(*b"IHDR", &[&size, &size, &[16, 6, 0, 0][..], &[0]].concat()));
    png.extend(png_chunk(*b"IDAT", &rows(SIDE * 8 + 1)));
    png.extend(png_chunk(*b"IEND", b""));
    // Samples of 64 bits, floating point, with alpha.
    let mut entries = grey(SIDE, SIDE, 8);
    entries.retain(|(tag, ..)| ![258, 262, 277].contains(tag));
    let short = |tag, value| (tag, 3, 1, value);
    entries.extend([short(258, 64), short(262, 2), short(277, 4), short(338, 2), short(339, 3)]);
    let tiff = tiff(&entries, &rows(SIDE * 32));
    for (bytes, bytes_per_pixel) in [(png, 16), (tiff, 48)] {
        let mut picture = None;
        let used = measure(|| picture = Some(decode_image(&bytes, &Settings::default())));
        let picture = picture.unwrap().unwrap();
        assert_eq!((picture.width(), picture.height()), (SIDE, SIDE));
        let used = used.bytes_max as f64 / pixels as f64;
        assert!(
            used <= f64::from(bytes_per_pixel),
            "{used:.1} bytes per pixel, {bytes_per_pixel} allowed"
        );
    }
}

#[test]
fn compression_bombs_in_png_chunks_are_ignored() {
    let bomb = zlib(&vec![b'x'; DECOMPRESSED]);
    let png = file("rgb.png");
    let named = |start: &[u8]| [start, &bomb].concat();
    for (name, payload) in [(*b"zTXt", named(b"k\0\0")), (*b"iTXt", named(b"k\0\x01\0\0\0"))] {
        let bytes = with(png.clone(), 33, &png_chunk(name, &payload));
        assert_eq!(outcome(&bytes), "45×31", "{name:?}");
    }
    // The decoder stops when the profile exceeds its limit.
    let profile = with(png, 33, &png_chunk(*b"iCCP", &named(b"p\0\0")));
    assert!(["45×31", "decode.corrupt"].contains(&outcome(&profile).as_str()));
}

#[test]
fn a_png_file_with_many_chunks_is_decoded() {
    let chunks = png_chunk(*b"tEXt", b"k\0v").repeat(50_000);
    assert_eq!(outcome(&with(file("rgb.png"), 33, &chunks)), "45×31");
}

#[test]
fn a_png_file_with_more_image_data_than_pixels_costs_only_its_pixels() {
    let mut png = file("rgb.png")[..33].to_vec();
    png.extend(png_chunk(*b"IDAT", &zlib(&vec![0; DECOMPRESSED])));
    png.extend(png_chunk(*b"IEND", b""));
    assert_eq!(outcome(&png), "45×31");
}

#[test]
fn a_gif_frame_larger_than_its_screen_costs_no_more_than_the_screen() {
    let mut gif = file("plain.gif");
    let frame = gif_frame(&gif).start;
    gif[frame + 5..frame + 9].fill(0xff);
    assert_eq!(outcome(&gif), "decode.corrupt");
}

#[test]
fn a_gif_file_with_many_frames_is_decoded_to_the_first() {
    let gif = file("plain.gif");
    let frame = gif_frame(&gif);
    let frames = gif[frame.clone()].repeat(2000);
    assert_eq!(outcome(&with(gif, frame.end, &frames)), "45×31");
}

#[test]
fn a_webp_bitstream_larger_than_its_canvas_is_not_decoded() {
    let still = webp(&[webp_canvas(0, 45, 31), riff_chunk(*b"VP8 ", &vp8(WEBP_SIDE, WEBP_SIDE))]);
    assert_eq!(outcome(&still), "decode.corrupt");
    assert_eq!(
        outcome(&webp(&[webp_canvas(0, 45, 31), riff_chunk(*b"VP8 ", &vp8(45, 31))])),
        "45×31"
    );
}

#[test]
fn a_webp_frame_whose_bitstream_has_another_size_is_not_decoded() {
    let alpha = riff_chunk(*b"ALPH", &[&[0], &[255; 45 * 31][..]].concat());
    let animation = |frame: &[Vec<u8>]| {
        let header = [0, 0, 0, 0, 0, 0, 44, 0, 0, 30, 0, 0, 100, 0, 0, 0];
        let frame = riff_chunk(*b"ANMF", &[&header[..], &frame.concat()].concat());
        webp(&[webp_canvas(0x12, 45, 31), riff_chunk(*b"ANIM", &[0; 6]), frame])
    };
    for (size, expected) in [
        ((45, 31), "45×31"),
        ((WEBP_SIDE, WEBP_SIDE), "decode.corrupt"),
        ((46, 31), "decode.corrupt"),
    ] {
        for name in [*b"VP8 ", *b"none"] {
            let bitstream = riff_chunk(name, &vp8(size.0, size.1));
            assert_eq!(outcome(&animation(&[alpha.clone(), bitstream])), expected, "{size:?}");
        }
        let bitstream = riff_chunk(*b"VP8 ", &vp8(size.0, size.1));
        assert_eq!(outcome(&animation(&[bitstream])), expected, "{size:?}");
    }
}

#[test]
fn a_jpeg_larger_than_the_tiff_file_around_it_is_not_decoded() {
    assert_eq!(outcome(&tiff(&grey(45, 31, 7), &grey_jpeg(45, 31))), "45×31");
    let giant = grey_jpeg(16_384, 16_384);
    assert_eq!(outcome(&tiff(&grey(45, 31, 7), &giant)), "decode.corrupt");
}

#[test]
fn many_tiff_strips_with_the_same_jpeg_are_refused() {
    // One strip per row, all with the same bytes, which claim a whole picture of all rows.
    const ROWS: u32 = 4096;
    let strip = grey_jpeg(16, 4096);
    let mut entries = grey(16, ROWS, 7);
    entries.retain(|(tag, ..)| *tag != 278);
    entries.push((278, 4, 1, 1));
    let mut bytes = tiff(&entries, &strip);
    // Their offsets and lengths follow the strip.
    let lists = u32::try_from(bytes.len()).unwrap();
    bytes.extend(1024_u32.to_le_bytes().repeat(ROWS as usize));
    bytes.extend(u32::try_from(strip.len()).unwrap().to_le_bytes().repeat(ROWS as usize));
    for (tag, at) in [(273_u16, lists), (279, lists + ROWS * 4)] {
        let entry = bytes.windows(2).position(|pair| pair == tag.to_le_bytes()).unwrap();
        bytes[entry + 4..entry + 8].copy_from_slice(&ROWS.to_le_bytes());
        bytes[entry + 8..entry + 12].copy_from_slice(&at.to_le_bytes());
    }
    assert_eq!(outcome(&bytes), "decode.truncated");
}

#[test]
fn a_compression_bomb_in_a_tiff_strip_costs_only_its_pixels() {
    let strip = zlib(&vec![0; DECOMPRESSED]);
    assert_eq!(outcome(&tiff(&grey(45, 31, 8), &strip)), "45×31");
}

#[test]
fn a_tiff_entry_longer_than_the_file_allocates_nothing() {
    let with_entry = |entry: (u16, u16, u32, u32)| {
        let mut entries = grey(45, 31, 1);
        entries.retain(|(tag, ..)| *tag != entry.0);
        entries.push(entry);
        outcome(&tiff(&entries, &[0; 45 * 31]))
    };
    // A width of eight million numbers, and a profile of four gigabytes.
    assert_eq!(with_entry((256, 3, 1 << 23, 45)), "decode.truncated");
    assert_eq!(with_entry((34_675, 7, u32::MAX, 8)), "45×31");
}

#[test]
fn a_second_frame_header_does_not_change_the_size_of_a_jpeg() {
    // After the image data, where a decoder has the size and no longer reads headers.
    let jpeg = file("444.jpg");
    let giant =
        jpeg_segment(0xc0, &[8, 0xff, 0xff, 0xff, 0xff, 3, 1, 0x11, 0, 2, 0x11, 1, 3, 0x11, 1]);
    let end = jpeg.len() - 2;
    assert_eq!(outcome(&with(jpeg.clone(), end, &giant)), "45×31");
    assert_eq!(outcome(&with(jpeg, 2, &giant)), "decode.too_large");
    // Before the image data of a progressive file, and between its scans.
    let progressive = file("progressive.jpg");
    let scans = progressive.windows(2).enumerate().filter(|(_, pair)| *pair == [0xff, 0xda]);
    for (scan, _) in scans {
        assert_eq!(outcome(&with(progressive.clone(), scan, &giant)), "decode.corrupt");
    }
}

#[test]
fn a_jpeg_file_with_many_segments_is_decoded() {
    let jpeg = file("444.jpg");
    let comments = jpeg_segment(0xfe, b"a").repeat(100_000);
    assert_eq!(outcome(&with(jpeg.clone(), 2, &comments)), "45×31");
    let profile: Vec<u8> = (1..=255)
        .flat_map(|number| {
            jpeg_segment(0xe2, &[b"ICC_PROFILE\0", &[number, 255][..], &[0; 4000]].concat())
        })
        .collect();
    assert_eq!(outcome(&with(jpeg, 2, &profile)), "45×31");
}

#[test]
fn a_progressive_jpeg_with_many_scans_ends_when_it_is_complete() {
    let jpeg = file("progressive.jpg");
    let starts = jpeg.windows(2).enumerate().filter(|(_, pair)| *pair == [0xff, 0xda]);
    let starts: Vec<usize> = starts.map(|(start, _)| start).collect();
    let last = starts[starts.len() - 1];
    let scans = jpeg[last..jpeg.len() - 2].repeat(2000);
    assert_eq!(outcome(&with(jpeg.clone(), last, &scans)), "45×31");
    // A repeated scan does not continue those before it.
    let scans = jpeg[starts[0]..starts[1]].repeat(2000);
    assert_eq!(outcome(&with(jpeg, starts[0], &scans)), "decode.corrupt");
}
