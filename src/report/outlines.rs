//! Regions drawn on a picture: an outline and a label for each, labels beside one another.

use image::{Rgb, RgbImage};

use crate::imaging::draw::{Lettering, Plate, Stencil};
use crate::imaging::{Filter, Picture, resize};
use crate::method::Rle;

/// The longer side of what is drawn on lies within these limits: larger pictures are shrunk, and
/// smaller ones enlarged so that the labels have a place.
pub(super) const SIDE_MIN_PX: u32 = 480;
const SIDE_MAX_PX: u32 = 1600;

/// The longer side holds this many lines of text.
pub(super) const LINES_A_SIDE: u32 = 45;

/// One region to be drawn.
pub(super) struct Outline {
    /// Decides what lies on top: the smaller.
    pub(super) area: u64,
    /// Where it is, at the size of the drawing.
    pub(super) stencil: Stencil,
    /// What stands in its middle.
    pub(super) label: String,
    /// Of the outline and the label's plate.
    pub(super) colour: Rgb<u8>,
}

/// Outlines masks on their picture, each with its label and a colour of its own.
///
/// The result is between 480 and 1600 px on its longer side. Masks are of the picture's size.
pub fn outline_masks<'a>(
    picture: &Picture,
    masks: impl IntoIterator<Item = (&'a Rle, String)>,
) -> RgbImage {
    let (width, height) = shown_size(picture.width(), picture.height());
    let mut rgb = resize(picture.pixels(), width, height, Filter::Bicubic);
    let outline = |(index, (rle, label)): (usize, (&Rle, String))| Outline {
        area: rle.area(),
        stencil: Stencil::new(rle, width, height),
        label,
        colour: hue(index),
    };
    draw(&mut rgb, masks.into_iter().enumerate().map(outline).collect());
    rgb
}

/// Colours that differ from those before them: steps of the golden ratio around the circle.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=230")]
fn hue(index: usize) -> Rgb<u8> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let angle = (index as f64 * GOLDEN).fract() * 6.0;
    let channel = |shift: f64| {
        let distance = ((angle + shift) % 6.0 - 3.0).abs() - 1.0;
        (distance.clamp(0.0, 1.0) * 190.0 + 40.0) as u8
    };
    Rgb([channel(0.0), channel(4.0), channel(2.0)])
}

/// Draws outlines, then labels where they do not cover each other.
pub(super) fn draw(rgb: &mut RgbImage, mut outlines: Vec<Outline>) {
    let (width, height) = rgb.dimensions();
    let longer = width.max(height);
    let thickness_px = (longer / 320).max(2);
    let lettering = Lettering::at_most(longer / LINES_A_SIDE);
    // Large regions first, so that the outlines and labels of small ones lie on top.
    outlines.sort_by_key(|outline| std::cmp::Reverse(outline.area));
    for outline in &outlines {
        outline.stencil.outline(rgb, outline.colour, thickness_px);
    }
    let mut placed = Vec::with_capacity(outlines.len());
    for outline in outlines.iter().rev() {
        let text = lettering.fitted(&outline.label, width / 2);
        let plate = lettering.plate(&text, outline.stencil.deepest());
        let plate = free_place(plate, (width, height), &placed);
        lettering.write_plate(rgb, plate, &text, outline.colour);
        placed.push(plate);
    }
}

/// The size at which a picture is shown; neither side is below 1 px.
pub(super) fn shown_size(width: u32, height: u32) -> (u32, u32) {
    let longer = width.max(height);
    let shown = longer.clamp(SIDE_MIN_PX, SIDE_MAX_PX);
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(shown) / u64::from(longer);
        u32::try_from(side).unwrap_or(SIDE_MAX_PX).max(1)
    };
    (scaled(width), scaled(height))
}

/// Centres a plate on where it stands and moves it up or down until it covers no other.
fn free_place(plate: Plate, (width, height): (u32, u32), placed: &[Plate]) -> Plate {
    let x = plate.x.saturating_sub(plate.width / 2).min(width.saturating_sub(plate.width));
    let y_max = height.saturating_sub(plate.height);
    let wanted = plate.y.saturating_sub(plate.height / 2).min(y_max);
    let step = plate.height + 1;
    let steps = height / step;
    let below = (0..=steps).map(|index| wanted.saturating_add(index * step));
    let above = (1..=steps).map_while(|index| wanted.checked_sub(index * step));
    let mut candidates: Vec<u32> = below.filter(|y| *y <= y_max).chain(above).collect();
    candidates.sort_by_key(|y| y.abs_diff(wanted));
    let is_free = |y: &u32| {
        let candidate = Plate { x, y: *y, ..plate };
        !placed.iter().any(|other| candidate.overlaps(*other))
    };
    let y = candidates.into_iter().find(is_free).unwrap_or(wanted);
    Plate { x, y, ..plate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_shown_at_a_size_between_the_limits() {
        assert_eq!(shown_size(640, 480), (640, 480));
        assert_eq!(shown_size(4000, 3000), (1600, 1200));
        assert_eq!(shown_size(1, 1), (480, 480));
        assert_eq!(shown_size(100_000, 3), (1600, 1));
    }

    #[test]
    fn labels_give_way_to_each_other_and_stay_in_the_picture() {
        let plate = Plate { x: 50, y: 95, width: 30, height: 10 };
        let first = free_place(plate, (100, 100), &[]);
        assert_eq!((first.x, first.y), (35, 90));
        let second = free_place(plate, (100, 100), &[first]);
        assert!(!second.overlaps(first) && second.y + second.height <= 100, "{second:?}");
        let corner = free_place(Plate { x: 0, y: 0, ..plate }, (100, 100), &[]);
        assert_eq!((corner.x, corner.y), (0, 0));
        // Wider than the picture: the left edge is what is read first.
        assert_eq!(free_place(Plate { width: 300, ..plate }, (100, 100), &[]).x, 0);
    }
}
