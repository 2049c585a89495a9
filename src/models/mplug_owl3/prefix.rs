//! What a prompt's answer owes to no image, computed once and gone on from for every image.
//!
//! Tokens before the first image never see one, so their keys and values are the same in every layer.
//! Of the tokens after them the same holds before the first hyper layer. What is left is done for each
//! image alone; the result is that of the whole prompt, but for rounding.

use candle_core::Result;
use candle_core::Tensor;

use super::context::Context;
use super::model::MplugOwl3;
use super::prompt::Prompt;
use crate::models::device::forward;

/// A prompt, read as far as it can be without its images.
#[derive(Debug, Clone)]
pub struct Prefix {
    context: Context,
    /// `(1, tokens that see images, hidden)`: what the first hyper layer gets.
    entry: Tensor,
    starts: Vec<usize>,
    first_hyper: usize,
}

impl Prefix {
    /// Reads the prompt, which has a place for a view at least.
    ///
    /// # Errors
    /// A token that the network does not have; what candle says.
    pub fn new(model: &MplugOwl3, prompt: &Prompt) -> Result<Self> {
        let decoder = model.decoder();
        let first_hyper = model.config().first_hyper();
        let count = prompt.ids.len();
        // The last token answers, so it is done for each image even if it sees none.
        let Some(start) = prompt.image_starts.first().filter(|_| count > 0) else {
            candle_core::bail!("the prompt has no place for an image");
        };
        let blind = (start + model.generation().image_offset()).min(count - 1);
        let mut contexts = [decoder.context()];
        let xs = decoder.embed(&[&prompt.ids])?;
        let xs = decoder.run(xs, 0..first_hyper, &mut contexts)?;
        if blind > 0 {
            let before = xs.narrow(1, 0, blind)?.contiguous()?;
            decoder.run(before, first_hyper..decoder.layers().len(), &mut contexts)?;
        }
        let [context] = contexts;
        Ok(Self {
            context,
            entry: xs.narrow(1, blind, count - blind)?.contiguous()?,
            starts: prompt.image_starts.clone(),
            first_hyper,
        })
    }

    /// Number of views that the prompt has places for.
    pub fn views(&self) -> usize {
        self.starts.len()
    }

    /// Goes on with the views of some images, `(images · views, tokens, hidden)`, each image in a context of
    /// its own. Gives the contexts and the last token's hidden state behind the last norm, `(images,
    /// hidden)`.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn go_on(&self, model: &MplugOwl3, embeds: &Tensor) -> Result<(Vec<Context>, Tensor)> {
        let decoder = model.decoder();
        let images = embeds.dim(0)? / self.views();
        forward(model.device(), || {
            let mut contexts = vec![self.context.clone(); images];
            decoder.show(embeds, &mut contexts, &vec![&self.starts[..]; images])?;
            let entries = Tensor::cat(&vec![&self.entry; images], 0)?;
            let hidden = decoder.run_to_end(entries, self.first_hyper, &mut contexts)?;
            Ok((contexts, hidden))
        })
    }
}
