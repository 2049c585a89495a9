//! Where the generator looks: crops of the image, and points in each.

use super::settings::AmgSettings;

/// A box of whole pixels: `[left, top, right, bottom]`. Of a crop the last two are exclusive, of a mask
/// inclusive.
pub type Corners = [u32; 4];

/// A part of the image that is looked at on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// Its corners, right and bottom exclusive.
    pub corners: Corners,
    /// 0 for the whole image.
    pub layer: usize,
}

impl CropBox {
    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.corners[2] - self.corners[0]
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.corners[3] - self.corners[1]
    }
}

/// `n × n` points in 0..=1, row by row, each in the middle of its cell (`build_point_grid`).
pub fn point_grid(n: usize) -> Vec<[f64; 2]> {
    let offset = 1.0 / (2.0 * n as f64);
    // As numpy's `linspace`: a step, and the end set exactly.
    let step = if n > 1 { (1.0 - 2.0 * offset) / (n - 1) as f64 } else { 0.0 };
    let place = |index: usize| {
        if n > 1 && index == n - 1 { 1.0 - offset } else { index as f64 * step + offset }
    };
    (0..n * n).map(|index| [place(index % n), place(index / n)]).collect()
}

/// One grid for each layer of crops (`build_all_layer_point_grids`).
pub fn point_grids(settings: &AmgSettings) -> Vec<Vec<[f64; 2]>> {
    settings.point_grids.clone().unwrap_or_else(|| {
        (0..=settings.crop_n_layers)
            .map(|layer| point_grid(settings.points_per_side_of(layer)))
            .collect()
    })
}

/// A grid's points in pixels of a crop.
pub fn in_pixels(grid: &[[f64; 2]], crop: &CropBox) -> Vec<[f32; 2]> {
    let (width, height) = (f64::from(crop.width()), f64::from(crop.height()));
    grid.iter().map(|[x, y]| [(x * width) as f32, (y * height) as f32]).collect()
}

/// A point of a crop in pixels of the network's square input, in the reference's order of rounding.
pub fn in_model([x, y]: [f32; 2], crop: &CropBox, image_size: usize) -> [f32; 2] {
    let size = image_size as f32;
    [x / crop.width() as f32 * size, y / crop.height() as f32 * size]
}

/// The whole image, then each layer's crops, columns outermost (`generate_crop_boxes`).
pub fn crop_boxes((width, height): (u32, u32), layers: usize, overlap_ratio: f64) -> Vec<CropBox> {
    let mut boxes = vec![CropBox { corners: [0, 0, width, height], layer: 0 }];
    let shorter = f64::from(width.min(height));
    for layer in 1..=layers {
        let side = 1_u32 << layer;
        let overlap = (overlap_ratio * shorter * (2.0 / f64::from(side))) as u32;
        let length = |whole: u32| (overlap * (side - 1) + whole).div_ceil(side);
        let (crop_width, crop_height) = (length(width), length(height));
        for column in 0..side {
            for row in 0..side {
                // On an image of a few pixels crops lie on one another, and some are empty.
                let left = (crop_width - overlap.min(crop_width)) * column;
                let top = (crop_height - overlap.min(crop_height)) * row;
                let (right, bottom) =
                    ((left + crop_width).min(width), (top + crop_height).min(height));
                if left < right && top < bottom {
                    boxes.push(CropBox { corners: [left, top, right, bottom], layer });
                }
            }
        }
    }
    boxes
}

/// The reference's tolerance of [`is_near_crop_edge`] in pixels.
pub const EDGE_TOLERANCE_PX: u32 = 20;

/// Whether a box, in pixels of its crop, ends where the crop ends, up to a tolerance, and not where the
/// image does: then the object goes on outside (`is_box_near_crop_edge`).
pub fn is_near_crop_edge(
    bbox: Corners,
    crop: &CropBox,
    (width, height): (u32, u32),
    tolerance_px: u32,
) -> bool {
    let [left, top, _, _] = crop.corners;
    let image = [0, 0, width, height];
    (0..4).any(|side| {
        let offset = if side % 2 == 0 { left } else { top };
        let place = i64::from(bbox[side]) + i64::from(offset);
        let near = |edge: u32| place.abs_diff(i64::from(edge)) <= u64::from(tolerance_px);
        near(crop.corners[side]) && !near(image[side])
    })
}
