//! The decoder's cached keys and values of one text and its images, layer by layer.

use candle_core::{Result, Tensor};

/// The cache of one sequence: the text read so far, and its images. A clone shares the tensors, so
/// that many sequences can continue one prefix.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    image_starts: Vec<usize>,
}

/// Rows of `[keys | values]`, all heads of each.
#[derive(Debug, Clone, Default)]
struct LayerCache {
    /// `(tokens read, 2 · kv_heads · head_dim)`.
    text: Option<Tensor>,
    /// `(images · tokens, 2 · kv_heads · head_dim)`; in hyper layers only.
    images: Option<Tensor>,
}

impl KvCache {
    /// Creates an empty cache for a decoder of `layers` layers.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers], image_starts: Vec::new() }
    }

    /// Returns the index of the first placeholder token of each image, in order.
    pub(crate) fn image_starts(&self) -> &[usize] {
        &self.image_starts
    }

    pub(crate) fn set_image_starts(&mut self, starts: &[usize]) {
        self.image_starts = starts.to_vec();
    }

    /// Returns a layer's rows of images, `(images · tokens, 2 · kv_heads · head_dim)`: the keys of
    /// all heads, rotated to their positions, then the values of all heads.
    pub fn image_rows(&self, layer: usize) -> Option<&Tensor> {
        self.layers[layer].images.as_ref()
    }

    pub(crate) fn set_image_rows(&mut self, layer: usize, rows: Tensor) {
        self.layers[layer].images = Some(rows);
    }

    /// Returns the number of text tokens that a layer has read.
    pub(crate) fn text_len(&self, layer: usize) -> Result<usize> {
        self.layers[layer].text.as_ref().map_or(Ok(0), |rows| rows.dim(0))
    }

    /// Returns a layer's rows of text.
    ///
    /// # Panics
    /// Panics if the layer has read no token.
    pub(crate) fn text_rows(&self, layer: usize) -> &Tensor {
        self.layers[layer].text.as_ref().expect("keys are appended before queries attend to them")
    }

    /// Appends a layer's rows of the next tokens.
    pub(crate) fn append_text(&mut self, layer: usize, rows: Tensor) -> Result<()> {
        let text = &mut self.layers[layer].text;
        *text = Some(match text.take() {
            Some(before) => Tensor::cat(&[before, rows], 0)?,
            None => rows,
        });
        Ok(())
    }
}
