//! Drawing on pixels for people: outlines of masks, and text on plates.
//!
//! Text is one of three bitmap fonts, enlarged by whole factors, so that it is legible on small and
//! large pictures alike. Characters outside Latin-1 appear as `?`.

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

use crate::method::Rle;

/// Longest side of the grid on which a mask's deepest point is looked for.
const DEPTH_GRID_SIDE: u32 = 200;

/// A mask at the size of the picture that it is drawn on.
#[derive(Debug, Clone)]
pub struct Stencil {
    width: u32,
    height: u32,
    inside: Vec<bool>,
}

impl Stencil {
    /// Scales a mask to `width` × `height` pixels, each taking its nearest pixel of the mask.
    pub fn new(rle: &Rle, width: u32, height: u32) -> Self {
        let mask = rle.to_row_major();
        let source = |target: u32, targets: u32, sources: u32| {
            target as usize * sources as usize / targets as usize
        };
        let columns: Vec<usize> = (0..width).map(|x| source(x, width, rle.width())).collect();
        let mut inside = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            let row = source(y, height, rle.height()) * rle.width() as usize;
            inside.extend(columns.iter().map(|column| mask[row + column] != 0));
        }
        Self { width, height, inside }
    }

    /// The stencil of a box, for regions whose mask is not known.
    pub fn of_box(bounds: [f64; 4], width: u32, height: u32) -> Self {
        let [left, top, right, bottom] = bounds;
        let mut inside = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            let is_row_inside = (top..bottom).contains(&(f64::from(y) + 0.5));
            inside.extend(
                (0..width).map(|x| is_row_inside && (left..right).contains(&(f64::from(x) + 0.5))),
            );
        }
        Self { width, height, inside }
    }

    fn contains(&self, x: i64, y: i64) -> bool {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return false };
        x < self.width
            && y < self.height
            && self.inside[y as usize * self.width as usize + x as usize]
    }

    /// Draws the border just inside the mask: `thickness_px` of colour behind one dark pixel, so
    /// that it stands out from any background.
    pub fn outline(&self, rgb: &mut RgbImage, colour: Rgb<u8>, thickness_px: u32) {
        debug_assert_eq!(rgb.dimensions(), (self.width, self.height));
        let is_near_outside = |x: i64, y: i64, distance: i64| {
            [(-distance, 0), (distance, 0), (0, -distance), (0, distance)]
                .iter()
                .any(|(dx, dy)| !self.contains(x + dx, y + dy))
        };
        let reach = i64::from(thickness_px) + 1;
        for (x, y, pixel) in rgb.enumerate_pixels_mut() {
            let (x, y) = (i64::from(x), i64::from(y));
            if !self.contains(x, y) {
                continue;
            }
            if is_near_outside(x, y, 1) {
                *pixel = Rgb(pixel.0.map(|sample| sample / 4));
            } else if is_near_outside(x, y, reach) {
                *pixel = colour;
            }
        }
    }

    /// The pixel of the mask that lies farthest from its border: the place for a label.
    pub fn deepest(&self) -> (u32, u32) {
        let step = (self.width.max(self.height) / DEPTH_GRID_SIDE).max(1);
        let (width, height) = (self.width.div_ceil(step), self.height.div_ceil(step));
        let at = |x: u32, y: u32| y as usize * width as usize + x as usize;
        // City-block distance to the nearest pixel outside, in two sweeps; the picture's edge counts
        // as outside.
        let mut depth = vec![0_u32; width as usize * height as usize];
        for y in 0..height {
            for x in 0..width {
                if self.contains(i64::from(x * step), i64::from(y * step)) {
                    let left = if x > 0 { depth[at(x - 1, y)] } else { 0 };
                    let above = if y > 0 { depth[at(x, y - 1)] } else { 0 };
                    depth[at(x, y)] = 1 + left.min(above);
                }
            }
        }
        let mut deepest = (0, (0, 0));
        for y in (0..height).rev() {
            for x in (0..width).rev() {
                let right = if x + 1 < width { depth[at(x + 1, y)] } else { 0 };
                let below = if y + 1 < height { depth[at(x, y + 1)] } else { 0 };
                let here = depth[at(x, y)].min(1 + right.min(below));
                depth[at(x, y)] = here;
                if here > deepest.0 {
                    deepest = (here, (x * step, y * step));
                }
            }
        }
        deepest.1
    }
}

/// A typeface of fixed width at a height that suits the picture.
#[derive(Debug, Clone, Copy)]
pub struct Lettering {
    font: &'static MonoFont<'static>,
    scale: u32,
}

impl Lettering {
    /// The largest of the fonts and their multiples that is at most `height_px` high, or the
    /// smallest of all.
    pub fn at_most(height_px: u32) -> Self {
        let small = Self { font: &FONT_7X13_BOLD, scale: (height_px / 13).max(1) };
        let large = Self { font: &FONT_9X18_BOLD, scale: (height_px / 18).max(1) };
        if large.height() <= height_px && large.height() > small.height() { large } else { small }
    }

    /// Height of a line in pixels.
    pub fn height(self) -> u32 {
        self.font.character_size.height * self.scale
    }

    /// Width of a text in pixels.
    pub fn width(self, text: &str) -> u32 {
        let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        characters.saturating_mul(self.font.character_size.width * self.scale)
    }

    /// The text, cut with two dots where it is wider than `width_px`.
    pub fn fitted(self, text: &str, width_px: u32) -> String {
        if self.width(text) <= width_px {
            return text.to_owned();
        }
        let room = (width_px / self.width(" ").max(1)) as usize;
        text.chars().take(room.saturating_sub(2)).chain("..".chars()).collect()
    }

    /// Writes a line of text with its upper left corner at (`x`, `y`); what sticks out is cut.
    pub fn write(self, rgb: &mut RgbImage, (x, y): (u32, u32), text: &str, colour: Rgb<u8>) {
        let mut page = Page { rgb, x, y, scale: self.scale, colour };
        let style = MonoTextStyle::new(self.font, BinaryColor::On);
        let Ok(_) = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut page);
    }

    /// Writes a line of text on a plate of `colour`, in black or white, whichever reads better.
    pub fn write_plate(self, rgb: &mut RgbImage, plate: Plate, text: &str, colour: Rgb<u8>) {
        fill(rgb, plate, colour);
        let padding = self.padding();
        let at = (plate.x + padding, plate.y + padding);
        self.write(rgb, at, text, readable_on(colour));
    }

    /// The plate that a text needs, with its upper left corner at (`x`, `y`).
    pub fn plate(self, text: &str, (x, y): (u32, u32)) -> Plate {
        let padding = 2 * self.padding();
        Plate { x, y, width: self.width(text) + padding, height: self.height() + padding }
    }

    /// Space between a text and the edge of its plate.
    fn padding(self) -> u32 {
        self.height() / 6
    }
}

/// A filled rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plate {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Plate {
    /// Whether two plates share a pixel.
    pub fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// Fills a rectangle; what sticks out of the picture is cut.
pub fn fill(rgb: &mut RgbImage, plate: Plate, colour: Rgb<u8>) {
    let right = plate.x.saturating_add(plate.width).min(rgb.width());
    let bottom = plate.y.saturating_add(plate.height).min(rgb.height());
    for y in plate.y..bottom {
        for x in plate.x..right {
            rgb.put_pixel(x, y, colour);
        }
    }
}

/// Black or white, whichever contrasts more with a background (by its luma, ITU-R BT.601).
fn readable_on(Rgb([red, green, blue]): Rgb<u8>) -> Rgb<u8> {
    let luma = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    if luma > 140_000 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) }
}

/// Where enlarged text lands.
struct Page<'a> {
    rgb: &'a mut RgbImage,
    x: u32,
    y: u32,
    scale: u32,
    colour: Rgb<u8>,
}

impl OriginDimensions for Page<'_> {
    fn size(&self) -> Size {
        Size::new(self.rgb.width(), self.rgb.height())
    }
}

impl DrawTarget for Page<'_> {
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

    fn disc(side: u32, radius: i64) -> Rle {
        let centre = i64::from(side) / 2;
        Rle::from_row_major(side, side, |x, y| {
            (i64::from(x) - centre).pow(2) + (i64::from(y) - centre).pow(2) <= radius.pow(2)
        })
        .unwrap()
    }

    #[test]
    fn an_outline_stays_inside_its_mask_and_leaves_the_middle_alone() {
        let stencil = Stencil::new(&disc(61, 20), 61, 61);
        let mut rgb = RgbImage::from_pixel(61, 61, Rgb([100; 3]));
        stencil.outline(&mut rgb, RED, 2);
        for (x, y, pixel) in rgb.enumerate_pixels() {
            let inside = stencil.contains(i64::from(x), i64::from(y));
            assert!(inside || *pixel == Rgb([100; 3]), "({x}, {y}) lies outside");
        }
        assert_eq!(*rgb.get_pixel(30, 30), Rgb([100; 3]));
        assert_eq!(*rgb.get_pixel(10, 30), Rgb([25; 3]), "a dark rim");
        assert_eq!(*rgb.get_pixel(11, 30), RED);
        assert_eq!(*rgb.get_pixel(12, 30), RED);
        assert_eq!(*rgb.get_pixel(14, 30), Rgb([100; 3]));
    }

    #[test]
    fn a_stencil_follows_the_size_of_the_picture() {
        let stencil = Stencil::new(&disc(61, 20), 610, 305);
        assert!(stencil.contains(305, 152));
        assert!(!stencil.contains(50, 152) && !stencil.contains(305, 20));
        let (x, y) = stencil.deepest();
        assert!(x.abs_diff(305) < 40 && y.abs_diff(152) < 20, "near the middle: ({x}, {y})");
    }

    #[test]
    fn the_deepest_point_lies_on_the_mask_of_a_ring() {
        let ring = Rle::from_row_major(90, 90, |x, y| {
            let distance = (i64::from(x) - 45).pow(2) + (i64::from(y) - 45).pow(2);
            (400..1600).contains(&distance)
        })
        .unwrap();
        let stencil = Stencil::new(&ring, 90, 90);
        let (x, y) = stencil.deepest();
        assert!(stencil.contains(i64::from(x), i64::from(y)));
    }

    #[test]
    fn lettering_grows_in_whole_steps() {
        let heights = [1, 13, 17, 18, 25, 26, 36, 40].map(|room| Lettering::at_most(room).height());
        assert_eq!(heights, [13, 13, 13, 18, 18, 26, 36, 39]);
    }

    #[test]
    fn text_is_written_in_its_colour_and_never_beyond_the_picture() {
        let mut rgb = RgbImage::new(40, 20);
        let lettering = Lettering::at_most(13);
        lettering.write(&mut rgb, (30, 10), "WWW", RED);
        assert!(rgb.pixels().any(|pixel| *pixel == RED));
        assert_eq!(lettering.fitted("a long name", 40), "a l..");
        assert_eq!(lettering.fitted("short", 40), "short");
    }

    #[test]
    fn plates_are_readable() {
        assert_eq!(readable_on(Rgb([255, 220, 100])), Rgb([0, 0, 0]));
        assert_eq!(readable_on(Rgb([120, 20, 20])), Rgb([255, 255, 255]));
    }
}
