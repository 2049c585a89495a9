//! Draws an event on its picture: outlined regions with ratings, and a banner below.

use image::{Rgb, RgbImage};

use crate::event::{ObjectQuality, QualityEvent};
use crate::imaging::{Filter, Picture, resize};
use crate::report::colour_scale;
use crate::report::drawing::{Lettering, Stencil, fill};
use crate::report::outlines::{LINES_A_SIDE, Outline, SIDE_MIN_PX, draw, shown_size};

const BANNER: Rgb<u8> = Rgb([24, 27, 32]);
const BANNER_TEXT: Rgb<u8> = Rgb([240, 242, 245]);
const BANNER_QUIET: Rgb<u8> = Rgb([165, 172, 182]);

/// An event that cannot be drawn on a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotateError {
    /// The event is about another picture.
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
/// its rating. A banner below the picture has the scores.
///
/// Outlines the mask of a region, or its box if the event has no mask. Without the banner, the
/// result is between 480 and 1600 px on its longer side.
///
/// # Errors
///
/// [`AnnotateError::OtherPicture`] if the sizes of event and picture differ.
pub fn annotate(picture: &Picture, event: &QualityEvent) -> Result<RgbImage, AnnotateError> {
    let (width, height) = (picture.width(), picture.height());
    if (event.image.width, event.image.height) != (width, height) {
        let (event_width, event_height) = (event.image.width, event.image.height);
        return Err(AnnotateError::OtherPicture { event_width, event_height, width, height });
    }
    let (shown_width, shown_height) = shown_size(width, height);
    let mut rgb = resize(picture.pixels(), shown_width, shown_height, Filter::Bicubic);
    draw_regions(&mut rgb, event);
    Ok(with_banner(&rgb, event))
}

fn draw_regions(rgb: &mut RgbImage, event: &QualityEvent) {
    let size = rgb.dimensions();
    let outline = |object: &ObjectQuality| Outline {
        area: object.area,
        stencil: stencil(object, event, size),
        label: format!("{} {}", object.rating.level, object.rating.word.to_lowercase()),
        colour: colour_of(object),
    };
    draw(rgb, event.objects.iter().map(outline).collect());
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
    Rgb(colour_scale::colour(f64::from(object.rating.level), object.rating.probabilities.len()))
}

/// Adds a banner with name and scores below the picture.
fn with_banner(rgb: &RgbImage, event: &QualityEvent) -> RgbImage {
    let (width, height) = rgb.dimensions();
    let lettering = Lettering::at_most(width.max(height) / LINES_A_SIDE);
    let large = Lettering::at_most(2 * lettering.height());
    let margin = lettering.height() / 2;
    let score = format!("{:.2}", event.score);
    let plate = large.plate(&score, (margin, height + margin));
    // A narrow picture gets a wider canvas, so that the numbers fit.
    let canvas_width = width.max(SIDE_MIN_PX);
    let mut canvas = RgbImage::from_pixel(canvas_width, plate.y + plate.height + margin, BANNER);
    image::imageops::replace(&mut canvas, rgb, 0, 0);

    let score_colour = Rgb(colour_scale::colour_of_score(event));
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
