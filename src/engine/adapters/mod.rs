//! Adapts the numeric models to [`Segmenter`] and [`Scorer`].
//!
//! `classic` needs no weights. `sam2` and `mplug_owl3` are the models of the paper, and `dog_iqa`
//! plans the engine that combines them. `chat` generates free-text answers for `dogiqa ask`.
//!
//! May import the traits, settings, errors and plans of `engine`, but not `engine::engine`.
//!
//! [`Segmenter`]: crate::engine::Segmenter
//! [`Scorer`]: crate::engine::Scorer

pub(crate) mod chat;
pub(crate) mod classic;
pub(crate) mod dog_iqa;
mod loaded_mplug_owl3;
pub(crate) mod mplug_owl3;
pub(crate) mod sam2;
mod tensor_error;

pub use loaded_mplug_owl3::MplugOwl3Error;
