//! Inputs that failed in a campaign. Decompression bombs are in [`super::bombs`].

use super::anatomy::{Anatomy, Kind};
use super::bombs::{decode_measured, grey, png_chunk, tiff};
use super::images::file;

/// Returns the entries of a picture with 4-bit samples. `changed` replaces some of them.
fn four_bits(
    width: u32,
    height: u32,
    changed: &[(u16, u16, u32, u32)],
) -> Vec<(u16, u16, u32, u32)> {
    let mut entries = grey(width, height, 1);
    let is_kept = |tag: u16| tag != 258 && changed.iter().all(|entry| entry.0 != tag);
    entries.retain(|entry| is_kept(entry.0));
    entries.extend(changed);
    entries.push((258, 3, 1, 4));
    entries
}

#[test]
fn a_tiff_of_four_bits_and_two_samples_is_read() {
    // Two samples per pixel, the second one alpha. A row of three pixels has three bytes.
    let entries = four_bits(3, 2, &[(277, 3, 1, 2), (338, 3, 1, 2)]);
    let picture = decode_measured(&tiff(&entries, &[0x0f, 0x8f, 0xff, 0xf0, 0x00, 0x0f])).unwrap();
    let rows = [[0, 0x88, 255], [255, 255, 0]];
    assert_eq!(
        *picture.pixels().as_raw(),
        rows.as_flattened().iter().flat_map(|grey| [*grey; 3]).collect::<Vec<u8>>()
    );
}

#[test]
fn a_palette_image_with_extra_samples_is_refused() {
    // A palette of 16 colours.
    let entries =
        four_bits(3, 2, &[(262, 3, 1, 3), (277, 3, 1, 2), (338, 3, 1, 2), (320, 3, 48, 0)]);
    let error = decode_measured(&tiff(&entries, &[0; 6])).unwrap_err();
    assert_eq!(error.code(), "decode.unsupported_feature", "{error}");
}

#[test]
fn a_png_palette_of_a_wrong_length_is_refused() {
    let png = file("palette.png");
    let mut parts = Anatomy::of(Kind::Png, &png).parts.into_iter();
    let palette = parts.find(|part| png[part.clone()][4..8] == *b"PLTE").unwrap();
    for (len, is_sound) in [(768, true), (0, false), (1, false), (767, false), (771, false)] {
        let mut changed = png.clone();
        changed.splice(palette.clone(), png_chunk(*b"PLTE", &vec![7; len]));
        let code = decode_measured(&changed).err().map(|error| error.code());
        assert_eq!(code, (!is_sound).then_some("decode.corrupt"), "{len} bytes");
    }
}

#[test]
fn a_decoder_message_has_no_line_feed() {
    // The decoder's message about a truncated table ends with a line feed.
    let jpeg = file("444.jpg");
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let error =
        decode_measured(&[&jpeg[..scan], b"\xff\xdb\0\x03\0\xff\xda\0\x02\xff\xd9"].concat())
            .unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error:?}");
}
