//! Fifty different small images, cropped from the sample photos, and a PNG file with a giant size.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat, RgbImage, RgbaImage, imageops};
use sha2::{Digest, Sha256};

/// An encoded image with its key in the bucket.
pub(crate) struct Sample {
    pub(crate) key: String,
    pub(crate) bytes: Vec<u8>,
}

impl Sample {
    pub(crate) fn sha256(&self) -> String {
        sha256(&self.bytes)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Returns the sample photos cropped, scaled, degraded and encoded in three formats. Some keys have
/// folders, spaces, a plus sign, a percent sign or letters outside ASCII.
pub(crate) fn fifty_images() -> Vec<Sample> {
    let photos = photos();
    let samples: Vec<_> = (0..50).map(|index| sample(&photos, index)).collect();
    let distinct: BTreeSet<_> = samples.iter().map(Sample::sha256).collect();
    assert_eq!(distinct.len(), samples.len(), "two images are the same");
    samples
}

fn photos() -> Vec<RgbImage> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    let decode = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).unwrap().into_rgb8()
    };
    paths.iter().map(decode).collect()
}

fn sample(photos: &[RgbImage], index: u32) -> Sample {
    let photo = &photos[index as usize % photos.len()];
    let (width, height) = (48 + index % 7 * 8, 48 + index % 5 * 8);
    let side = photo.width().min(photo.height());
    let shift = index * 7 % (side / 4);
    let cropped = imageops::crop_imm(photo, shift, shift, side - shift, side - shift).to_image();
    let mut small = imageops::resize(&cropped, width, height, imageops::FilterType::Triangle);
    if index % 4 == 1 {
        small = imageops::blur(&small, 0.6 + index as f32 / 40.0);
    }
    let (bytes, extension) = match index % 3 {
        0 => (jpeg(&small, 30 + u8::try_from(index).unwrap()), "jpg"),
        1 => (encode(&small, ImageFormat::Png), "png"),
        _ => (encode(&small, ImageFormat::WebP), "webp"),
    };
    let folder = ["", "plain/", "with space/", "a+b/", "größe/", "100%/"][index as usize % 6];
    Sample { key: format!("{folder}image-{index:02}.{extension}"), bytes }
}

pub(crate) fn jpeg(picture: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(picture).unwrap();
    bytes
}

pub(crate) fn encode(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(picture.clone()).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Returns a GIF with two frames of different colours.
pub(crate) fn animated_gif() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for colour in [[200, 40, 40, 255], [40, 40, 200, 255]] {
        let picture = RgbaImage::from_pixel(32, 24, image::Rgba(colour));
        let delay = Delay::from_numer_denom_ms(100, 1);
        encoder.encode_frame(Frame::from_parts(picture, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    bytes
}

/// Returns a PNG of a few bytes with 100,000 × 100,000 pixels in its header: 40 GB decoded.
pub(crate) fn giant_png() -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(100_000_u32.to_be_bytes());
    header.extend(100_000_u32.to_be_bytes());
    header.extend([8, 6, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(13_u32.to_be_bytes());
    bytes.extend(&header);
    bytes.extend(crc32(&header).to_be_bytes());
    bytes
}

/// Returns the checksum of a PNG chunk.
fn crc32(bytes: &[u8]) -> u32 {
    crate::raw_produce::crc(bytes, 0xEDB8_8320)
}
