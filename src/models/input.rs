//! What a model is run on: pixels on the CPU, sized as the model wants them.

use std::sync::Arc;

use image::RgbImage;

/// One prepared input. Only these travel between threads; a clone shares the pixels.
#[derive(Debug, Clone)]
pub struct ModelInput {
    pixels: Arc<RgbImage>,
    source_size: (u32, u32),
    cost: usize,
}

impl ModelInput {
    /// Pixels as the model wants them, the `(width, height)` they were made from, and what running
    /// them costs in the unit of the lane's budget.
    pub fn new(pixels: Arc<RgbImage>, source_size: (u32, u32), cost: usize) -> Self {
        Self { pixels, source_size, cost }
    }

    /// The pixels the model reads.
    pub fn pixels(&self) -> &RgbImage {
        &self.pixels
    }

    /// `(width, height)` in pixels of the picture or crop before it was resized.
    pub fn source_size(&self) -> (u32, u32) {
        self.source_size
    }

    /// Share of a batch's cost budget that this input takes.
    pub fn cost(&self) -> usize {
        self.cost
    }
}
