//! A file of the container: its size without decoding, and its pixels.

use crate::imaging::codecs::heif::boxes::boxes;
use crate::imaging::codecs::heif::compose;
use crate::imaging::codecs::heif::items::Items;
use crate::imaging::codecs::heif::plan::Picture;
use crate::imaging::codecs::heif::sequence;
use crate::imaging::codecs::heif::view::View;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster};

/// The directory of a file.
enum Directory<'a> {
    Items(Items<'a>),
    /// The description of a sequence.
    Movie(&'a [u8]),
}

/// Reads width and height of the part of the primary image that is shown, before it is turned.
pub(crate) fn size(bytes: &[u8], format: ImageFormat) -> Result<Option<(u32, u32)>, DecodeError> {
    Ok(match directory(bytes, format)? {
        Directory::Items(items) => {
            let view = View::of(&items, items.primary, 0)?;
            Some((view.width, view.height))
        }
        Directory::Movie(movie) => sequence::size(movie),
    })
}

/// Decodes the primary image, or the first picture of a sequence.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let format = header.format;
    let picture = match directory(bytes, format)? {
        Directory::Items(items) => Picture::primary(&items, format)?,
        Directory::Movie(movie) => sequence::first_picture(bytes, format, movie)?,
    };
    let mut canvas = compose::render(&picture)?;
    if (canvas.width, canvas.height) != (header.width, header.height) {
        return Err(DecodeError::corrupt(format, "its headers disagree about its size"));
    }
    let colour = picture.colour.or(canvas.colour);
    let icc = match (picture.icc, colour) {
        (Some(icc), _) => Some(icc.to_vec()),
        (None, Some(colour)) => {
            if let Some(function) = colour.hdr() {
                let feature = format!("it has high dynamic range ({function})");
                return Err(DecodeError::unsupported(format, &feature));
            }
            colour.profile()
        }
        (None, None) => None,
    };
    if icc.as_ref().is_some_and(|icc| icc.get(16..20) == Some(b"RGB ")) {
        // Cameras give grey pictures the profile of their colours.
        canvas.spread_grey();
    }
    Ok(Raster {
        width: canvas.width,
        height: canvas.height,
        layout: match canvas.channels {
            1 => Layout::Gray,
            2 => Layout::GrayAlpha,
            3 => Layout::Rgb,
            _ => Layout::Rgba,
        },
        samples: canvas.samples,
        icc,
        orientation: picture.view.orientation(),
    })
}

/// Finds the directory. Its boxes must be whole.
fn directory(bytes: &[u8], format: ImageFormat) -> Result<Directory<'_>, DecodeError> {
    let mut movie = None;
    for entry in boxes(bytes) {
        if entry.kind == *b"mini" {
            return Err(DecodeError::unsupported(format, "it has the compact container (`mini`)"));
        }
        if !matches!(&entry.kind, b"meta" | b"moov") {
            continue;
        }
        if entry.is_cut {
            return Err(DecodeError::truncated(format, "its directory ends early"));
        }
        if entry.kind == *b"moov" {
            movie = movie.or(Some(entry.payload));
        } else if let Some(items) = Items::read(bytes, format, entry.payload)? {
            return Ok(Directory::Items(items));
        }
    }
    let missing = || DecodeError::truncated(format, "it ends before the directory of its images");
    movie.map(Directory::Movie).ok_or_else(missing)
}
