//! Decoded planes of luma and chroma, as the decoders return them.

use crate::imaging::codecs::heif::code_points::CodePoints;

/// The resolution of the two planes of chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chroma {
    /// No chroma: grey.
    None,
    /// 4:2:0, half the width and half the height.
    Quarter,
    /// 4:2:2, half the width.
    Half,
    /// 4:4:4.
    Full,
}

/// A decoded picture.
pub(crate) struct Planes {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) chroma: Chroma,
    /// Bits per sample.
    pub(crate) depth: u8,
    /// Colours as the coded picture states them.
    pub(crate) colour: CodePoints,
    pub(crate) samples: Samples,
}

/// The samples of a picture in the form of its decoder.
pub(crate) enum Samples {
    /// Three planes without gaps between rows.
    #[cfg(feature = "heic")]
    Words([Vec<u16>; 3]),
    /// A picture with gaps between rows.
    #[cfg(feature = "avif")]
    Av1(re_rav1d::Picture),
}

impl Planes {
    /// Returns width and height of a plane.
    pub(crate) fn plane_size(&self, plane: usize) -> (u32, u32) {
        match (plane, self.chroma) {
            (0, _) | (_, Chroma::Full | Chroma::None) => (self.width, self.height),
            (_, Chroma::Half) => (self.width.div_ceil(2), self.height),
            (_, Chroma::Quarter) => (self.width.div_ceil(2), self.height.div_ceil(2)),
        }
    }

    /// Copies a row of a plane.
    pub(crate) fn copy_row(&self, plane: usize, row: u32, to: &mut Vec<f32>) {
        let width = self.plane_size(plane).0 as usize;
        let row = row as usize;
        to.clear();
        match &self.samples {
            #[cfg(feature = "heic")]
            Samples::Words(planes) => {
                to.extend(
                    planes[plane][row * width..][..width].iter().map(|word| f32::from(*word)),
                );
            }
            #[cfg(feature = "avif")]
            Samples::Av1(picture) => {
                let component = re_rav1d::PlanarImageComponent::from(plane);
                let stride = picture.stride(component) as usize;
                let bytes = picture.plane(component);
                let bytes = &bytes[row * stride..];
                if self.depth == 8 {
                    to.extend(bytes[..width].iter().map(|byte| f32::from(*byte)));
                } else {
                    let words = bytes.as_chunks::<2>().0[..width].iter();
                    to.extend(words.map(|word| f32::from(u16::from_ne_bytes(*word))));
                }
            }
        }
    }
}
