//! The decoder's cached keys and values of some texts and their images, layer by layer.

use candle_core::{Result, Tensor};

use crate::models::ops::{TensorOps, cat};

/// The cache of some sequences of one shape: the texts read so far, all of one length, and their
/// images, all at the same positions. A clone shares the tensors.
#[derive(Debug, Clone)]
pub struct KvCache {
    sequences: usize,
    layers: Vec<LayerCache>,
    image_starts: Vec<usize>,
    /// Tokens of an image.
    image_tokens: usize,
}

/// Rows of `[keys | values]`, all heads of each.
#[derive(Debug, Clone, Default)]
struct LayerCache {
    /// `(sequences, tokens read, 2 · kv_heads · head_dim)`; one sequence stands for all until a row
    /// is appended.
    text: Option<Tensor>,
    /// `(sequences, images · tokens, 2 · kv_heads · head_dim)`; in hyper layers only.
    images: Option<Tensor>,
}

impl KvCache {
    /// Creates an empty cache for a decoder of `layers` layers.
    pub(crate) fn new(sequences: usize, layers: usize) -> Self {
        Self {
            sequences,
            layers: vec![LayerCache::default(); layers],
            image_starts: Vec::new(),
            image_tokens: 0,
        }
    }

    /// Repeats the text of one sequence, without its images, for several.
    ///
    /// # Panics
    /// Panics if there are several sequences.
    pub(crate) fn repeated(&self, sequences: usize) -> Self {
        assert_eq!(self.sequences, 1, "only one sequence can stand for several");
        let text_of = |layer: &LayerCache| LayerCache { text: layer.text.clone(), images: None };
        Self {
            sequences,
            layers: self.layers.iter().map(text_of).collect(),
            image_starts: Vec::new(),
            image_tokens: 0,
        }
    }

    /// Returns the number of sequences.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Returns the index of the first placeholder token of each image of a sequence, in order.
    pub(crate) fn image_starts(&self) -> &[usize] {
        &self.image_starts
    }

    /// Returns the number of tokens of one image.
    pub(crate) fn image_tokens(&self) -> usize {
        self.image_tokens
    }

    pub(crate) fn set_images(&mut self, starts: &[usize], tokens: usize) {
        self.image_starts = starts.to_vec();
        self.image_tokens = tokens;
    }

    /// Returns a layer's rows of images, `(sequences, images · tokens, 2 · kv_heads · head_dim)`:
    /// the keys of all heads, rotated to their positions, then the values of all heads.
    pub fn image_rows(&self, layer: usize) -> Option<&Tensor> {
        self.layers[layer].images.as_ref()
    }

    pub(crate) fn set_image_rows(&mut self, layer: usize, rows: Tensor) {
        self.layers[layer].images = Some(rows);
    }

    /// Returns the number of text tokens that a layer has read.
    pub(crate) fn text_len(&self, layer: usize) -> Result<usize> {
        self.layers[layer].text.as_ref().map_or(Ok(0), |rows| rows.dim(1))
    }

    /// Returns a layer's rows of text.
    ///
    /// # Panics
    /// Panics if the layer has read no token.
    pub(crate) fn text_rows(&self, layer: usize) -> &Tensor {
        self.layers[layer].text.as_ref().expect("keys are appended before queries attend to them")
    }

    /// Appends a layer's rows of the next tokens, `(sequences, n, 2 · kv_heads · head_dim)`.
    pub(crate) fn append_text(&mut self, layer: usize, rows: &Tensor) -> Result<()> {
        let text = &mut self.layers[layer].text;
        *text = Some(match text.take() {
            Some(before) => {
                let (_, count, width) = before.dims3()?;
                cat(&[&before.broadcast_as((self.sequences, count, width))?, rows], 1)?
            }
            None => rows.dense()?,
        });
        Ok(())
    }
}
