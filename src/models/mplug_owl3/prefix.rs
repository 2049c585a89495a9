//! The image-independent prefix of a prompt's forward pass: computed once, reused for every image.
//!
//! A token before the first image does not attend to an image, so its keys and values are the same
//! in every layer. The other tokens do not depend on an image before the first hyper layer. Only
//! the rest is computed for each image. The result equals that of the whole prompt, up to rounding.

use candle_core::{Result, Tensor, bail};

use crate::models::device::forward;
use crate::models::mplug_owl3::kv_cache::KvCache;
use crate::models::mplug_owl3::model::MplugOwl3;
use crate::models::mplug_owl3::prompt::Prompt;
use crate::models::ops::TensorOps;

/// A prompt, computed as far as it does not depend on its images.
#[derive(Debug, Clone)]
pub struct Prefix {
    cache: KvCache,
    /// The input of the first hyper layer, `(1, n, hidden)`, of the tokens that may attend to an
    /// image.
    hyper_input: Tensor,
    image_starts: Vec<usize>,
    first_hyper: usize,
}

impl Prefix {
    /// Computes the prefix of a prompt with one image or more.
    ///
    /// # Errors
    /// Fails on a prompt without an image, a token that the network does not have, or an error of
    /// the device.
    pub fn new(model: &MplugOwl3, prompt: &Prompt) -> Result<Self> {
        let decoder = model.decoder();
        let first_hyper = model.config().first_hyper();
        let count = prompt.ids.len();
        let Some(start) = prompt.image_starts.first().filter(|_| count > 0) else {
            bail!("the prompt has no placeholder of an image");
        };
        // The last token is computed for each image even if it attends to none, because its hidden
        // state is the answer.
        let blind = (start + model.generation().image_offset()).min(count - 1);
        // 1. All tokens, before the first hyper layer: (1, tokens, hidden).
        let mut cache = decoder.empty_cache(1);
        let tokens = decoder.embed(&[&prompt.ids])?;
        let xs = decoder.run(tokens, 0..first_hyper, &mut cache)?;
        // 2. The tokens that attend to no image, in all other layers.
        if blind > 0 {
            let before = xs.narrow(1, 0, blind)?.dense()?;
            decoder.run(before, first_hyper..decoder.layers().len(), &mut cache)?;
        }
        Ok(Self {
            cache,
            hyper_input: xs.narrow(1, blind, count - blind)?.dense()?,
            image_starts: prompt.image_starts.clone(),
            first_hyper,
        })
    }

    /// Returns the number of views in the prompt.
    pub fn views(&self) -> usize {
        self.image_starts.len()
    }

    /// Resumes the prompt once for each image, and returns the cache of all, and each last token's
    /// hidden state after the last norm.
    ///
    /// # Shapes
    /// - `embeds`: `(images · views, tokens, hidden)`
    /// - result: a cache with a sequence for each image, and `(images, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn resume(&self, model: &MplugOwl3, embeds: &Tensor) -> Result<(KvCache, Tensor)> {
        let decoder = model.decoder();
        let images = embeds.dim(0)? / self.views();
        forward(model.device(), || {
            let mut cache = self.cache.repeated(images);
            decoder.cache_image_kv(embeds, &mut cache, &self.image_starts)?;
            let (_, count, hidden) = self.hyper_input.dims3()?;
            let xs = self.hyper_input.broadcast_as((images, count, hidden))?.dense()?;
            let hidden = decoder.run_to_end(xs, self.first_hyper, &mut cache)?;
            Ok((cache, hidden))
        })
    }
}
