//! Adapts the numeric models to [`Segmenter`] and [`Scorer`].
//!
//! `classic` needs no weights. `sam2` and `mplug_owl3` are the models of the paper; `qwen3_5_vl`
//! and `clip_iqa` rate in the place of the latter. `network_scorer` is the one that the weights are
//! of. `recorded` returns masks that were found earlier. `pixel_identity` is what scorers share.
//!
//! May import the traits, settings and errors of `engine`.
//!
//! [`Segmenter`]: crate::engine::Segmenter
//! [`Scorer`]: crate::engine::Scorer

pub(crate) mod classic;
pub(crate) mod clip_iqa;
pub(crate) mod loaded_mplug_owl3;
pub(crate) mod mplug_owl3;
pub(crate) mod network_scorer;
pub(crate) mod pixel_identity;
pub(crate) mod qwen3_5_vl;
pub(crate) mod recorded;
pub(crate) mod sam2;
pub(crate) mod tensor_error;

pub use clip_iqa::ClipIqaError;
pub use loaded_mplug_owl3::MplugOwl3Error;
pub use qwen3_5_vl::Qwen3_5VlError;
