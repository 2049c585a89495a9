//! The reference's image processor: pixels to views.
//!
//! The whole image becomes one square view, regardless of its shape. With cutting, it also becomes
//! a grid of views, which a text around the placeholders describes to the model.

use candle_core::{Result, Tensor};
use image::RgbImage;
use image::imageops::crop_imm;

use crate::imaging::{Filter, resize};
use crate::models::layers::map_samples;
use crate::models::mplug_owl3::config::Generation;
use crate::models::mplug_owl3::prompt::IMAGE;

/// The rows and columns of views that an image is split into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grid {
    /// Number of rows.
    pub rows: u32,
    /// Number of columns.
    pub columns: u32,
}

impl Grid {
    /// All grids, in the reference's order, which decides between equal scores. There is no 1 × 1:
    /// with cutting, every image has at least four views, counting the whole.
    pub const ALL: [Self; 7] = [
        Self { rows: 2, columns: 2 },
        Self { rows: 1, columns: 3 },
        Self { rows: 1, columns: 4 },
        Self { rows: 3, columns: 1 },
        Self { rows: 4, columns: 1 },
        Self { rows: 2, columns: 3 },
        Self { rows: 3, columns: 2 },
    ];

    /// Chooses the grid for an image of `width` × `height` px and views of `view` px: the most
    /// similar in shape, then in resolution. (The reference's `anchor_rank`, also in single
    /// precision.)
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the reference's arithmetic; a shape of 1 : 2^32 saturates, it does not wrap"
    )]
    pub fn choose(width: u32, height: u32, view: u32) -> Self {
        let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
        let over = |shared: u64, all: u64| shared as f32 / (all as f32 + 1e-5);
        let score = |grid: Self| {
            let (wide, tall) = (u64::from(grid.columns * view), u64::from(grid.rows * view));
            let shared = wide.min(width) * tall.min(height);
            let resolution = over(shared, wide * tall + width * height - shared);
            let shape = (height as f64 / width as f64) as f32;
            let as_tall = (shape * wide as f32) as u64;
            let shared = wide * tall.min(as_tall);
            let shape = over(shared, wide * tall + wide * as_tall - shared);
            shape * 100.0 + resolution
        };
        let mut best = (Self::ALL[0], score(Self::ALL[0]));
        for grid in &Self::ALL[1..] {
            let score = score(*grid);
            if score > best.1 {
                best = (*grid, score);
            }
        }
        best.0
    }

    /// Returns the text for the split image, with a placeholder for each view.
    pub fn text(self, generation: Generation) -> String {
        let Self { rows, columns } = self;
        let line = |row: u32, view: &dyn Fn(u32, u32) -> String| {
            (0..columns).map(|column| view(row, column)).collect::<Vec<_>>().join(" ")
        };
        let lines = |view: &dyn Fn(u32, u32) -> String| {
            (0..rows).map(|row| line(row, view)).collect::<Vec<_>>().join("\n")
        };
        match generation {
            Generation::V240728 => format!(
                "Cut to {rows} rows {columns} columns with a global view\n{}\nglobal_view{IMAGE}",
                lines(&|row, column| format!("subimg({row},{column}){IMAGE}"))
            ),
            Generation::V241014 | Generation::V241101 => format!(
                "<|start_cut|>{rows}*{columns}\n{}\n{IMAGE}<|end_cut|>",
                lines(&|_, _| IMAGE.to_owned())
            ),
        }
    }
}

/// Returns the views of an image, each `size` × `size` px: those of the grid row by row, then the
/// whole.
pub fn views(rgb: &RgbImage, size: u32, grid: Option<Grid>) -> Vec<RgbImage> {
    let mut views = Vec::new();
    if let Some(Grid { rows, columns }) = grid {
        let all = resize(rgb, columns * size, rows * size, Filter::Bicubic);
        for row in 0..rows {
            for column in 0..columns {
                views.push(crop_imm(&all, column * size, row * size, size, size).to_image());
            }
        }
    }
    views.push(resize(rgb, size, size, Filter::Bicubic));
    views
}

/// Stacks views of one size to `(views, 3, size, size)` u8 on the CPU.
///
/// # Errors
/// Fails if the samples of the views do not fill that shape.
pub fn stack(views: &[RgbImage]) -> Result<Tensor> {
    let (width, height) = views.first().map_or((0, 0), RgbImage::dimensions);
    let (width, height) = (width as usize, height as usize);
    let mut samples: Vec<u8> = Vec::with_capacity(views.len() * 3 * width * height);
    for view in views {
        for channel in 0..3 {
            samples.extend(view.as_raw().iter().skip(channel).step_by(3));
        }
    }
    Tensor::from_vec(samples, (views.len(), 3, height, width), &candle_core::Device::Cpu)
}

/// Converts u8 samples to −1..=1 in f32: `(sample / 255 − 0.5) / 0.5`, bit-exact.
///
/// # Errors
/// Fails on an error of the device.
pub fn normalise(samples: &Tensor) -> Result<Tensor> {
    map_samples(samples, |sample| (f32::from(sample) / 255.0 - 0.5) / 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_image_is_described_in_the_words_of_its_generation() {
        let grid = Grid { rows: 2, columns: 1 };
        assert_eq!(
            grid.text(Generation::V240728),
            "Cut to 2 rows 1 columns with a global view\nsubimg(0,0)<|image|>\nsubimg(1,0)<|image|>\
             \nglobal_view<|image|>"
        );
        assert_eq!(
            grid.text(Generation::V241101),
            "<|start_cut|>2*1\n<|image|>\n<|image|>\n<|image|><|end_cut|>"
        );
    }

    #[test]
    fn extreme_shapes_have_a_grid() {
        let choose = |width, height| Grid::choose(width, height, 378);
        assert_eq!(choose(1, 1), Grid { rows: 2, columns: 2 });
        assert_eq!(choose(u32::MAX, 1), choose(60_000, 1));
        assert_eq!(choose(1, u32::MAX), Grid { rows: 4, columns: 1 });
    }
}
