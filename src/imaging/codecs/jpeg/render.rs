//! Turns coefficients into rows of pixels, one row of MCUs at a time.

use crate::imaging::codecs::jpeg::coefficients::{Block, Grid};
use crate::imaging::codecs::jpeg::colour::{Colour, join};
use crate::imaging::codecs::jpeg::fault::Fault;
use crate::imaging::codecs::jpeg::frame::{BLOCK, Component, Frame};
use crate::imaging::codecs::jpeg::lanes::{Lanes, PlainLanes};
use crate::imaging::codecs::jpeg::transform::{
    AMPLITUDE_MAX, Steps, flat_sample, is_within_range, samples,
};
use crate::imaging::codecs::jpeg::upsample::{blend, doubled, doubled_blend, repeated, unblended};

/// Rows of MCUs that are kept: interpolation needs a row of the next one.
const MCU_ROWS: usize = 2;

/// The transformation of a component's rows to the picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enlargement {
    None,
    Wider,
    Higher,
    Both,
    /// Samples per pixel, horizontally and vertically.
    Repeated((usize, usize), (usize, usize)),
}

/// The last decoded rows of a component.
struct Plane {
    enlargement: Enlargement,
    /// Rows of samples, in a ring.
    samples: Vec<u8>,
    stride: usize,
    rows: usize,
    /// Size without the blocks that fill up the last MCU.
    width: usize,
    height: usize,
    /// Rows of blocks per MCU.
    v: usize,
    steps: Steps,
    /// A row of the picture's width, and one that is interpolated only vertically.
    wide: Vec<u8>,
    blended: Vec<u16>,
}

impl Plane {
    fn new(frame: &Frame, component: &Component, steps: Steps) -> Self {
        let ratio = (component.h * 2 == frame.h_max, component.v * 2 == frame.v_max);
        let same = (component.h == frame.h_max, component.v == frame.v_max);
        // Libjpeg repeats the samples of very narrow components.
        let is_narrow = component.width <= 2;
        let enlargement = match (same, ratio) {
            ((true, true), _) => Enlargement::None,
            ((_, true), (true, _)) if !is_narrow => Enlargement::Wider,
            ((true, _), (_, true)) => Enlargement::Higher,
            (_, (true, true)) if !is_narrow => Enlargement::Both,
            _ => Enlargement::Repeated((component.h, frame.h_max), (component.v, frame.v_max)),
        };
        let stride = frame.mcus_x * component.h * BLOCK;
        let rows = MCU_ROWS * component.v * BLOCK;
        Self {
            enlargement,
            samples: vec![0; stride * rows],
            stride,
            rows,
            width: component.width,
            height: component.height,
            v: component.v,
            steps,
            wide: vec![0; frame.width],
            blended: vec![0; component.width],
        }
    }

    /// Transforms the blocks of a row.
    #[inline(always)]
    fn transform_row<L: Lanes>(
        &mut self,
        row: usize,
        (blocks, lasts): (&[Block], &[u8]),
        zero: L,
    ) -> Result<(), Fault> {
        let first_row = row * BLOCK % self.rows;
        let target = &mut self.samples[first_row * self.stride..][..BLOCK * self.stride];
        let mut largest = zero;
        let mut largest_flat = 0;
        for (column, (block, last)) in blocks.iter().zip(lasts).enumerate() {
            let rows = if *last == 0 {
                largest_flat = largest_flat.max((i32::from(block[0]) * self.steps[0]).abs());
                [[flat_sample(block[0], self.steps[0]); BLOCK]; BLOCK]
            } else {
                samples(block, &self.steps, &mut largest)
            };
            for (y, row) in rows.into_iter().enumerate() {
                target[y * self.stride + column * BLOCK..][..BLOCK].copy_from_slice(&row);
            }
        }
        let largest = largest.to_array().into_iter().max().unwrap_or(0).max(largest_flat);
        if largest > AMPLITUDE_MAX
            && !blocks.iter().all(|block| is_within_range(block, &self.steps))
        {
            return Err(Fault::OutOfRange);
        }
        Ok(())
    }

    /// Returns a row of samples. Rows past the last repeat it.
    fn row(&self, row: usize) -> &[u8] {
        let at = row.min(self.height - 1) % self.rows * self.stride;
        &self.samples[at..at + self.stride]
    }

    /// Enlarges the samples to row `y` of the picture.
    #[inline(always)]
    fn enlarge(&mut self, y: usize) {
        let is_lower = y % 2 == 1;
        let near = y / 2;
        let far = if is_lower { near + 1 } else { near.saturating_sub(1) };
        let mut wide = std::mem::take(&mut self.wide);
        let mut blended = std::mem::take(&mut self.blended);
        match self.enlargement {
            Enlargement::None => {}
            Enlargement::Wider => doubled(&self.row(y)[..self.width], &mut wide),
            Enlargement::Higher => {
                blend(self.row(near), self.row(far), &mut blended);
                unblended(&blended, is_lower, &mut wide);
            }
            Enlargement::Both => {
                blend(self.row(near), self.row(far), &mut blended);
                doubled_blend(&blended, &mut wide);
            }
            Enlargement::Repeated(horizontal, (v, v_max)) => {
                repeated(&self.row(y * v / v_max)[..self.width], horizontal, &mut wide);
            }
        }
        self.wide = wide;
        self.blended = blended;
    }

    /// Returns the enlarged row `y`.
    fn enlarged(&self, y: usize, width: usize) -> &[u8] {
        match self.enlargement {
            Enlargement::None => &self.row(y)[..width],
            _ => &self.wide,
        }
    }
}

/// Decoded pixels, as far as the coefficients have arrived.
pub(crate) struct Renderer {
    planes: Vec<Plane>,
    colour: Colour,
    width: usize,
    height: usize,
    /// Rows of pixels per row of MCUs.
    mcu_height: usize,
    /// True if the last row of an MCU needs the next MCU.
    looks_ahead: bool,
    pixels: Vec<u8>,
    /// Number of finished rows.
    finished: usize,
}

impl Renderer {
    /// Creates a renderer. `pixels` is empty and has room for the picture.
    pub(crate) fn new(frame: &Frame, steps: &[Steps], colour: Colour, pixels: Vec<u8>) -> Self {
        let components = frame.components.iter().zip(steps);
        let planes: Vec<Plane> =
            components.map(|(component, steps)| Plane::new(frame, component, *steps)).collect();
        let looks_ahead = planes
            .iter()
            .any(|plane| matches!(plane.enlargement, Enlargement::Higher | Enlargement::Both));
        Self {
            planes,
            colour,
            width: frame.width,
            height: frame.height,
            mcu_height: frame.v_max * BLOCK,
            looks_ahead,
            pixels,
            finished: 0,
        }
    }

    /// Transforms a row of MCUs and finishes all rows of pixels that it completes.
    pub(crate) fn add_mcu_row(&mut self, mcu_y: usize, grids: &[Grid]) -> Result<(), Fault> {
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = pulp::x86::V3::try_new() {
            use crate::imaging::codecs::jpeg::lanes::Avx2Lanes;
            let zero = Avx2Lanes::zero(token);
            return token.vectorize(McuRow { renderer: self, mcu_y, grids, zero });
        }
        let zero = PlainLanes([0; 8]);
        pulp::NullaryFnOnce::call(McuRow { renderer: self, mcu_y, grids, zero })
    }

    /// Returns the pixels.
    pub(crate) fn into_pixels(self) -> Vec<u8> {
        debug_assert_eq!(self.finished, self.height);
        self.pixels
    }

    #[inline(always)]
    fn finish_rows<L: Lanes>(&mut self, end: usize, lanes: L) {
        let row_len = self.width * self.colour.samples();
        for y in self.finished..end {
            for plane in &mut self.planes {
                plane.enlarge(y);
            }
            let mut rows: [&[u8]; 4] = [&[]; 4];
            for (row, plane) in rows.iter_mut().zip(&self.planes) {
                *row = plane.enlarged(y, self.width);
            }
            // Cleared while it is in the CPU's cache.
            self.pixels.resize((y + 1) * row_len, 0);
            let pixels = &mut self.pixels[y * row_len..];
            join(self.colour, &rows[..self.planes.len()], pixels, lanes);
        }
        self.finished = end;
    }
}

/// The work on a row of MCUs, compiled for a set of instructions.
struct McuRow<'a, L> {
    renderer: &'a mut Renderer,
    mcu_y: usize,
    grids: &'a [Grid],
    zero: L,
}

impl<L: Lanes> pulp::NullaryFnOnce for McuRow<'_, L> {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { renderer, mcu_y, grids, zero } = self;
        for (plane, grid) in renderer.planes.iter_mut().zip(grids) {
            for row in mcu_y * plane.v..(mcu_y + 1) * plane.v {
                plane.transform_row(row, grid.row(row), zero)?;
            }
        }
        let decoded = (mcu_y + 1) * renderer.mcu_height;
        let end = if decoded >= renderer.height {
            renderer.height
        } else {
            decoded - usize::from(renderer.looks_ahead)
        };
        renderer.finish_rows(end, zero);
        Ok(())
    }
}
