//! Networks of any shape, whose random weights are made on the device in seconds.

use std::sync::Mutex;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use dog_iqa::models::mplug_owl3::{
    Config, Generation, LevelHead, MplugOwl3, Prefix, Prompt, Release, Tensors,
};
use dog_iqa::models::sam2::{Config as Sam2Config, Sam2, Size};

/// The shapes of both networks, and the numbers of inputs to measure.
#[derive(Clone)]
pub(crate) struct Shapes {
    pub(crate) sam2: Sam2Config,
    pub(crate) owl: Config,
    /// Images in a run of the encoder.
    pub(crate) images: Vec<usize>,
    /// Points in a run of the decoder.
    pub(crate) points: Vec<usize>,
    /// Views in a run of the vision tower.
    pub(crate) views: Vec<usize>,
    /// Crops in a run of the language model.
    pub(crate) crops: Vec<usize>,
    /// Runs of each measurement.
    pub(crate) runs: usize,
    /// Values of the random block.
    block: usize,
}

impl Shapes {
    /// SAM 2.1 large and mPLUG-Owl3 7B.
    pub(crate) fn production() -> Self {
        Self {
            sam2: Sam2Config::of_size(Size::Large),
            owl: Config::of_release(Release::B7V241101),
            images: vec![1, 2, 4, 8],
            points: vec![64, 128, 256],
            views: vec![1, 9, 16, 32],
            crops: vec![9, 18, 32],
            runs: 7,
            block: 1 << 27,
        }
    }

    /// Shapes that a CPU runs in seconds, with every kind of layer.
    pub(crate) fn small() -> Self {
        let mut sam2 = Sam2Config::of_size(Size::Tiny);
        sam2.image_size = 256;
        let mut owl = Config::of_release(Release::B7V241101);
        owl.hidden_size = 256;
        owl.intermediate_size = 512;
        owl.num_hidden_layers = 6;
        owl.num_attention_heads = 4;
        owl.num_key_value_heads = 2;
        owl.hyper_layers = vec![2, 4];
        owl.vision_config.num_hidden_layers = 3;
        owl.vision_config.hidden_size = 144;
        owl.vision_config.intermediate_size = 288;
        owl.vision_config.num_attention_heads = 2;
        Self {
            sam2,
            owl,
            images: vec![1, 2],
            points: vec![16, 32],
            views: vec![1, 4],
            crops: vec![2, 4],
            runs: 3,
            block: 1 << 20,
        }
    }

    /// Returns true for the shapes of a rehearsal.
    pub(crate) fn is_small(&self) -> bool {
        self.sam2.image_size < 1024
    }

    /// Builds the segmenter's network from random weights.
    ///
    /// The neck is nearly silent and all children of a token are alike, so that the logits of a
    /// mask change slowly over the picture, as those of real masks do. Otherwise the CPU would
    /// label noise.
    pub(crate) fn sam2(&self, dtype: DType, device: &Device) -> Result<Sam2> {
        Sam2::new(&self.sam2, &random_weights(self.block, dtype, device)?)
    }

    /// Builds the scorer's network from random weights.
    pub(crate) fn owl(&self, dtype: DType, device: &Device) -> Result<Owl> {
        let tensors = Tensors::new(random_weights(self.block, dtype, device)?, None);
        Owl::new(&self.owl, &tensors)
    }
}

/// The scorer's network with its head for seven levels.
pub(crate) struct Owl {
    pub(crate) model: MplugOwl3,
    pub(crate) head: LevelHead,
}

impl Owl {
    pub(crate) fn new(config: &Config, tensors: &Tensors<'_>) -> Result<Self> {
        let model = MplugOwl3::new(config, Generation::V241101, tensors)?;
        let head = LevelHead::new(model.decoder(), &[16, 17, 18, 19, 20, 21, 22])?;
        Ok(Self { model, head })
    }

    /// Computes the prefix of a prompt of 128 tokens and `views` placeholders, the first after 86
    /// tokens.
    pub(crate) fn prefix(&self, views: usize) -> Result<Prefix> {
        let ids = vec![7; 127 + views];
        let image_starts = (86..86 + views).collect();
        Prefix::new(&self.model, &Prompt { ids, image_starts })
    }
}

/// Returns random weights of every name and shape, cut out of one block of normal values.
fn random_weights(block: usize, dtype: DType, device: &Device) -> Result<VarBuilder<'static>> {
    let block = Tensor::randn(0_f32, 1.0, block, device)?;
    let weights = RandomWeights { block, used: Mutex::new(0) };
    Ok(VarBuilder::from_backend(Box::new(weights), dtype, device.clone()))
}

struct RandomWeights {
    /// `(n)` f32 on the device.
    block: Tensor,
    /// Values of the block that were given out; then it starts again.
    used: Mutex<usize>,
}

impl RandomWeights {
    /// Returns `count` values of the block, from where the last call ended.
    fn values(&self, count: usize) -> Result<Tensor> {
        let len = self.block.dim(0)?;
        let mut used = self.used.lock().unwrap();
        let mut parts = Vec::new();
        let mut left = count;
        while left > 0 {
            let part = left.min(len - *used);
            parts.push(self.block.narrow(0, *used, part)?);
            *used = (*used + part) % len;
            left -= part;
        }
        Tensor::cat(&parts, 0)
    }

    fn weight(&self, shape: &Shape, name: &str) -> Result<Tensor> {
        let dims = shape.dims();
        if name.contains("norm") && name.ends_with("weight") {
            return Tensor::ones(shape, DType::F32, self.block.device());
        }
        let is_upscaling = name.contains("output_upscaling") && dims.len() == 4;
        let drawn = if is_upscaling { vec![dims[0], dims[1], 1, 1] } else { dims.to_vec() };
        let fan_in: usize = match dims {
            [_, inner @ ..] if !inner.is_empty() => inner.iter().product(),
            _ => 100,
        };
        let is_silent = ["image_encoder.neck", "conv_s0", "conv_s1"]
            .into_iter()
            .any(|part| name.contains(part));
        let loudness = if is_silent { 1e-3 } else { 1.0 };
        let values = self.values(drawn.iter().product())?.reshape(drawn)?;
        let scaled = (values * (loudness / (fan_in as f64).sqrt()))?;
        scaled.broadcast_as(shape)?.contiguous()
    }
}

impl SimpleBackend for RandomWeights {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        self.weight(&shape, name)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("`{name}` is asked for without its shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
