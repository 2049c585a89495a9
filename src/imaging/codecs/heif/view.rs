//! The part of a stored picture that is shown, and the way it is turned.
//!
//! Source: ISO/IEC 23008-12, section 6.5. The container's own properties alone turn a picture; the
//! orientation in its EXIF data is a copy of them.

use image::metadata::Orientation;

use crate::imaging::codecs::heif::items::Items;
use crate::imaging::codecs::heif::properties::{CleanAperture, Property};
use crate::imaging::error::DecodeError;

/// Maximum number of items that each take their picture from the next.
pub(crate) const DEPTH_MAX: u32 = 4;

/// A rectangle of a stored picture, and the turn that makes it upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) x: u32,
    pub(crate) y: u32,
    /// Width in pixels before the turn.
    pub(crate) width: u32,
    /// Height in pixels before the turn.
    pub(crate) height: u32,
    turn: Turn,
}

/// A turn. A shown pixel is flipped first, and rows and columns are exchanged then, to find the
/// stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    is_transposed: bool,
    flips_x: bool,
    flips_y: bool,
}

impl View {
    /// Returns the whole of a stored picture, not turned.
    pub(crate) fn whole(width: u32, height: u32) -> Self {
        Self { x: 0, y: 0, width, height, turn: Turn::default() }
    }

    /// Reads the view of an item from its properties.
    pub(crate) fn of(items: &Items<'_>, id: u32, depth: u32) -> Result<Self, DecodeError> {
        if depth > DEPTH_MAX {
            return Err(items.unsupported("images in images in images"));
        }
        let mut view = if items.kind(id)? == *b"iden" {
            match items.referred(id, *b"dimg") {
                [source] => Self::of(items, *source, depth + 1)?,
                _ => return Err(items.corrupt("a derived image has no source")),
            }
        } else {
            let sizes = items.properties(id).find_map(|(property, _)| match property {
                Property::Size(width, height) => Some((*width, *height)),
                _ => None,
            });
            let (width, height) =
                sizes.ok_or_else(|| items.corrupt("an image does not state its size"))?;
            Self::whole(width, height)
        };
        for (property, _) in items.properties(id) {
            match property {
                Property::Rotation(turns) => (0..*turns).for_each(|_| view.turn.rotate()),
                Property::Mirror(0) => view.turn.flips_y ^= true,
                Property::Mirror(_) => view.turn.flips_x ^= true,
                Property::CleanAperture(aperture) => {
                    view = view.cropped(*aperture).ok_or_else(|| {
                        items.corrupt("the rectangle that it shows is outside of its image")
                    })?;
                }
                _ => {}
            }
        }
        Ok(view)
    }

    /// Returns the turn that makes the rectangle upright.
    pub(crate) fn orientation(self) -> Orientation {
        let Turn { is_transposed, flips_x, flips_y } = self.turn;
        match (is_transposed, flips_x, flips_y) {
            (false, false, false) => Orientation::NoTransforms,
            (false, true, false) => Orientation::FlipHorizontal,
            (false, true, true) => Orientation::Rotate180,
            (false, false, true) => Orientation::FlipVertical,
            (true, false, false) => Orientation::Rotate90FlipH,
            (true, true, false) => Orientation::Rotate90,
            (true, true, true) => Orientation::Rotate270FlipH,
            (true, false, true) => Orientation::Rotate270,
        }
    }

    /// Returns the part inside of a clean aperture, whose axes are those of the turned picture.
    fn cropped(self, aperture: CleanAperture) -> Option<Self> {
        let Turn { is_transposed, flips_x, flips_y } = self.turn;
        let (width, height) =
            if is_transposed { (self.height, self.width) } else { (self.width, self.height) };
        let (left, shown_width) = span(width, aperture.width, aperture.x)?;
        let (top, shown_height) = span(height, aperture.height, aperture.y)?;
        let x = if flips_x { width - left - shown_width } else { left };
        let y = if flips_y { height - top - shown_height } else { top };
        let (x, y, width, height) = if is_transposed {
            (y, x, shown_height, shown_width)
        } else {
            (x, y, shown_width, shown_height)
        };
        Some(Self { x: self.x + x, y: self.y + y, width, height, turn: self.turn })
    }
}

impl Turn {
    /// Adds a quarter turn anticlockwise.
    fn rotate(&mut self) {
        *self = Self {
            is_transposed: !self.is_transposed,
            flips_x: self.flips_y,
            flips_y: !self.flips_x,
        };
    }
}

/// Returns the start and the length of the part of a side that is shown. The offset is that of the
/// part's centre from the side's.
#[expect(clippy::cast_possible_truncation, reason = "both are between 0 and the side")]
#[expect(clippy::cast_sign_loss, reason = "both are between 0 and the side")]
fn span(side: u32, length: (u32, u32), offset: (i32, u32)) -> Option<(u32, u32)> {
    if length.1 == 0 || offset.1 == 0 {
        return None;
    }
    let length = f64::from(length.0) / f64::from(length.1);
    let offset = f64::from(offset.0) / f64::from(offset.1);
    let start = ((f64::from(side) - length) / 2.0 + offset).floor().max(0.0);
    let length = length.round().min(f64::from(side) - start);
    (length >= 1.0).then_some((start as u32, length as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_turns_are_anticlockwise_and_four_of_them_are_none() {
        let mut view = View::whole(3, 2);
        let mut turns = Vec::new();
        for _ in 0..4 {
            view.turn.rotate();
            turns.push(view.orientation());
        }
        assert_eq!(
            turns,
            [
                Orientation::Rotate270,
                Orientation::Rotate180,
                Orientation::Rotate90,
                Orientation::NoTransforms
            ]
        );
    }

    #[test]
    fn a_crop_after_a_turn_has_the_axes_of_the_turned_picture() {
        let mut view = View::whole(100, 60);
        view.turn.rotate();
        // The turned picture is 60×100; the left upper corner of it was the right upper one.
        let aperture = CleanAperture { width: (20, 1), height: (10, 1), x: (-20, 1), y: (-45, 1) };
        let cropped = view.cropped(aperture).unwrap();
        assert_eq!((cropped.x, cropped.y, cropped.width, cropped.height), (90, 0, 10, 20));
    }

    #[test]
    fn an_aperture_is_centred_and_stays_inside() {
        assert_eq!(span(100, (50, 1), (0, 1)), Some((25, 50)));
        assert_eq!(span(101, (50, 1), (0, 1)), Some((25, 50)));
        assert_eq!(span(100, (50, 1), (40, 1)), Some((65, 35)));
        assert_eq!(span(100, (50, 1), (100, 1)), None);
        assert_eq!(span(100, (50, 0), (0, 1)), None);
        assert_eq!(span(100, (u32::MAX, 1), (i32::MIN, 1)), Some((0, 100)));
    }
}
