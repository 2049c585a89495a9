//! What a model is run on: pixels or a tensor on the CPU, sized as the model wants them.

use std::sync::Arc;

use candle_core::Tensor;
use image::RgbImage;

/// One prepared input. Only these travel between threads; a clone shares what it holds.
#[derive(Debug, Clone)]
pub struct ModelInput {
    content: Content,
    source_size: (u32, u32),
    cost: usize,
}

#[derive(Debug, Clone)]
enum Content {
    Pixels(Arc<RgbImage>),
    Tensor(Tensor),
}

impl ModelInput {
    /// Pixels as the model wants them, the `(width, height)` they were made from, and what running
    /// them costs in the unit of the lane's budget.
    pub fn new(pixels: Arc<RgbImage>, source_size: (u32, u32), cost: usize) -> Self {
        Self { content: Content::Pixels(pixels), source_size, cost }
    }

    /// The same for a tensor, which lies on the CPU: a device's memory belongs to its thread.
    pub fn of_tensor(tensor: Tensor, source_size: (u32, u32), cost: usize) -> Self {
        debug_assert!(tensor.device().is_cpu(), "only CPU data travels between threads");
        Self { content: Content::Tensor(tensor), source_size, cost }
    }

    /// The pixels the model reads.
    ///
    /// # Panics
    /// When a tensor was prepared: a model runs on what the same model has prepared.
    pub fn pixels(&self) -> &RgbImage {
        match &self.content {
            Content::Pixels(pixels) => pixels,
            Content::Tensor(_) => panic!("the input of another model"),
        }
    }

    /// The tensor the model reads.
    ///
    /// # Panics
    /// When pixels were prepared: a model runs on what the same model has prepared.
    pub fn tensor(&self) -> &Tensor {
        match &self.content {
            Content::Tensor(tensor) => tensor,
            Content::Pixels(_) => panic!("the input of another model"),
        }
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
