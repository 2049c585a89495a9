//! Pixels to the network's input, as `SAM2Transforms`: stretched to a square, then normalised.

use candle_core::{Device, Result, Tensor};
use image::RgbImage;
use rayon::prelude::*;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// `(3, size, size)` f32 on the CPU: stretched without keeping the aspect by a triangle filter that
/// widens when it shrinks, in `f32` throughout (torchvision's antialiased bilinear resize of floats;
/// rounding to 8 bits in between would move values by up to half a level).
///
/// # Errors
/// None but the tensor library's.
pub fn preprocess(rgb: &RgbImage, size: usize) -> Result<Tensor> {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let (across, down) = (taps(width, size), taps(height, size));
    // Channels last until the end, so that a band of rows is one piece of memory.
    let mut rows = vec![0.0_f32; size * 3 * size];
    rows.par_chunks_mut(BAND * 3 * size).zip(down.par_chunks(BAND)).for_each(|(rows, down)| {
        stretch_band(rgb, &across, down, rows);
    });
    let rows = Tensor::from_vec(rows, (size, 3, size), &Device::Cpu)?;
    rows.transpose(0, 1)?.contiguous()
}

/// Target rows that are made together: this bounds the source rows that are held, however tall the
/// picture is.
const BAND: usize = 64;

/// Some target rows, each planar: red, green, blue. Rows of the source are narrowed first.
fn stretch_band(rgb: &RgbImage, across: &[Taps], down: &[Taps], rows: &mut [f32]) {
    let (width, size) = (rgb.width() as usize, across.len());
    let (Some(top), Some(bottom)) = (down.first(), down.last()) else { return };
    let (first, end) = (top.first, bottom.first + bottom.weights.len());
    let source = &rgb.as_raw()[first * 3 * width..end * 3 * width];
    let mut narrowed = vec![0.0_f32; (end - first) * 3 * size];
    let pairs = narrowed.chunks_exact_mut(3 * size).zip(source.chunks_exact(3 * width));
    for (to, from) in pairs {
        let (pixels, _) = from.as_chunks::<3>();
        for (x, taps) in across.iter().enumerate() {
            let mut sums = [0.0; 3];
            for (pixel, weight) in pixels[taps.first..].iter().zip(&taps.weights) {
                for channel in 0..3 {
                    sums[channel] += f32::from(pixel[channel]) * weight;
                }
            }
            for channel in 0..3 {
                to[channel * size + x] = sums[channel] / 255.0;
            }
        }
    }
    for (row, taps) in rows.chunks_exact_mut(3 * size).zip(down) {
        let narrowed = narrowed[(taps.first - first) * 3 * size..].chunks_exact(3 * size);
        for (from, weight) in narrowed.zip(&taps.weights) {
            for (to, from) in row.iter_mut().zip(from) {
                *to += weight * from;
            }
        }
        for (channel, row) in row.chunks_exact_mut(size).enumerate() {
            for value in row {
                *value = (*value - MEAN[channel]) / DEVIATION[channel];
            }
        }
    }
}

/// The source positions that make one target position, and their weights.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let taps = |index: usize| {
        let centre = scale * (index as f64 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight =
            |position: usize| (1.0 - ((position as f64 - centre + 0.5) / support).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        Taps {
            first,
            weights: (first..end).map(|position| (weight(position) / sum) as f32).collect(),
        }
    };
    (0..to).map(taps).collect()
}
