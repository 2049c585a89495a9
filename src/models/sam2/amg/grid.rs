//! The crops of an image, and the grid of points in each.

use crate::models::sam2::amg::settings::AmgSettings;

/// A box of whole pixels, `[left, top, right, bottom]`. The last two are exclusive for a crop and
/// inclusive for a mask.
pub type Corners = [u32; 4];

/// A part of the image that is segmented separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// Its corners, right and bottom exclusive.
    pub corners: Corners,
    /// The layer of crops; 0 is the whole image.
    pub layer: usize,
}

impl CropBox {
    /// Returns the width in pixels.
    pub fn width(&self) -> u32 {
        self.corners[2] - self.corners[0]
    }

    /// Returns the height in pixels.
    pub fn height(&self) -> u32 {
        self.corners[3] - self.corners[1]
    }
}

/// Returns `n × n` points in 0..=1, row by row, each in the centre of its cell
/// (`build_point_grid`).
pub fn point_grid(n: usize) -> Vec<[f64; 2]> {
    let offset = 1.0 / (2.0 * n as f64);
    // Like numpy's `linspace`: equal steps, and the end set exactly.
    let step = if n > 1 { (1.0 - 2.0 * offset) / (n - 1) as f64 } else { 0.0 };
    let coordinate = |index: usize| {
        if n > 1 && index == n - 1 { 1.0 - offset } else { index as f64 * step + offset }
    };
    (0..n * n).map(|index| [coordinate(index % n), coordinate(index / n)]).collect()
}

/// Returns one grid for each layer of crops (`build_all_layer_point_grids`).
pub fn point_grids(settings: &AmgSettings) -> Vec<Vec<[f64; 2]>> {
    settings.point_grids.clone().unwrap_or_else(|| {
        (0..=settings.crop_n_layers)
            .map(|layer| point_grid(settings.points_per_side_of(layer)))
            .collect()
    })
}

/// Converts a grid's points to pixels of a crop.
pub fn in_pixels(grid: &[[f64; 2]], crop: &CropBox) -> Vec<[f32; 2]> {
    let (width, height) = (f64::from(crop.width()), f64::from(crop.height()));
    grid.iter().map(|[x, y]| [(x * width) as f32, (y * height) as f32]).collect()
}

/// Converts a point of a crop to pixels of the network's square input. Rounds in the same order as
/// the reference.
pub fn in_model([x, y]: [f32; 2], crop: &CropBox, image_size: usize) -> [f32; 2] {
    let size = image_size as f32;
    [x / crop.width() as f32 * size, y / crop.height() as f32 * size]
}

/// Returns the crops of an image of `size` (width, height): the whole image, then each layer's
/// crops column by column (`generate_crop_boxes`).
pub fn crop_boxes(size: (u32, u32), layers: usize, overlap_ratio: f64) -> Vec<CropBox> {
    let (width, height) = size;
    let mut boxes = vec![CropBox { corners: [0, 0, width, height], layer: 0 }];
    let shorter = f64::from(width.min(height));
    for layer in 1..=layers {
        let side = 1_u32 << layer;
        let overlap = (overlap_ratio * shorter * (2.0 / f64::from(side))) as u32;
        let length = |whole: u32| (overlap * (side - 1) + whole).div_ceil(side);
        let (crop_width, crop_height) = (length(width), length(height));
        for column in 0..side {
            for row in 0..side {
                // The crops of an image of a few pixels overlap completely, and some are empty.
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

/// Returns true if a box, in pixels of its crop, ends near the crop's edge but not near the
/// image's. The object then continues outside the crop (`is_box_near_crop_edge`).
pub fn is_near_crop_edge(
    bbox: Corners,
    crop: &CropBox,
    image_size: (u32, u32),
    tolerance_px: u32,
) -> bool {
    let [left, top, _, _] = crop.corners;
    let image = [0, 0, image_size.0, image_size.1];
    (0..4).any(|side| {
        let offset = if side % 2 == 0 { left } else { top };
        let position = i64::from(bbox[side]) + i64::from(offset);
        let near = |edge: u32| position.abs_diff(i64::from(edge)) <= u64::from(tolerance_px);
        near(crop.corners[side]) && !near(image[side])
    })
}
