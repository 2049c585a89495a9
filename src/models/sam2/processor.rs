//! From pixels to the network's input: resized to a square and normalised (`SAM2Transforms`).

use candle_core::{Device, Result, Tensor};
use image::RgbImage;
use rayon::prelude::*;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Resizes an image to a square regardless of its aspect ratio, and normalises it. Returns
/// `(3, size, size)` f32 on the CPU.
///
/// The triangle filter widens when it shrinks and computes in `f32` throughout, like torchvision's
/// antialiased bilinear resize of floats. Rounding to 8 bits in between would change values by up
/// to half a level.
///
/// # Errors
/// Fails if a tensor operation fails.
pub fn preprocess(rgb: &RgbImage, size: usize) -> Result<Tensor> {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let (across, down) = (filter_weights(width, size), filter_weights(height, size));
    // Rows are the outermost axis until the end, so that a band of rows is contiguous.
    let mut rows = vec![0.0_f32; size * 3 * size];
    rows.par_chunks_mut(BAND * 3 * size).zip(down.par_chunks(BAND)).for_each(|(rows, down)| {
        resize_band(rgb, &across, down, rows);
    });
    let rows = Tensor::from_vec(rows, (size, 3, size), &Device::Cpu)?;
    rows.transpose(0, 1)?.contiguous()
}

/// Target rows that are computed together. Bounds the memory for source rows, regardless of the
/// image's height.
const BAND: usize = 64;

/// Computes some target rows, each as red, green and blue planes. Resizes horizontally, then
/// vertically.
fn resize_band(rgb: &RgbImage, across: &[FilterWeights], down: &[FilterWeights], rows: &mut [f32]) {
    let (width, size) = (rgb.width() as usize, across.len());
    let (Some(top), Some(bottom)) = (down.first(), down.last()) else { return };
    let (first, end) = (top.first, bottom.first + bottom.weights.len());
    let source = &rgb.as_raw()[first * 3 * width..end * 3 * width];
    let mut narrowed = vec![0.0_f32; (end - first) * 3 * size];
    let pairs = narrowed.chunks_exact_mut(3 * size).zip(source.chunks_exact(3 * width));
    for (to, from) in pairs {
        let (pixels, _) = from.as_chunks::<3>();
        for (x, filter) in across.iter().enumerate() {
            let mut sums = [0.0; 3];
            for (pixel, weight) in pixels[filter.first..].iter().zip(&filter.weights) {
                for channel in 0..3 {
                    sums[channel] += f32::from(pixel[channel]) * weight;
                }
            }
            for channel in 0..3 {
                to[channel * size + x] = sums[channel] / 255.0;
            }
        }
    }
    for (row, filter) in rows.chunks_exact_mut(3 * size).zip(down) {
        let sources = narrowed[(filter.first - first) * 3 * size..].chunks_exact(3 * size);
        for (from, weight) in sources.zip(&filter.weights) {
            for (to, from) in row.iter_mut().zip(from) {
                *to += weight * from;
            }
        }
        for (channel, plane) in row.chunks_exact_mut(size).enumerate() {
            for value in plane {
                *value = (*value - MEAN[channel]) / DEVIATION[channel];
            }
        }
    }
}

/// The weights of the source positions of one target position.
struct FilterWeights {
    /// The first source position.
    first: usize,
    weights: Vec<f32>,
}

fn filter_weights(from: usize, to: usize) -> Vec<FilterWeights> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let weights_of = |index: usize| {
        let centre = scale * (index as f64 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight =
            |position: usize| (1.0 - ((position as f64 - centre + 0.5) / support).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        FilterWeights {
            first,
            weights: (first..end).map(|position| (weight(position) / sum) as f32).collect(),
        }
    };
    (0..to).map(weights_of).collect()
}
