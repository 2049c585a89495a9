//! Bars of a single colour along the edges of a picture, as letterboxing and scanning leave them.
//!
//! A bar is a run of uniform rows or columns from the edge of the picture inwards, as those of
//! `ffmpeg`'s filter `cropdetect`, of any colour. Its inner side must be a straight step: a
//! white wall or a sky, which fades or ends at the outline of a thing, is none.

use image::RgbImage;

/// Maximum number of samples across a row or a column.
const SAMPLES_MAX: usize = 512;
/// Maximum difference of a channel from the bar's colour, in levels: JPEG's ringing in a bar.
const TOLERANCE: u8 = 12;
/// Share of the samples of a row that must have the bar's colour.
const UNIFORM: f64 = 0.985;
/// Number of rows within which the inner side's step must lie: resizing blurs it.
const STEP_ROWS: usize = 3;
/// Number of rows within which it must lie if compression leaves ringing in its block, and the
/// minimum difference there. A slope has less.
const RINGING: (usize, u8) = (10, 24);
/// Share of the inner side that must be a step, in a bar of one side.
const STRAIGHT: f64 = 0.6;
/// Share of the inner side that must be a step, if the opposite side has a bar of the same colour.
const STRAIGHT_OPPOSITE: f64 = 0.35;
/// Minimum thickness of a bar in pixels and as a share of the side: thinner ones are traces of
/// scaling or of a sensor's edge.
const THICKNESS_MIN: (usize, f64) = (2, 0.008);
/// Maximum thickness of a bar as a share of the side.
const THICKNESS_MAX: f64 = 0.45;

/// One side of a picture, seen with the bar on top.
#[derive(Clone, Copy)]
struct Side<'a> {
    image: &'a RgbImage,
    is_turned: bool,
    is_mirrored: bool,
}

/// A candidate for a bar.
#[derive(Clone, Copy)]
struct Bar {
    colour: [u8; 3],
    share: f64,
    straight: f64,
}

impl Side<'_> {
    /// Returns the number of rows, from the bar's edge to the opposite one.
    fn depth(&self) -> usize {
        (if self.is_turned { self.image.width() } else { self.image.height() }) as usize
    }

    fn length(&self) -> usize {
        (if self.is_turned { self.image.height() } else { self.image.width() }) as usize
    }

    fn pixel(&self, depth: usize, along: usize) -> [u8; 3] {
        let depth = if self.is_mirrored { self.depth() - 1 - depth } else { depth };
        let (x, y) = if self.is_turned { (depth, along) } else { (along, depth) };
        self.image.get_pixel(x as u32, y as u32).0
    }

    fn samples(&self, depth: usize) -> impl Iterator<Item = [u8; 3]> {
        let step = self.length().div_ceil(SAMPLES_MAX);
        (0..self.length()).step_by(step).map(move |along| self.pixel(depth, along))
    }

    /// Returns the share of a row's samples that have a colour, within a tolerance.
    fn share_of(&self, depth: usize, colour: [u8; 3], tolerance: u8) -> f64 {
        let (mut same, mut count) = (0.0, 0.0);
        for pixel in self.samples(depth) {
            same += f64::from(u8::from(is_near(pixel, colour, tolerance)));
            count += 1.0;
        }
        same / count
    }

    /// Returns the bar of this side, or `None` without uniform rows or if all are uniform.
    fn bar(&self) -> Option<Bar> {
        let mut channels: [Vec<u8>; 3] = Default::default();
        for pixel in self.samples(0) {
            for (values, value) in channels.iter_mut().zip(pixel) {
                values.push(value);
            }
        }
        let colour = channels.map(|mut values| {
            let middle = values.len() / 2;
            *values.select_nth_unstable(middle).1
        });
        let depth_max = (THICKNESS_MAX * self.depth() as f64) as usize;
        let is_uniform = |&row: &usize| self.share_of(row, colour, TOLERANCE) >= UNIFORM;
        let rows = (0..depth_max).take_while(is_uniform).count();
        let share = rows as f64 / self.depth() as f64;
        if rows < THICKNESS_MIN.0 || share < THICKNESS_MIN.1 || rows >= depth_max {
            return None;
        }
        let stepped = |(step, tolerance): (usize, u8)| {
            1.0 - self.share_of((rows + step).min(self.depth() - 1), colour, tolerance)
        };
        let straight = stepped((STEP_ROWS, TOLERANCE)).max(stepped(RINGING));
        Some(Bar { colour, share, straight })
    }
}

/// Returns the share of the picture's width and height, added up, that bars cover; 0 without bars.
pub(crate) fn covered(image: &RgbImage) -> f64 {
    let covered = |is_turned: bool| {
        let side = |is_mirrored: bool| Side { image, is_turned, is_mirrored }.bar();
        let (first, last) = (side(false), side(true));
        let is_pair =
            matches!((first, last), (Some(a), Some(b)) if is_near(a.colour, b.colour, TOLERANCE));
        let straight_min = if is_pair { STRAIGHT_OPPOSITE } else { STRAIGHT };
        let bars = [first, last].into_iter().flatten();
        bars.filter(|bar| bar.straight >= straight_min).map(|bar| bar.share).sum::<f64>()
    };
    covered(false) + covered(true)
}

fn is_near(a: [u8; 3], b: [u8; 3], tolerance: u8) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= tolerance)
}
