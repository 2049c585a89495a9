//! The application segments: orientation, colour profile, and the meaning of components.

use image::metadata::Orientation;

use crate::imaging::codecs::exif;
use crate::imaging::codecs::jpeg::colour::Colour;
use crate::imaging::codecs::jpeg::frame::Frame;
use crate::imaging::codecs::jpeg::markers::{APP0, APP1, APP2, APP14, Segment};

const EXIF: &[u8] = b"Exif\0\0";
const ICC: &[u8] = b"ICC_PROFILE\0";

/// The contents of the application segments before the image data.
#[derive(Default)]
pub(crate) struct Metadata<'a> {
    exif: Option<&'a [u8]>,
    /// Parts of the profile: their number, the number of parts, and the bytes.
    profile: Vec<(u8, u8, &'a [u8])>,
    has_jfif: bool,
    /// The transformation that an Adobe segment names.
    adobe_transform: Option<u8>,
}

impl<'a> Metadata<'a> {
    pub(crate) fn add(&mut self, segment: &Segment<'a>) {
        let payload = segment.payload;
        match segment.marker {
            APP0 => self.has_jfif |= payload.starts_with(b"JFIF\0"),
            APP1 if self.exif.is_none() => self.exif = payload.strip_prefix(EXIF),
            APP2 => {
                if let Some([number, count, part @ ..]) = payload.strip_prefix(ICC) {
                    self.profile.push((*number, *count, part));
                }
            }
            APP14 if payload.starts_with(b"Adobe") && payload.len() >= 12 => {
                self.adobe_transform = Some(payload[11]);
            }
            _ => {}
        }
    }

    pub(crate) fn orientation(&self) -> Orientation {
        exif::orientation(self.exif)
    }

    /// Returns the profile if all its parts are there.
    pub(crate) fn profile(&self) -> Option<Vec<u8>> {
        let (_, count, _) = self.profile.first()?;
        let mut profile = Vec::new();
        for number in 1..=*count {
            let part = self.profile.iter().find(|part| part.0 == number)?;
            profile.extend_from_slice(part.2);
        }
        Some(profile)
    }

    /// Returns the meaning of the frame's components, by the rules of libjpeg and browsers.
    pub(crate) fn colour(&self, frame: &Frame) -> Colour {
        let names: Vec<u8> = frame.components.iter().map(|component| component.name).collect();
        match (names.as_slice(), self.adobe_transform) {
            ([_], _) => Colour::Grey,
            ([_, _, _], _) if self.has_jfif => Colour::YCbCr,
            ([_, _, _], Some(0)) | (b"RGB", None) => Colour::Rgb,
            ([_, _, _], _) => Colour::YCbCr,
            (_, None | Some(0)) => Colour::Cmyk,
            _ => Colour::Ycck,
        }
    }
}
