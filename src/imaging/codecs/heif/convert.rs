//! Planes of luma and chroma to interleaved RGB or grey.
//!
//! Chroma between its samples is interpolated linearly, as if each were in the middle of the pixels
//! that it covers: libheif, libavif and browsers do so too.
//!
//! Source of the matrices: ITU-T H.273, section 8.3.

use crate::imaging::codecs::heif::code_points::CodePoints;
use crate::imaging::codecs::heif::planes::{Chroma, Planes};
use crate::imaging::raster::Samples;

/// The smallest number whose neighbours differ by 1. Adding it to a smaller number rounds that to
/// the nearest whole one, which is then in the lowest bits.
const ROUNDING: f32 = 8_388_608.0;

/// Three rows, one for each output; each has a factor for each plane and a constant.
type Matrix = [[f32; 4]; 3];

/// Interleaved samples of an image that is assembled.
pub(crate) struct Canvas {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 1 for grey, 2 with alpha, 3 for RGB, 4 with alpha.
    pub(crate) channels: usize,
    pub(crate) samples: Samples,
    /// Colours of the first picture on it.
    pub(crate) colour: Option<CodePoints>,
}

/// A position on a canvas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) x: u32,
    pub(crate) y: u32,
}

impl Canvas {
    /// Creates a canvas on which everything is opaque.
    pub(crate) fn new(width: u32, height: u32, channels: usize, is_deep: bool) -> Self {
        let len = width as usize * height as usize * channels;
        let has_alpha = channels.is_multiple_of(2);
        let samples = match (is_deep, has_alpha) {
            (false, false) => Samples::Eight(vec![0; len]),
            (false, true) => Samples::Eight(vec![u8::MAX; len]),
            (true, false) => Samples::Sixteen(vec![0; len]),
            (true, true) => Samples::Sixteen(vec![u16::MAX; len]),
        };
        Self { width, height, channels, samples, colour: None }
    }

    /// Writes the colours of a picture, as far as they are inside of the canvas. Leaves alpha
    /// unchanged. A canvas for grey takes the luma alone.
    pub(crate) fn paste(
        &mut self,
        planes: &Planes,
        colour: CodePoints,
        at: Position,
    ) -> Result<(), &'static str> {
        self.colour.get_or_insert(colour);
        let top = if matches!(self.samples, Samples::Eight(_)) { 255.0 } else { 65_535.0 };
        let mut matrix = matrix(colour, planes.chroma, planes.depth, top)?;
        if self.channels < 3 {
            matrix[0] = luma_row(colour.is_full_range, planes.depth, top);
        }
        let width = planes.width.min(self.width.saturating_sub(at.x)) as usize;
        let height = planes.height.min(self.height.saturating_sub(at.y));
        let mut rows = Rows::default();
        for row in 0..height {
            rows.read(planes, row, self.channels < 3);
            let start = (at.y + row) as usize * self.width as usize + at.x as usize;
            let range = start * self.channels..(start + width) * self.channels;
            match &mut self.samples {
                Samples::Eight(samples) => {
                    write_row(&rows, &matrix, self.channels, &mut samples[range], |bits| {
                        bits.to_le_bytes()[0]
                    });
                }
                Samples::Sixteen(samples) => {
                    write_row(&rows, &matrix, self.channels, &mut samples[range], |bits| {
                        let [low, high, ..] = bits.to_le_bytes();
                        u16::from_le_bytes([low, high])
                    });
                }
            }
        }
        Ok(())
    }

    /// Turns grey into RGB.
    pub(crate) fn spread_grey(&mut self) {
        self.samples = match (self.channels, &self.samples) {
            (1, Samples::Eight(samples)) => Samples::Eight(spread::<_, 1, 3>(samples)),
            (2, Samples::Eight(samples)) => Samples::Eight(spread::<_, 2, 4>(samples)),
            (1, Samples::Sixteen(samples)) => Samples::Sixteen(spread::<_, 1, 3>(samples)),
            (2, Samples::Sixteen(samples)) => Samples::Sixteen(spread::<_, 2, 4>(samples)),
            _ => return,
        };
        self.channels += 2;
    }
}

/// Returns pixels of `FROM` samples as pixels of `TO`, with the first sample three times.
fn spread<Sample: Copy + Default, const FROM: usize, const TO: usize>(
    samples: &[Sample],
) -> Vec<Sample> {
    let mut spread = vec![Sample::default(); samples.len() / FROM * TO];
    let pixels = spread.as_chunks_mut::<TO>().0.iter_mut();
    for (to, from) in pixels.zip(samples.as_chunks::<FROM>().0) {
        to.fill(from[0]);
        to[TO - 1] = from[FROM - 1];
    }
    spread
}

/// A row of each plane at the full width. Reused from row to row.
#[derive(Default)]
struct Rows {
    planes: [Vec<f32>; 3],
    near: Vec<f32>,
    far: Vec<f32>,
}

impl Rows {
    fn read(&mut self, planes: &Planes, row: u32, luma_only: bool) {
        planes.copy_row(0, row, &mut self.planes[0]);
        if luma_only || planes.chroma == Chroma::None {
            return;
        }
        for plane in 1..3 {
            match planes.chroma {
                Chroma::Full | Chroma::None => planes.copy_row(plane, row, &mut self.planes[plane]),
                Chroma::Half => {
                    planes.copy_row(plane, row, &mut self.near);
                    widen(&self.near, &mut self.planes[plane]);
                }
                Chroma::Quarter => {
                    let last = planes.plane_size(plane).1 - 1;
                    let other =
                        if row % 2 == 1 { row / 2 + 1 } else { (row / 2).saturating_sub(1) };
                    planes.copy_row(plane, row / 2, &mut self.near);
                    planes.copy_row(plane, other.min(last), &mut self.far);
                    for (near, far) in self.near.iter_mut().zip(&self.far) {
                        *near = 0.75 * *near + 0.25 * far;
                    }
                    widen(&self.near, &mut self.planes[plane]);
                }
            }
        }
    }
}

/// Doubles the width of a row by linear interpolation.
fn widen(row: &[f32], to: &mut Vec<f32>) {
    to.clear();
    to.resize(row.len() * 2, 0.0);
    let last = row.len() - 1;
    let pairs = to.as_chunks_mut::<2>().0;
    pairs[0] = [row[0], 0.75 * row[0] + 0.25 * row[last.min(1)]];
    for (pair, window) in pairs[1..].iter_mut().zip(row.windows(3)) {
        let [before, here, after] = [window[0], window[1], window[2]];
        *pair = [0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after];
    }
    if last > 0 {
        pairs[last] = [0.75 * row[last] + 0.25 * row[last - 1], row[last]];
    }
}

/// Writes one row. `lowest` takes the lowest bits of a rounded number.
fn write_row<Sample>(
    rows: &Rows,
    matrix: &Matrix,
    channels: usize,
    to: &mut [Sample],
    lowest: impl Fn(u32) -> Sample + Copy,
) where
    Sample: Copy + From<u8>,
{
    let top = if size_of::<Sample>() == 1 { 255.0 } else { 65_535.0 };
    let round = |value: f32| lowest((value.clamp(0.0, top) + ROUNDING).to_bits());
    let [luma, blue, red] = &rows.planes;
    let single = |row: &[f32; 4], luma: f32| round(row[0] * luma + row[3]);
    let mixed = |row: &[f32; 4], [luma, blue, red]: [f32; 3]| {
        round(row[0] * luma + row[1] * blue + row[2] * red + row[3])
    };
    match channels {
        1 | 2 => {
            for (pixel, luma) in to.chunks_exact_mut(channels).zip(luma) {
                pixel[0] = single(&matrix[0], *luma);
            }
        }
        _ if blue.is_empty() => {
            for (pixel, luma) in to.chunks_exact_mut(channels).zip(luma) {
                pixel[..3].fill(single(&matrix[0], *luma));
            }
        }
        3 => {
            let colours = luma.iter().zip(blue).zip(red);
            for (pixel, ((luma, blue), red)) in to.as_chunks_mut::<3>().0.iter_mut().zip(colours) {
                *pixel = matrix.map(|row| mixed(&row, [*luma, *blue, *red]));
            }
        }
        _ => {
            let colours = luma.iter().zip(blue).zip(red);
            for (pixel, ((luma, blue), red)) in to.as_chunks_mut::<4>().0.iter_mut().zip(colours) {
                let [r, g, b] = matrix.map(|row| mixed(&row, [*luma, *blue, *red]));
                *pixel = [r, g, b, pixel[3]];
            }
        }
    }
}

/// Returns the factor and the constant of luma alone.
fn luma_row(is_full_range: bool, depth: u8, top: f32) -> [f32; 4] {
    let (scale, zero) = luma_range(is_full_range, depth, top);
    [scale, 0.0, 0.0, -zero * scale]
}

/// Returns the factor of luma and its value for black.
fn luma_range(is_full_range: bool, depth: u8, top: f32) -> (f32, f32) {
    let unit = f32::from(1_u16 << (depth - 8));
    if is_full_range {
        (top / (256.0 * unit - 1.0), 0.0)
    } else {
        (top / (219.0 * unit), 16.0 * unit)
    }
}

/// Returns the matrix from the planes' samples to RGB of 0 to `top`. Fails on code points that are
/// not supported, with their name.
fn matrix(colour: CodePoints, chroma: Chroma, depth: u8, top: f32) -> Result<Matrix, &'static str> {
    let luma = luma_row(colour.is_full_range, depth, top);
    if chroma == Chroma::None {
        return Ok([luma; 3]);
    }
    let (scale, zero) = luma_range(colour.is_full_range, depth, top);
    if colour.matrix == 0 {
        // The planes are green, blue and red.
        let constant = -zero * scale;
        return Ok([
            [0.0, 0.0, scale, constant],
            [scale, 0.0, 0.0, constant],
            [0.0, scale, 0.0, constant],
        ]);
    }
    let unit = f32::from(1_u16 << (depth - 8));
    let chroma = if colour.is_full_range { scale } else { top / (224.0 * unit) };
    let middle = 128.0 * unit;
    let row = |blue: f32, red: f32| {
        let (blue, red) = (blue * chroma, red * chroma);
        [scale, blue, red, -zero * scale - middle * (blue + red)]
    };
    let (red, blue) = match colour.matrix {
        1 => (0.2126, 0.0722),
        4 => (0.30, 0.11),
        2 | 3 | 5 | 6 => (0.299, 0.114),
        7 => (0.212, 0.087),
        8 => return Ok([row(-1.0, 1.0), row(1.0, 0.0), row(-1.0, -1.0)]),
        9 => (0.2627, 0.0593),
        10 => return Err("colours of BT.2020 with constant luminance"),
        12 => match colour.primaries {
            12 => (0.228_975, 0.079_287),
            9 => (0.2627, 0.0593),
            1 | 2 => (0.2126, 0.0722),
            _ => return Err("a matrix that is derived from its primaries"),
        },
        14 => return Err("ICtCp colours"),
        _ => return Err("colours of a kind that is not known"),
    };
    let green: f32 = 1.0 - red - blue;
    let (from_red, from_blue) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
    Ok([
        row(0.0, from_red),
        row(-from_blue * blue / green, -from_red * red / green),
        row(from_blue, 0.0),
    ])
}
