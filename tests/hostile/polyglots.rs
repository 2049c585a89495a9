//! Polyglots: a file that is valid in two formats has the format of its first bytes.

use dog_iqa::imaging::{ImageFormat, decode as decode_image};

use super::bombs::{decode_measured, jpeg_segment, png_chunk, with};
use super::decode;
use super::images::file;

const ZIP: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const SCRIPT: &[u8] = b"*/=1;alert(document.domain)//<script>alert(1)</script>";

#[test]
fn bytes_after_an_image_change_nothing() {
    for name in
        ["444.jpg", "rgb.png", "lossy.webp", "lossless.webp", "plain.gif", "rgb.bmp", "raw.tif"]
    {
        let alone = file(name);
        let expected = decode_image(&alone, &decode::settings()).unwrap();
        for tail in [ZIP, SCRIPT, &file("444.jpg"), &file("rgb.png"), &[0xff; 1000]] {
            let picture = decode_measured(&[&alone, tail].concat()).unwrap();
            assert_eq!(picture.format(), expected.format(), "{name}");
            assert_eq!(picture.pixels(), expected.pixels(), "{name}");
        }
    }
}

#[test]
fn an_image_embedded_in_an_image_is_ignored() {
    let (jpeg, png) = (file("444.jpg"), file("rgb.png"));
    let expected = decode_image(&jpeg, &decode::settings()).unwrap();
    let picture = decode_measured(&with(jpeg.clone(), 2, &jpeg_segment(0xfe, &png))).unwrap();
    assert_eq!((picture.format(), picture.pixels()), (ImageFormat::Jpeg, expected.pixels()));

    let expected = decode_image(&png, &decode::settings()).unwrap();
    let picture = decode_measured(&with(png, 33, &png_chunk(*b"jpEg", &jpeg))).unwrap();
    assert_eq!((picture.format(), picture.pixels()), (ImageFormat::Png, expected.pixels()));
}

#[test]
fn an_image_after_other_bytes_is_not_an_image() {
    let jpeg = file("444.jpg");
    for head in
        [b"%PDF-1.7\n".as_slice(), b"PK\x03\x04", b"<svg/>", b"\0", b"BM", b"RIFF\xff\xff\0\0AVI "]
    {
        let error = decode_measured(&[head, &jpeg].concat()).unwrap_err();
        assert_eq!(error.code(), "decode.unsupported_format", "{error}");
    }
}

#[test]
fn a_script_with_an_image_header_is_refused() {
    // The bytes `/*` are the size: 10,799 pixels a side, above the limits.
    let error = decode_measured(&[b"GIF89a/*/*", SCRIPT].concat()).unwrap_err();
    assert_eq!(error.code(), "decode.too_large", "{error}");
    // Here the script's bytes are the size.
    let error =
        decode_measured(&[b"BM/*\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", SCRIPT].concat()).unwrap_err();
    assert_eq!(error.code(), "decode.too_large", "{error}");
}
