//! Assembles an image from its coded pictures: tiles, layers, alpha, and the part that is shown.

use image::metadata::Orientation;

use crate::imaging::codecs::heif::coded::Coded;
use crate::imaging::codecs::heif::convert::{Canvas, Position};
use crate::imaging::codecs::heif::decoders;
use crate::imaging::codecs::heif::overlay::blend;
use crate::imaging::codecs::heif::plan::{Grid, Overlay, Picture, Source};
use crate::imaging::codecs::heif::planes::{Chroma, Planes};
use crate::imaging::codecs::heif::view::View;
use crate::imaging::error::DecodeError;
use crate::imaging::raster::Samples;

/// Makes the part of an image that is shown, not yet turned.
pub(crate) fn render(picture: &Picture<'_>) -> Result<Canvas, DecodeError> {
    let mut canvas = match &picture.source {
        Source::Coded(coded) => {
            // The decoder's own memory is free again before the canvas is allocated.
            let planes = decoders::decode(coded)?;
            let mut canvas = empty_canvas(picture, coded)?;
            paste(&mut canvas, coded, &planes, Position { x: 0, y: 0 })?;
            canvas
        }
        Source::Grid(grid) => paste_tiles(picture, grid)?,
        Source::Overlay(overlay) => paste_layers(picture, overlay)?,
    };
    let Some(alpha) = &picture.alpha else {
        crop(&mut canvas, picture.view);
        return Ok(canvas);
    };
    let mask = render(&alpha.picture)?;
    // Alpha covers what is shown, or else what is stored.
    let is_stored = (mask.width, mask.height) == (canvas.width, canvas.height);
    if is_stored {
        apply_alpha(&mut canvas, &mask, alpha.is_multiplied);
    }
    crop(&mut canvas, picture.view);
    if !is_stored {
        apply_alpha(&mut canvas, &mask, alpha.is_multiplied);
    }
    Ok(canvas)
}

/// Creates a canvas for the form that the first coded picture claims.
fn empty_canvas(picture: &Picture<'_>, first: &Coded<'_>) -> Result<Canvas, DecodeError> {
    let form = decoders::form(first)?;
    let colours = if form.is_grey { 1 } else { 3 };
    let channels = colours + usize::from(picture.alpha.is_some());
    Ok(Canvas::new(picture.width, picture.height, channels, form.is_deep))
}

fn paste(
    canvas: &mut Canvas,
    coded: &Coded<'_>,
    planes: &Planes,
    at: Position,
) -> Result<(), DecodeError> {
    if canvas.channels < 3 && planes.chroma != Chroma::None {
        let detail = "a picture has colours, and its configuration says grey";
        return Err(DecodeError::corrupt(coded.format, detail));
    }
    let colour = coded.colour.unwrap_or(planes.colour);
    canvas
        .paste(planes, colour, at)
        .map_err(|feature| DecodeError::unsupported(coded.format, &format!("it has {feature}")))
}

fn paste_tiles(picture: &Picture<'_>, grid: &Grid<'_>) -> Result<Canvas, DecodeError> {
    let mut canvas = empty_canvas(picture, &grid.tiles[0])?;
    for (index, tile) in grid.tiles.iter().enumerate() {
        let (row, column) = (index / grid.columns, index % grid.columns);
        let position = |index: usize, side: u32| side * u32::try_from(index).unwrap_or(u32::MAX);
        let at = Position { x: position(column, tile.width), y: position(row, tile.height) };
        let planes = decoders::decode(tile)?;
        paste(&mut canvas, tile, &planes, at)?;
    }
    Ok(canvas)
}

/// Makes the picture of an overlay, with 8 bits per sample and alpha.
fn paste_layers(picture: &Picture<'_>, overlay: &Overlay<'_>) -> Result<Canvas, DecodeError> {
    let (width, height) = (picture.width, picture.height);
    let fill = overlay.fill.map(|sample| sample.to_be_bytes()[0]);
    let pixels = fill.repeat(width as usize * height as usize);
    let samples = Samples::Eight(pixels);
    let mut canvas = Canvas { width, height, channels: 4, samples, colour: None };
    for layer in &overlay.layers {
        if layer.picture.view.orientation() != Orientation::NoTransforms
            && let Some(coded) = layer.picture.first()
        {
            let feature = "it has turned images over each other";
            return Err(DecodeError::unsupported(coded.format, feature));
        }
        let rendered = render(&layer.picture)?;
        canvas.colour = canvas.colour.or(rendered.colour);
        blend(&mut canvas, &rendered, layer.x, layer.y);
    }
    Ok(canvas)
}

/// Writes alpha to the last channel. Alpha of another size is scaled to the nearest pixel. Colours
/// that are multiplied by it are divided.
fn apply_alpha(canvas: &mut Canvas, mask: &Canvas, is_multiplied: bool) {
    let (width, height) = (canvas.width as usize, canvas.height as usize);
    let (mask_width, mask_height) = (mask.width as usize, mask.height as usize);
    for row in 0..height {
        let from = row * mask_height / height * mask_width;
        let pixels = row * width * canvas.channels..(row + 1) * width * canvas.channels;
        for (column, index) in pixels.step_by(canvas.channels).enumerate() {
            let at = (from + column * mask_width / width) * mask.channels;
            let colours = index..index + canvas.channels - 1;
            match (&mut canvas.samples, &mask.samples) {
                (Samples::Eight(samples), Samples::Eight(mask)) => {
                    samples[colours.end] = mask[at];
                }
                (Samples::Sixteen(samples), Samples::Sixteen(mask)) => {
                    samples[colours.end] = mask[at];
                }
                (Samples::Eight(samples), Samples::Sixteen(mask)) => {
                    samples[colours.end] = mask[at].to_be_bytes()[0];
                }
                (Samples::Sixteen(samples), Samples::Eight(mask)) => {
                    samples[colours.end] = u16::from(mask[at]) * 257;
                }
            }
            if is_multiplied {
                match &mut canvas.samples {
                    Samples::Eight(samples) => divide(&mut samples[index..=colours.end], 255),
                    Samples::Sixteen(samples) => divide(&mut samples[index..=colours.end], 65_535),
                }
            }
        }
    }
}

/// Divides the colours of a pixel by its alpha, the last sample.
fn divide<Sample>(pixel: &mut [Sample], top: u32)
where
    Sample: Copy + Into<u32> + TryFrom<u32>,
{
    let Some((alpha, colours)) = pixel.split_last_mut() else { return };
    let alpha: u32 = (*alpha).into();
    if alpha == 0 {
        return;
    }
    for colour in colours {
        let value: u32 = (*colour).into();
        let divided = ((value * top + alpha / 2) / alpha).min(top);
        *colour = Sample::try_from(divided).unwrap_or(*colour);
    }
}

/// Keeps the rectangle of a view, in the same memory.
pub(crate) fn crop(canvas: &mut Canvas, view: View) {
    if (view.width, view.height) == (canvas.width, canvas.height) {
        return;
    }
    let stride = canvas.width as usize * canvas.channels;
    let len = view.width as usize * canvas.channels;
    let start = view.x as usize * canvas.channels;
    let rows = (view.y as usize..).take(view.height as usize).enumerate();
    for (to, from) in rows {
        let source = from * stride + start..from * stride + start + len;
        match &mut canvas.samples {
            Samples::Eight(samples) => samples.copy_within(source, to * len),
            Samples::Sixteen(samples) => samples.copy_within(source, to * len),
        }
    }
    match &mut canvas.samples {
        Samples::Eight(samples) => samples.truncate(len * view.height as usize),
        Samples::Sixteen(samples) => samples.truncate(len * view.height as usize),
    }
    (canvas.width, canvas.height) = (view.width, view.height);
}
