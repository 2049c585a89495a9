//! Files that are two things at once are what their first bytes say, and nothing else.

use dog_iqa::imaging::{ImageFormat, decode as decode_image};

use super::bombs::{jpeg_segment, png_chunk, weighed, with};
use super::decode;
use super::images::file;

const ZIP: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const SCRIPT: &[u8] = b"*/=1;alert(document.domain)//<script>alert(1)</script>";

#[test]
fn what_follows_an_image_changes_nothing() {
    for name in
        ["444.jpg", "rgb.png", "lossy.webp", "lossless.webp", "plain.gif", "rgb.bmp", "raw.tif"]
    {
        let alone = file(name);
        let expected = decode_image(&alone, &decode::settings()).unwrap();
        for tail in [ZIP, SCRIPT, &file("444.jpg"), &file("rgb.png"), &[0xff; 1000]] {
            let picture = weighed(&[&alone, tail].concat()).unwrap();
            assert_eq!(picture.format(), expected.format(), "{name}");
            assert_eq!(picture.pixels(), expected.pixels(), "{name}");
        }
    }
}

#[test]
fn an_image_within_an_image_is_not_the_image() {
    let (jpeg, png) = (file("444.jpg"), file("rgb.png"));
    let expected = decode_image(&jpeg, &decode::settings()).unwrap();
    let picture = weighed(&with(jpeg.clone(), 2, &jpeg_segment(0xfe, &png))).unwrap();
    assert_eq!((picture.format(), picture.pixels()), (ImageFormat::Jpeg, expected.pixels()));

    let expected = decode_image(&png, &decode::settings()).unwrap();
    let picture = weighed(&with(png, 33, &png_chunk(*b"jpEg", &jpeg))).unwrap();
    assert_eq!((picture.format(), picture.pixels()), (ImageFormat::Png, expected.pixels()));
}

#[test]
fn an_image_behind_something_else_is_no_image() {
    let jpeg = file("444.jpg");
    for head in
        [b"%PDF-1.7\n".as_slice(), b"PK\x03\x04", b"<svg/>", b"\0", b"BM", b"RIFF\xff\xff\0\0AVI "]
    {
        let error = weighed(&[head, &jpeg].concat()).unwrap_err();
        assert_eq!(error.code(), "decode.unsupported_format", "{error}");
    }
}

#[test]
fn a_script_in_the_clothes_of_an_image_is_refused() {
    // The size is `/*`, 10,799 pixels either way: beyond the limits.
    let error = weighed(&[b"GIF89a/*/*", SCRIPT].concat()).unwrap_err();
    assert_eq!(error.code(), "decode.too_large", "{error}");
    // And here the size is the script's.
    let error = weighed(&[b"BM/*\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", SCRIPT].concat()).unwrap_err();
    assert_eq!(error.code(), "decode.too_large", "{error}");
}
