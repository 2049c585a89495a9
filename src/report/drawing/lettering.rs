//! Text in bitmap fonts, enlarged by whole factors to stay legible on large pictures.
//!
//! Characters outside Latin-1 appear as `?`.

use std::convert::Infallible;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13_BOLD, FONT_9X18_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};

use crate::report::drawing::plate::{Plate, fill};

/// A fixed-width font and the factor by which it is enlarged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lettering {
    font: &'static MonoFont<'static>,
    scale: u32,
}

impl Lettering {
    /// Returns the largest font at a whole factor that is at most `height_px` high, or the smallest
    /// font if none fits.
    pub(crate) fn at_most(height_px: u32) -> Self {
        let small = Self { font: &FONT_7X13_BOLD, scale: (height_px / 13).max(1) };
        let large = Self { font: &FONT_9X18_BOLD, scale: (height_px / 18).max(1) };
        if large.height() <= height_px && large.height() > small.height() { large } else { small }
    }

    /// Returns the height of a line in pixels.
    pub(crate) fn height(self) -> u32 {
        self.font.character_size.height * self.scale
    }

    /// Returns the width of a text in pixels.
    pub(crate) fn width(self, text: &str) -> u32 {
        let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        characters.saturating_mul(self.font.character_size.width * self.scale)
    }

    /// Returns the text, or its start and two dots if it is wider than `width_px`.
    pub(crate) fn fitted(self, text: &str, width_px: u32) -> String {
        if self.width(text) <= width_px {
            return text.to_owned();
        }
        let room = (width_px / self.width(" ").max(1)) as usize;
        text.chars().take(room.saturating_sub(2)).chain("..".chars()).collect()
    }

    /// Writes a line of text with its upper left corner at (`x`, `y`), clipped to the picture.
    pub(crate) fn write(self, rgb: &mut RgbImage, (x, y): (u32, u32), text: &str, colour: Rgb<u8>) {
        let mut target = GlyphTarget { rgb, x, y, scale: self.scale, colour };
        let style = MonoTextStyle::new(self.font, BinaryColor::On);
        let Ok(_) =
            Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut target);
    }

    /// Fills a plate with `colour` and writes a line of text on it, in black or white, whichever
    /// has more contrast.
    pub(crate) fn write_plate(self, rgb: &mut RgbImage, plate: Plate, text: &str, colour: Rgb<u8>) {
        fill(rgb, plate, colour);
        let padding = self.padding();
        let at = (plate.x + padding, plate.y + padding);
        self.write(rgb, at, text, readable_on(colour));
    }

    /// Returns the plate for a text, with its upper left corner at (`x`, `y`).
    pub(crate) fn plate(self, text: &str, (x, y): (u32, u32)) -> Plate {
        let padding = 2 * self.padding();
        Plate { x, y, width: self.width(text) + padding, height: self.height() + padding }
    }

    /// Returns the space between a text and the edge of its plate, in pixels.
    fn padding(self) -> u32 {
        self.height() / 6
    }
}

/// Returns black or white, whichever has more contrast with a background (luma of ITU-R BT.601).
fn readable_on(Rgb([red, green, blue]): Rgb<u8>) -> Rgb<u8> {
    let luma = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    if luma > 140_000 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) }
}

/// Draws the dots of a glyph as squares of `scale` pixels.
struct GlyphTarget<'a> {
    rgb: &'a mut RgbImage,
    x: u32,
    y: u32,
    scale: u32,
    colour: Rgb<u8>,
}

impl OriginDimensions for GlyphTarget<'_> {
    fn size(&self) -> Size {
        Size::new(self.rgb.width(), self.rgb.height())
    }
}

impl DrawTarget for GlyphTarget<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<BinaryColor>>,
    {
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y), BinaryColor::On) = (u32::try_from(x), u32::try_from(y), colour)
            else {
                continue;
            };
            let side = self.scale;
            let dot =
                Plate { x: self.x + x * side, y: self.y + y * side, width: side, height: side };
            fill(self.rgb, dot, self.colour);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Rgb<u8> = Rgb([200, 30, 30]);

    #[test]
    fn lettering_grows_by_whole_factors() {
        let heights = [1, 13, 17, 18, 25, 26, 36, 40].map(|room| Lettering::at_most(room).height());
        assert_eq!(heights, [13, 13, 13, 18, 18, 26, 36, 39]);
    }

    #[test]
    fn text_has_its_colour_and_is_clipped_to_the_picture() {
        let mut rgb = RgbImage::new(40, 20);
        let lettering = Lettering::at_most(13);
        lettering.write(&mut rgb, (30, 10), "WWW", RED);
        assert!(rgb.pixels().any(|pixel| *pixel == RED));
        assert_eq!(lettering.fitted("a long name", 40), "a l..");
        assert_eq!(lettering.fitted("short", 40), "short");
    }

    #[test]
    fn text_contrasts_with_its_plate() {
        assert_eq!(readable_on(Rgb([255, 220, 100])), Rgb([0, 0, 0]));
        assert_eq!(readable_on(Rgb([120, 20, 20])), Rgb([255, 255, 255]));
    }
}
