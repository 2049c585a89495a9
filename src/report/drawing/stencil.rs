//! The shape of a region at the size of the drawing, and its outline.

use image::{Rgb, RgbImage};

use crate::method::Rle;

/// Longest side of the grid that is searched for a mask's deepest point.
const DEPTH_GRID_SIDE: u32 = 200;

/// A mask at the size of the picture on which it is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Stencil {
    width: u32,
    height: u32,
    inside: Vec<bool>,
}

impl Stencil {
    /// Scales a mask to `width` × `height` pixels by nearest neighbour.
    pub(crate) fn new(rle: &Rle, width: u32, height: u32) -> Self {
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

    /// Creates the stencil of a box, for regions without a mask. `bounds` are left, top, right and
    /// bottom in pixels.
    pub(crate) fn of_box(bounds: [f64; 4], width: u32, height: u32) -> Self {
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

    /// Draws the border just inside the mask: one dark pixel, then `thickness_px` of colour. The
    /// dark rim makes it visible on any background.
    pub(crate) fn outline(&self, rgb: &mut RgbImage, colour: Rgb<u8>, thickness_px: u32) {
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

    /// Returns the pixel of the mask farthest from its border, as the position of a label.
    pub(crate) fn deepest(&self) -> (u32, u32) {
        let step = (self.width.max(self.height) / DEPTH_GRID_SIDE).max(1);
        let (width, height) = (self.width.div_ceil(step), self.height.div_ceil(step));
        let at = |x: u32, y: u32| y as usize * width as usize + x as usize;
        // City-block distance to the nearest pixel outside, in two sweeps. The picture's edge
        // counts as outside.
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
    fn an_outline_stays_inside_its_mask_and_leaves_the_middle_unchanged() {
        let stencil = Stencil::new(&disc(61, 20), 61, 61);
        let mut rgb = RgbImage::from_pixel(61, 61, Rgb([100; 3]));
        stencil.outline(&mut rgb, RED, 2);
        for (x, y, pixel) in rgb.enumerate_pixels() {
            let inside = stencil.contains(i64::from(x), i64::from(y));
            assert!(inside || *pixel == Rgb([100; 3]), "({x}, {y}) is outside");
        }
        assert_eq!(*rgb.get_pixel(30, 30), Rgb([100; 3]));
        assert_eq!(*rgb.get_pixel(10, 30), Rgb([25; 3]), "a dark rim");
        assert_eq!(*rgb.get_pixel(11, 30), RED);
        assert_eq!(*rgb.get_pixel(12, 30), RED);
        assert_eq!(*rgb.get_pixel(14, 30), Rgb([100; 3]));
    }

    #[test]
    fn a_stencil_is_scaled_to_the_picture() {
        let stencil = Stencil::new(&disc(61, 20), 610, 305);
        assert!(stencil.contains(305, 152));
        assert!(!stencil.contains(50, 152) && !stencil.contains(305, 20));
        let (x, y) = stencil.deepest();
        assert!(x.abs_diff(305) < 40 && y.abs_diff(152) < 20, "near the middle: ({x}, {y})");
    }

    #[test]
    fn the_deepest_point_of_a_ring_is_on_the_ring() {
        let ring = Rle::from_row_major(90, 90, |x, y| {
            let distance = (i64::from(x) - 45).pow(2) + (i64::from(y) - 45).pow(2);
            (400..1600).contains(&distance)
        })
        .unwrap();
        let stencil = Stencil::new(&ring, 90, 90);
        let (x, y) = stencil.deepest();
        assert!(stencil.contains(i64::from(x), i64::from(y)));
    }
}
