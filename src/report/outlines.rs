//! Draws regions on a picture: an outline and a label each. Labels are moved apart if possible.

use image::{Rgb, RgbImage};

use crate::imaging::{Filter, Picture, resize};
use crate::method::Rle;
use crate::report::drawing::{Lettering, Plate, Stencil};

/// Limits of the longer side of a drawing. Larger pictures are shrunk, and smaller ones enlarged so
/// that the labels fit.
pub(crate) const SIDE_MIN_PX: u32 = 480;
const SIDE_MAX_PX: u32 = 1600;

/// Number of text lines that fit the longer side.
pub(crate) const LINES_A_SIDE: u32 = 45;

/// A region to draw.
pub(crate) struct Outline {
    /// Area of the region in pixels. A smaller region is drawn above a larger one.
    pub(crate) area: u64,
    /// Shape at the size of the drawing.
    pub(crate) stencil: Stencil,
    /// Text at the deepest point of the region.
    pub(crate) label: String,
    /// Colour of the outline and of the label's plate.
    pub(crate) colour: Rgb<u8>,
}

/// Outlines masks on their picture, each with its label and its own colour.
///
/// The masks must have the picture's size. The result is between 480 and 1600 px on its longer
/// side.
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

/// Returns a colour that differs from the previous ones: golden-ratio steps around the hue circle.
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

/// Draws the outlines, then the labels at free positions.
pub(crate) fn draw(rgb: &mut RgbImage, mut outlines: Vec<Outline>) {
    let (width, height) = rgb.dimensions();
    let longer = width.max(height);
    let thickness_px = (longer / 320).max(2);
    let lettering = Lettering::at_most(longer / LINES_A_SIDE);
    // Large regions first, so that small ones are drawn on top.
    outlines.sort_by_key(|outline| std::cmp::Reverse(outline.area));
    for outline in &outlines {
        outline.stencil.outline(rgb, outline.colour, thickness_px);
    }
    let mut placed = Vec::with_capacity(outlines.len());
    for outline in outlines.iter().rev() {
        let text = lettering.fitted(&outline.label, width / 2);
        let wanted = lettering.plate(&text, outline.stencil.deepest());
        let plate = free_position(wanted, rgb.dimensions(), &placed);
        lettering.write_plate(rgb, plate, &text, outline.colour);
        placed.push(plate);
    }
}

/// Returns the size at which a picture is drawn. Neither side is below 1 px.
pub(crate) fn shown_size(width: u32, height: u32) -> (u32, u32) {
    let longer = width.max(height);
    let shown = longer.clamp(SIDE_MIN_PX, SIDE_MAX_PX);
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(shown) / u64::from(longer);
        u32::try_from(side).unwrap_or(SIDE_MAX_PX).max(1)
    };
    (scaled(width), scaled(height))
}

/// Centres a plate on its corner, then moves it up or down to the nearest free position, if any.
fn free_position(plate: Plate, (width, height): (u32, u32), placed: &[Plate]) -> Plate {
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
    fn pictures_are_drawn_at_a_size_between_the_limits() {
        assert_eq!(shown_size(640, 480), (640, 480));
        assert_eq!(shown_size(4000, 3000), (1600, 1200));
        assert_eq!(shown_size(1, 1), (480, 480));
        assert_eq!(shown_size(100_000, 3), (1600, 1));
    }

    #[test]
    fn labels_do_not_overlap_and_stay_in_the_picture() {
        let plate = Plate { x: 50, y: 95, width: 30, height: 10 };
        let first = free_position(plate, (100, 100), &[]);
        assert_eq!((first.x, first.y), (35, 90));
        let second = free_position(plate, (100, 100), &[first]);
        assert!(!second.overlaps(first) && second.y + second.height <= 100, "{second:?}");
        let corner = free_position(Plate { x: 0, y: 0, ..plate }, (100, 100), &[]);
        assert_eq!((corner.x, corner.y), (0, 0));
        // A plate wider than the picture keeps its left edge, where reading starts.
        assert_eq!(free_position(Plate { width: 300, ..plate }, (100, 100), &[]).x, 0);
    }
}
