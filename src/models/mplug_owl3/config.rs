//! The shape of an mPLUG-Owl3: a checkpoint's `config.json` and its generation.

use serde::{Deserialize, Serialize};

/// Upper limit of each size in a configuration: far above any network, and small enough that no
/// product of sizes overflows.
const SIZE_MAX: usize = 1 << 20;

/// Upper limit of a view's side in pixels.
const VIEW_MAX: usize = 4096;

/// The three generations. They share their configuration's `model_type`, but differ in hyper
/// attention, projector, an image's position, and the texts of split images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// 7B-240728: a softmax over text and one over images, mixed by a gate for each head and token.
    V240728,
    /// 1B-241014 and 2B-241014: two softmaxes, too, mixed by a learned gate for each channel.
    V241014,
    /// 7B-241101: one softmax over images and text, without a gate; a projector of two layers.
    V241101,
}

impl Generation {
    /// Returns the name, as in the names of the checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::V240728 => "240728",
            Self::V241014 => "241014",
            Self::V241101 => "241101",
        }
    }

    /// Returns the offset, in tokens from the start of an image's placeholder, of the token that
    /// has the position of the image's keys. It is also the first token that attends to the image.
    pub fn image_offset(self) -> usize {
        match self {
            Self::V240728 | Self::V241014 => 1,
            Self::V241101 => 0,
        }
    }
}

/// The published checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// 924 M parameters.
    B1V241014,
    /// 1,977 M parameters.
    B2V241014,
    /// 8,061 M parameters.
    B7V240728,
    /// 8,073 M parameters.
    B7V241101,
}

impl Release {
    /// All releases, the smallest first.
    pub const ALL: [Self; 4] = [Self::B1V241014, Self::B2V241014, Self::B7V240728, Self::B7V241101];

    /// Returns the name, e.g. `1b-241014`.
    pub fn name(self) -> &'static str {
        match self {
            Self::B1V241014 => "1b-241014",
            Self::B2V241014 => "2b-241014",
            Self::B7V240728 => "7b-240728",
            Self::B7V241101 => "7b-241101",
        }
    }

    /// Returns the generation.
    pub fn generation(self) -> Generation {
        match self {
            Self::B1V241014 | Self::B2V241014 => Generation::V241014,
            Self::B7V240728 => Generation::V240728,
            Self::B7V241101 => Generation::V241101,
        }
    }
}

/// The shape of the SigLIP tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers in the checkpoint; the last one is never used.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side of a view in pixels; pixels beyond whole patches are dropped.
    pub image_size: usize,
    /// Added to variances.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    #[serde(default)]
    hidden_act: VisionActivation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum VisionActivation {
    #[default]
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum TextActivation {
    #[default]
    #[serde(rename = "silu")]
    Silu,
}

fn layer_norm_eps() -> f64 {
    1e-6
}

fn rope_theta() -> f32 {
    1e6
}

impl VisionConfig {
    /// Returns the number of tokens of a view.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// The shape of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Heads of keys and values.
    pub num_key_value_heads: usize,
    /// Rows of the embedding; more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// Hyper layers, which attend to images, counted from 1 as in the file. See
    /// [`Config::is_hyper`].
    pub hyper_layers: Vec<usize>,
    /// Added to mean squares.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "rope_theta")]
    pub rope_theta: f32,
    /// True if the output head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Maximum number of tokens of a prompt and its answer together.
    pub max_position_embeddings: usize,
    /// The vision tower.
    pub vision_config: VisionConfig,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    hidden_act: TextActivation,
}

impl Config {
    /// Parses a `config.json`.
    ///
    /// # Errors
    /// Fails on a missing or impossible value, and returns a message that names it.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let config: Self = serde_json::from_str(json)
            .map_err(|error| format!("not the configuration of an mPLUG-Owl3: {error}"))?;
        config.check_sizes()?;
        config.check_rules()?;
        Ok(config)
    }

    /// Returns the shape of a published network.
    pub fn of_release(release: Release) -> Self {
        let (hidden_size, intermediate_size, num_hidden_layers, num_attention_heads) = match release
        {
            Release::B1V241014 => (896, 4864, 24, 14),
            Release::B2V241014 => (1536, 8960, 28, 12),
            Release::B7V240728 | Release::B7V241101 => (3584, 18944, 28, 28),
        };
        let is_last = release == Release::B7V241101;
        let is_small = release.generation() == Generation::V241014;
        Self {
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: if is_small { 2 } else { 4 },
            vocab_size: if is_last { 151_651 } else { 151_851 },
            hyper_layers: match release {
                Release::B1V241014 => vec![6, 13, 20, 22],
                Release::B7V240728 => vec![1, 9, 17, 25],
                Release::B2V241014 | Release::B7V241101 => vec![7, 15, 23, 26],
            },
            rms_norm_eps: 1e-6,
            rope_theta: rope_theta(),
            tie_word_embeddings: is_small,
            max_position_embeddings: 32_768,
            vision_config: VisionConfig {
                hidden_size: 1152,
                intermediate_size: 4304,
                num_hidden_layers: 27,
                num_attention_heads: 16,
                patch_size: 14,
                image_size: if is_last { 378 } else { 384 },
                layer_norm_eps: layer_norm_eps(),
                hidden_act: VisionActivation::GeluTanh,
            },
            use_sliding_window: false,
            rope_scaling: None,
            hidden_act: TextActivation::Silu,
        }
    }

    /// Returns the number of values in a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Returns true if the layer with this index, from 0, attends to images.
    pub fn is_hyper(&self, layer: usize) -> bool {
        self.hyper_layers.contains(&(layer + 1))
    }

    /// Returns the index of the first layer that attends to images, from 0.
    pub fn first_hyper(&self) -> usize {
        self.hyper_layers.iter().min().map_or(self.num_hidden_layers, |layer| layer - 1)
    }

    fn check_sizes(&self) -> Result<(), String> {
        let vision = &self.vision_config;
        for (name, size) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("vision_config.hidden_size", vision.hidden_size),
            ("vision_config.intermediate_size", vision.intermediate_size),
            ("vision_config.num_attention_heads", vision.num_attention_heads),
            ("vision_config.patch_size", vision.patch_size),
            ("vision_config.image_size", vision.image_size),
        ] {
            if !(1..=SIZE_MAX).contains(&size) {
                return Err(format!("{name} is {size}; it must be in 1..={SIZE_MAX}"));
            }
        }
        Ok(())
    }

    /// Checks everything but the ranges of [`Config::check_sizes`], which it relies on.
    fn check_rules(&self) -> Result<(), String> {
        let vision = &self.vision_config;
        for (holds, message) in [
            (!self.use_sliding_window, "use_sliding_window is not supported"),
            (self.rope_scaling.is_none(), "rope_scaling is not supported"),
            (
                self.rope_theta > 1.0 && self.rope_theta.is_finite(),
                "rope_theta must be a number above 1",
            ),
            (
                [self.rms_norm_eps, vision.layer_norm_eps]
                    .iter()
                    .all(|eps| (0.0..0.1).contains(eps)),
                "rms_norm_eps and vision_config.layer_norm_eps must be in 0..0.1",
            ),
            (vision.image_size <= VIEW_MAX, "vision_config.image_size is above 4096"),
            (
                self.hidden_size.is_multiple_of(2 * self.num_attention_heads),
                "num_attention_heads does not divide hidden_size into heads of an even width",
            ),
            (
                self.num_attention_heads.is_multiple_of(self.num_key_value_heads),
                "num_key_value_heads does not divide num_attention_heads",
            ),
            (
                vision.hidden_size.is_multiple_of(vision.num_attention_heads),
                "vision_config.num_attention_heads does not divide vision_config.hidden_size",
            ),
            (
                (2..=SIZE_MAX).contains(&vision.num_hidden_layers),
                "vision_config.num_hidden_layers must be at least 2",
            ),
            (
                vision.patch_size <= vision.image_size,
                "vision_config.patch_size is larger than vision_config.image_size",
            ),
            (
                !self.hyper_layers.is_empty()
                    && self.hyper_layers.iter().all(|n| (1..=self.num_hidden_layers).contains(n)),
                "hyper_layers are counted from 1 to num_hidden_layers, and there is one at least",
            ),
        ] {
            if !holds {
                return Err(message.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_layers_are_counted_from_one_in_the_file() {
        let config = Config::of_release(Release::B2V241014);
        let hyper: Vec<usize> = (0..28).filter(|&layer| config.is_hyper(layer)).collect();
        assert_eq!((hyper, config.first_hyper()), (vec![6, 14, 22, 25], 6));
        for release in Release::ALL {
            let config = Config::of_release(release);
            assert_eq!(config.vision_config.tokens(), 729);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(Config::from_json(&json).unwrap(), config);
        }
    }

    #[test]
    fn an_impossible_value_is_refused_by_name() {
        let json = r#"{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
            "hyper_layers": [2, 4], "rms_norm_eps": 1e-6, "max_position_embeddings": 512,
            "vision_config": {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 3,
                "num_attention_heads": 2, "patch_size": 14, "image_size": 60}}"#;
        Config::from_json(json).unwrap();
        for (from, to, named) in [
            (r#""hidden_size": 64, "#, "", "hidden_size"),
            ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads"),
            ("[2, 4]", "[2, 6]", "hyper_layers"),
            ("[2, 4]", "[0]", "hyper_layers"),
            ("\"hidden_size\": 32", "\"hidden_size\": 0", "vision_config.hidden_size"),
            ("\"vocab_size\": 300", "\"vocab_size\": 300, \"use_sliding_window\": true", "sliding"),
            ("\"vocab_size\": 300", "\"vocab_size\": 300, \"hidden_act\": \"gelu\"", "gelu"),
            ("\"vocab_size\": 300", "\"vocab_size\": 300, \"rope_theta\": 0", "rope_theta"),
            ("\"vocab_size\": 300", "\"vocab_size\": 300, \"rope_scaling\": {}", "rope_scaling"),
            ("\"rms_norm_eps\": 1e-6", "\"rms_norm_eps\": -1", "rms_norm_eps"),
            ("\"image_size\": 60", "\"image_size\": 99999", "image_size"),
        ] {
            let message = Config::from_json(&json.replacen(from, to, 1)).unwrap_err();
            assert!(message.contains(named), "{message}");
        }
    }
}
