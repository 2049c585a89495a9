//! The picture with what its event says: outlined regions with their ratings, and a banner below.

use image::{Rgb, RgbImage};

use super::scale;
use crate::event::{ObjectQuality, QualityEvent};
use crate::imaging::draw::{Lettering, Plate, Stencil, fill};
use crate::imaging::{Filter, Picture, resize};

/// The longer side of what is drawn on lies within these limits: larger pictures are shrunk, and
/// smaller ones enlarged so that the labels have a place.
const SIDE_MIN_PX: u32 = 480;
const SIDE_MAX_PX: u32 = 1600;

/// The longer side holds this many lines of text.
const LINES_A_SIDE: u32 = 45;

const BANNER: Rgb<u8> = Rgb([24, 27, 32]);
const BANNER_TEXT: Rgb<u8> = Rgb([240, 242, 245]);
const BANNER_QUIET: Rgb<u8> = Rgb([165, 172, 182]);

/// Why an event could not be drawn on a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotateError {
    /// The event was made for another picture.
    #[error(
        "the event is about an image of {event_width}×{event_height} px, the picture has \
         {width}×{height} px; the image was replaced since"
    )]
    OtherPicture {
        /// Width in the event, in pixels.
        event_width: u32,
        /// Height in the event, in pixels.
        event_height: u32,
        /// Width of the picture, in pixels.
        width: u32,
        /// Height of the picture, in pixels.
        height: u32,
    },
}

/// Draws an event on its picture: each region's outline with its level and word, in the colour of
/// its rating, and a banner with the scores below the picture.
///
/// Regions are outlined by their masks where the event carries them, else by their boxes. The
/// result is between 480 and 1600 px on its longer side, without the banner.
///
/// # Errors
///
/// [`AnnotateError::OtherPicture`] if the sizes differ.
pub fn annotate(picture: &Picture, event: &QualityEvent) -> Result<RgbImage, AnnotateError> {
    let (width, height) = (picture.width(), picture.height());
    if (event.image.width, event.image.height) != (width, height) {
        let (event_width, event_height) = (event.image.width, event.image.height);
        return Err(AnnotateError::OtherPicture { event_width, event_height, width, height });
    }
    let (width, height) = shown_size(width, height);
    let mut rgb = resize(picture.pixels(), width, height, Filter::Bicubic);
    draw_regions(&mut rgb, event);
    Ok(with_banner(&rgb, event))
}

/// The size at which a picture is shown; neither side is below 1 px.
fn shown_size(width: u32, height: u32) -> (u32, u32) {
    let longer = width.max(height);
    let shown = longer.clamp(SIDE_MIN_PX, SIDE_MAX_PX);
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(shown) / u64::from(longer);
        u32::try_from(side).unwrap_or(SIDE_MAX_PX).max(1)
    };
    (scaled(width), scaled(height))
}

fn draw_regions(rgb: &mut RgbImage, event: &QualityEvent) {
    let (width, height) = rgb.dimensions();
    let longer = width.max(height);
    let thickness_px = (longer / 320).max(2);
    let lettering = Lettering::at_most(longer / LINES_A_SIDE);
    // Large regions first, so that the outlines and labels of small ones lie on top.
    let mut objects: Vec<&ObjectQuality> = event.objects.iter().collect();
    objects.sort_by_key(|object| std::cmp::Reverse(object.area));
    let stencils = objects.iter().map(|object| stencil(object, event, (width, height)));
    let drawn: Vec<(&ObjectQuality, Stencil)> = objects.iter().copied().zip(stencils).collect();
    for (object, stencil) in &drawn {
        stencil.outline(rgb, colour_of(object), thickness_px);
    }
    let mut placed = Vec::with_capacity(drawn.len());
    for (object, stencil) in drawn.iter().rev() {
        let text = format!("{} {}", object.rating.level, object.rating.word.to_lowercase());
        let text = lettering.fitted(&text, width / 2);
        let plate = free_place(lettering.plate(&text, stencil.deepest()), (width, height), &placed);
        lettering.write_plate(rgb, plate, &text, colour_of(object));
        placed.push(plate);
    }
}

fn stencil(object: &ObjectQuality, event: &QualityEvent, (width, height): (u32, u32)) -> Stencil {
    if let Some(rle) = &object.mask
        && (rle.width(), rle.height()) == (event.image.width, event.image.height)
    {
        return Stencil::new(rle, width, height);
    }
    let across = f64::from(width) / f64::from(event.image.width);
    let down = f64::from(height) / f64::from(event.image.height);
    let bbox = object.bbox;
    let (left, top) = (f64::from(bbox.x), f64::from(bbox.y));
    let (right, bottom) = (left + f64::from(bbox.width), top + f64::from(bbox.height));
    Stencil::of_box([left * across, top * down, right * across, bottom * down], width, height)
}

fn colour_of(object: &ObjectQuality) -> Rgb<u8> {
    Rgb(scale::colour(f64::from(object.rating.level), object.rating.probabilities.len()))
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

/// Puts the picture above a banner that names it and tells its scores.
fn with_banner(rgb: &RgbImage, event: &QualityEvent) -> RgbImage {
    let (width, height) = rgb.dimensions();
    let lettering = Lettering::at_most(width.max(height) / LINES_A_SIDE);
    let large = Lettering::at_most(2 * lettering.height());
    let margin = lettering.height() / 2;
    let score = format!("{:.2}", event.score);
    let plate = large.plate(&score, (margin, height + margin));
    // A tall narrow picture leaves its numbers room beside it.
    let canvas_width = width.max(SIDE_MIN_PX);
    let mut canvas = RgbImage::from_pixel(canvas_width, plate.y + plate.height + margin, BANNER);
    image::imageops::replace(&mut canvas, rgb, 0, 0);

    let score_colour = Rgb(scale::colour_of_score(event));
    fill(&mut canvas, plate, score_colour);
    large.write_plate(&mut canvas, plate, &score, score_colour);

    let left = plate.x + plate.width + margin;
    let room = canvas_width.saturating_sub(left + margin);
    let name = lettering.fitted(&event.reference.id, room);
    lettering.write(&mut canvas, (left, plate.y), &name, BANNER_TEXT);
    let below = plate.y + plate.height - lettering.height();
    let facts = lettering.fitted(&facts(event), room);
    lettering.write(&mut canvas, (left, below), &facts, BANNER_QUIET);
    canvas
}

fn facts(event: &QualityEvent) -> String {
    let mut facts = vec![
        format!("global {} {}", event.global.level, event.global.word.to_lowercase()),
        format!("{} regions", event.objects.len()),
        format!("expected {:.2}", event.score_expected),
        event.engine.name.clone(),
    ];
    if let Some(local) = event.local {
        facts.insert(1, format!("local {local:.2}"));
    }
    if let Some(verdict) = &event.verdict {
        facts.insert(0, verdict.outcome.name().to_owned());
    }
    facts.join(" | ")
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
