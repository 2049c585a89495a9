//! What the decoder keeps of one text and its images: keys and values, layer by layer.

use candle_core::{Result, Tensor};

/// A text as far as it has been read. A clone shares what it holds, so that many texts go on from one
/// beginning.
#[derive(Debug, Clone)]
pub struct Context {
    layers: Vec<Kept>,
    starts: Vec<usize>,
}

/// Rows of `[keys | values]`, all heads of each.
#[derive(Debug, Clone, Default)]
struct Kept {
    /// `(tokens read, 2 · keys · head_dim)`.
    text: Option<Tensor>,
    /// `(images · tokens, 2 · keys · head_dim)`; only layers that see images have them.
    images: Option<Tensor>,
}

impl Context {
    /// An empty text for a decoder of so many layers.
    pub(super) fn new(layers: usize) -> Self {
        Self { layers: vec![Kept::default(); layers], starts: Vec::new() }
    }

    /// Index of the first placeholder token of each image, in order.
    pub(super) fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Says where images will stand; their keys follow for each layer that sees them.
    pub(super) fn place_images(&mut self, starts: &[usize]) {
        self.starts = starts.to_vec();
    }

    pub(super) fn set_images(&mut self, layer: usize, rows: Tensor) {
        self.layers[layer].images = Some(rows);
    }

    /// What a layer has of images: `(images · tokens, 2 · keys · head_dim)`, all heads' keys, turned to
    /// their places, then all values.
    pub fn images(&self, layer: usize) -> Option<&Tensor> {
        self.layers[layer].images.as_ref()
    }

    /// Tokens that a layer has read.
    pub(super) fn read(&self, layer: usize) -> Result<usize> {
        self.layers[layer].text.as_ref().map_or(Ok(0), |rows| rows.dim(0))
    }

    /// Adds what a layer makes of further tokens.
    pub(super) fn extend(&mut self, layer: usize, rows: Tensor) -> Result<()> {
        let text = &mut self.layers[layer].text;
        *text = Some(match text.take() {
            Some(before) => Tensor::cat(&[before, rows], 0)?,
            None => rows,
        });
        Ok(())
    }

    pub(super) fn text(&self, layer: usize) -> &Tensor {
        self.layers[layer].text.as_ref().expect("the layer has read the tokens that now ask")
    }
}
