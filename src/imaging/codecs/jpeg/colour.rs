//! Joins rows of components to rows of pixels.

use crate::imaging::codecs::jpeg::lanes::{Lanes, PIXELS};
use crate::imaging::codecs::ycbcr::rgb_from_ycbcr;

/// The meaning of a file's components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Grey,
    Rgb,
    YCbCr,
    /// Stored inverted, as all common writers do.
    Cmyk,
    /// The inks of which three are stored as YCbCr.
    Ycck,
}

impl Colour {
    /// Returns the number of samples of a decoded pixel.
    pub(crate) fn samples(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb | Self::YCbCr => 3,
            Self::Cmyk | Self::Ycck => 4,
        }
    }
}

/// Joins a row of each component to a row of pixels. An ink of 255 is full.
#[inline(always)]
pub(crate) fn join<L: Lanes>(colour: Colour, rows: &[&[u8]], pixels: &mut [u8], lanes: L) {
    match (colour, rows) {
        (Colour::YCbCr, [y, cb, cr]) => {
            let (chunks, rest) = pixels.as_chunks_mut::<{ 3 * PIXELS }>();
            let first = PIXELS * chunks.len();
            let chroma = cb.as_chunks::<PIXELS>().0.iter().zip(cr.as_chunks::<PIXELS>().0);
            let samples = y.as_chunks::<PIXELS>().0.iter().zip(chroma);
            for (pixels, (y, (cb, cr))) in chunks.iter_mut().zip(samples) {
                *pixels = lanes.rgb(y, cb, cr);
            }
            for (at, pixel) in rest.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let at = first + at;
                *pixel = rgb_from_ycbcr([y[at], cb[at], cr[at]]);
            }
        }
        (Colour::Rgb, [red, green, blue]) => {
            let colours = red.iter().zip(green.iter().zip(*blue));
            for (pixel, (red, (green, blue))) in
                pixels.as_chunks_mut::<3>().0.iter_mut().zip(colours)
            {
                *pixel = [*red, *green, *blue];
            }
        }
        (Colour::Cmyk | Colour::Ycck, [first, second, third, black]) => {
            let inks = first.iter().zip(second.iter().zip(third.iter().zip(*black)));
            let rows = pixels.as_chunks_mut::<4>().0.iter_mut().zip(inks);
            for (pixel, (first, (second, (third, black)))) in rows {
                let stored = [*first, *second, *third];
                // Luma and chroma encode the inverse of the stored inks.
                let [c, m, y] = if colour == Colour::Ycck {
                    rgb_from_ycbcr(stored)
                } else {
                    stored.map(|ink| 255 - ink)
                };
                *pixel = [c, m, y, 255 - black];
            }
        }
        (_, [grey, ..]) => pixels.copy_from_slice(&grey[..pixels.len()]),
        _ => {}
    }
}
