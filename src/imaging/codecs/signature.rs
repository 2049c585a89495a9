//! Detects an image format from the first bytes.

use crate::imaging::codecs::byte_order::le32;
use crate::imaging::codecs::heif::brands::{Family, family};
use crate::imaging::format::ImageFormat;

/// Detects the format, or returns `None` if the content is not a supported image.
pub(crate) fn detect(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Some(ImageFormat::Jpeg);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(ImageFormat::Png);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(ImageFormat::WebP);
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some(ImageFormat::Gif);
    }
    // `BM` alone is too short for a signature; the size of the second header confirms it.
    let dib_sizes = [12, 16, 40, 52, 56, 64, 108, 124];
    if bytes.starts_with(b"BM") && le32(bytes, 14).is_some_and(|size| dib_sizes.contains(&size)) {
        return Some(ImageFormat::Bmp);
    }
    if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic)) {
        return Some(ImageFormat::Tiff);
    }
    match family(bytes) {
        Some(Family::Heic) if cfg!(feature = "heic") => Some(ImageFormat::Heic),
        Some(Family::Avif) if cfg!(feature = "avif") => Some(ImageFormat::Avif),
        _ if is_jxl(bytes) && cfg!(feature = "jxl") => Some(ImageFormat::Jxl),
        _ => None,
    }
}

/// Returns true for a bare codestream of JPEG XL and for its container.
fn is_jxl(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\x0a") || bytes.starts_with(b"\0\0\0\x0cJXL \r\n\x87\n")
}

/// Describes content that is not a supported image, for the error message.
pub(crate) fn describe(bytes: &[u8]) -> &'static str {
    match family(bytes) {
        Some(Family::Avif) => return "an AVIF image, for which this build has no decoder",
        Some(Family::Heic) => return "an HEIC image, for which this build has no decoder",
        Some(Family::Other) => return "a video",
        None if is_jxl(bytes) => return "a JPEG XL image, for which this build has no decoder",
        None => {}
    }
    let binary: [(&[u8], &str); 6] = [
        (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
        (b"8BPS", "a Photoshop document"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip-compressed data"),
        (b"\x00\x00\x01\x00", "a Windows icon"),
    ];
    if let Some((_, found)) = binary.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return found;
    }
    let start = bytes.get(..512).unwrap_or(bytes);
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "an HTML page"
    } else if text.contains("<svg") {
        "an SVG drawing"
    } else if text.starts_with("<?xml") {
        "an XML document"
    } else if text.starts_with('{') || text.starts_with('[') {
        "JSON"
    } else {
        "no known image format"
    }
}
