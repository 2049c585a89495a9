//! The shape of a Qwen3.5-VL: a checkpoint's `config.json`.
//!
//! A field that changes the arithmetic and has a value that is not ported is refused. All others,
//! such as those of the block for multi-token prediction, are ignored.

use serde::{Deserialize, Serialize};

use crate::models::layers::{DeltaHeads, HeadLayout};

/// Upper limit of each size in a configuration: far above any network, and small enough that no
/// product of two sizes overflows.
const SIZE_MAX: usize = 1 << 20;
/// The taps of the convolution that are ported.
const CONV_TAPS: usize = 4;

/// The published sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    /// 0.8B: Q-ReAlign Mini.
    B0_8,
    /// 2B: a base model only.
    B2,
    /// 4B: Q-ReAlign Lite.
    B4,
    /// 9B: Q-ReAlign Pro.
    B9,
}

impl Size {
    /// All sizes, the smallest first.
    pub const ALL: [Self; 4] = [Self::B0_8, Self::B2, Self::B4, Self::B9];

    /// Returns the name, as in the names of the checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::B0_8 => "0.8b",
            Self::B2 => "2b",
            Self::B4 => "4b",
            Self::B9 => "9b",
        }
    }
}

/// The mixer of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayerType {
    /// A gated delta rule, whose memory has a constant size.
    #[serde(rename = "linear_attention")]
    Linear,
    /// Attention to all tokens before.
    #[serde(rename = "full_attention")]
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum TextActivation {
    #[default]
    #[serde(rename = "silu")]
    Silu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum VisionActivation {
    #[default]
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum RopeType {
    #[default]
    #[serde(rename = "default")]
    Default,
}

/// The rotary embedding of the full layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// Base of the frequencies.
    pub rope_theta: f32,
    /// Share of a head that rotates.
    pub partial_rotary_factor: f64,
    /// Pairs that rotate with the time, the row and the column of a token.
    pub mrope_section: [usize; 3],
    #[serde(default)]
    mrope_interleaved: bool,
    #[serde(default)]
    rope_type: RopeType,
}

/// The shape of the language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Rows of the embedding; more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a full layer.
    pub num_attention_heads: usize,
    /// Heads of keys and values of a full layer.
    pub num_key_value_heads: usize,
    /// Channels of a head of a full layer.
    pub head_dim: usize,
    /// Heads of queries and keys of a linear layer.
    pub linear_num_key_heads: usize,
    /// Heads of values of a linear layer.
    pub linear_num_value_heads: usize,
    /// Channels of a query or key of a linear layer.
    pub linear_key_head_dim: usize,
    /// Channels of a value of a linear layer.
    pub linear_value_head_dim: usize,
    /// Added to mean squares.
    pub rms_norm_eps: f64,
    /// The rotary embedding.
    pub rope_parameters: RopeParameters,
    /// Maximum number of tokens of a prompt.
    pub max_position_embeddings: usize,
    /// Every layer's mixer. If absent, every `full_attention_interval`-th is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_types: Option<Vec<LayerType>>,
    #[serde(default = "full_attention_interval")]
    full_attention_interval: usize,
    #[serde(default = "conv_taps")]
    linear_conv_kernel_dim: usize,
    #[serde(default = "yes")]
    attn_output_gate: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    hidden_act: TextActivation,
}

/// The shape of the vision tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of a patch.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the result: that of the language model.
    pub out_hidden_size: usize,
    /// Positions of the square table that an image's grid is interpolated from.
    pub num_position_embeddings: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch.
    pub temporal_patch_size: usize,
    /// Side in patches of the squares that become one token.
    pub spatial_merge_size: usize,
    #[serde(default = "channels")]
    in_channels: usize,
    #[serde(default)]
    hidden_act: VisionActivation,
    #[serde(default)]
    deepstack_visual_indexes: Vec<usize>,
}

/// The shape of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The token that stands for a part of an image.
    pub image_token_id: u32,
    /// The language model.
    pub text_config: TextConfig,
    /// The vision tower.
    pub vision_config: VisionConfig,
}

fn full_attention_interval() -> usize {
    4
}

fn conv_taps() -> usize {
    CONV_TAPS
}

fn channels() -> usize {
    3
}

fn yes() -> bool {
    true
}

impl Config {
    /// Parses a `config.json`.
    ///
    /// # Errors
    /// Fails on a missing, impossible or unknown value, and returns a message that names it.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let config: Self = serde_json::from_str(json)
            .map_err(|error| format!("not the configuration of a Qwen3.5-VL: {error}"))?;
        config.text_config.check()?;
        config.vision_config.check()?;
        if config.vision_config.out_hidden_size != config.text_config.hidden_size {
            return Err("vision_config.out_hidden_size differs from text_config.hidden_size".into());
        }
        Ok(config)
    }

    /// Returns the shape of a published network.
    pub fn of_size(size: Size) -> Self {
        let (hidden_size, intermediate_size, num_hidden_layers) = match size {
            Size::B0_8 => (1024, 3584, 24),
            Size::B2 => (2048, 6144, 24),
            Size::B4 => (2560, 9216, 32),
            Size::B9 => (4096, 12288, 32),
        };
        let is_small = matches!(size, Size::B0_8 | Size::B2);
        let (depth, width, inner, num_heads) = match size {
            Size::B0_8 => (12, 768, 3072, 12),
            Size::B2 | Size::B4 => (24, 1024, 4096, 16),
            Size::B9 => (27, 1152, 4304, 16),
        };
        Self {
            image_token_id: 248_056,
            text_config: TextConfig {
                vocab_size: 248_320,
                hidden_size,
                intermediate_size,
                num_hidden_layers,
                num_attention_heads: if is_small { 8 } else { 16 },
                num_key_value_heads: if is_small { 2 } else { 4 },
                head_dim: 256,
                linear_num_key_heads: 16,
                linear_num_value_heads: if is_small { 16 } else { 32 },
                linear_key_head_dim: 128,
                linear_value_head_dim: 128,
                rms_norm_eps: 1e-6,
                rope_parameters: RopeParameters {
                    rope_theta: 1e7,
                    partial_rotary_factor: 0.25,
                    mrope_section: [11, 11, 10],
                    mrope_interleaved: true,
                    rope_type: RopeType::Default,
                },
                max_position_embeddings: 262_144,
                layer_types: None,
                full_attention_interval: full_attention_interval(),
                linear_conv_kernel_dim: CONV_TAPS,
                attn_output_gate: true,
                attention_bias: false,
                hidden_act: TextActivation::Silu,
            },
            vision_config: VisionConfig {
                depth,
                hidden_size: width,
                intermediate_size: inner,
                num_heads,
                out_hidden_size: hidden_size,
                num_position_embeddings: 2304,
                patch_size: 16,
                temporal_patch_size: 2,
                spatial_merge_size: 2,
                in_channels: channels(),
                hidden_act: VisionActivation::GeluTanh,
                deepstack_visual_indexes: Vec::new(),
            },
        }
    }

    /// Returns the published size with the same shape.
    pub fn size(&self) -> Option<Size> {
        Size::ALL.into_iter().find(|&size| {
            let published = Self::of_size(size);
            let text = TextConfig { layer_types: None, ..self.text_config.clone() };
            // The limit of a prompt's length is no weight's shape.
            let max_position_embeddings = text.max_position_embeddings;
            let expected = TextConfig { max_position_embeddings, ..published.text_config.clone() };
            self.layer_types() == published.layer_types()
                && text == expected
                && self.vision_config == published.vision_config
        })
    }

    fn layer_types(&self) -> Vec<LayerType> {
        (0..self.text_config.num_hidden_layers)
            .map(|layer| self.text_config.layer_type(layer))
            .collect()
    }
}

impl TextConfig {
    /// Returns the mixer of a layer, counted from 0.
    pub fn layer_type(&self, layer: usize) -> LayerType {
        match &self.layer_types {
            Some(types) => types[layer],
            None if (layer + 1).is_multiple_of(self.full_attention_interval) => LayerType::Full,
            None => LayerType::Linear,
        }
    }

    /// Returns the heads of a full layer.
    pub fn heads(&self) -> HeadLayout {
        HeadLayout {
            query_heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
        }
    }

    /// Returns the heads of a linear layer.
    pub fn delta_heads(&self) -> DeltaHeads {
        DeltaHeads {
            key_heads: self.linear_num_key_heads,
            value_heads: self.linear_num_value_heads,
            key_dim: self.linear_key_head_dim,
            value_dim: self.linear_value_head_dim,
        }
    }

    /// Returns what is added to mean squares, in the precision of a norm.
    #[expect(clippy::cast_possible_truncation, reason = "well within the range of f32")]
    pub(crate) fn norm_eps(&self) -> f32 {
        self.rms_norm_eps as f32
    }

    /// Returns the values of a head that rotate.
    pub fn rotated(&self) -> usize {
        2 * self.rope_parameters.mrope_section.iter().sum::<usize>()
    }

    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("text_config.vocab_size", self.vocab_size),
            ("text_config.hidden_size", self.hidden_size),
            ("text_config.intermediate_size", self.intermediate_size),
            ("text_config.num_hidden_layers", self.num_hidden_layers),
            ("text_config.num_attention_heads", self.num_attention_heads),
            ("text_config.num_key_value_heads", self.num_key_value_heads),
            ("text_config.head_dim", self.head_dim),
            ("text_config.linear_num_key_heads", self.linear_num_key_heads),
            ("text_config.linear_num_value_heads", self.linear_num_value_heads),
            ("text_config.linear_key_head_dim", self.linear_key_head_dim),
            ("text_config.linear_value_head_dim", self.linear_value_head_dim),
            ("text_config.full_attention_interval", self.full_attention_interval),
            ("text_config.max_position_embeddings", self.max_position_embeddings),
        ])?;
        let rope = &self.rope_parameters;
        let pairs: usize = rope.mrope_section.iter().map(|pairs| (*pairs).min(SIZE_MAX)).sum();
        let rotated = rope.partial_rotary_factor * self.head_dim as f64;
        let layers = self.layer_types.as_ref().map_or(self.num_hidden_layers, Vec::len);
        check_rules(&[
            (self.attn_output_gate, "attn_output_gate = false is not supported"),
            (!self.attention_bias, "attention_bias = true is not supported"),
            (
                self.linear_conv_kernel_dim == CONV_TAPS,
                "linear_conv_kernel_dim other than 4 is not supported",
            ),
            (rope.mrope_interleaved, "mrope_interleaved = false is not supported"),
            (
                rope.rope_theta > 1.0 && rope.rope_theta.is_finite(),
                "rope_theta must be a number above 1",
            ),
            (
                ((2 * pairs) as f64 - rotated).abs() < 1e-6
                    && pairs > 0
                    && 2 * pairs <= self.head_dim,
                "mrope_section does not add up to half of partial_rotary_factor · head_dim",
            ),
            ((0.0..0.1).contains(&self.rms_norm_eps), "rms_norm_eps must be in 0..0.1"),
            (layers == self.num_hidden_layers, "layer_types does not have num_hidden_layers items"),
            (
                self.num_attention_heads.is_multiple_of(self.num_key_value_heads),
                "num_key_value_heads does not divide num_attention_heads",
            ),
            (
                self.linear_num_value_heads.is_multiple_of(self.linear_num_key_heads),
                "linear_num_key_heads does not divide linear_num_value_heads",
            ),
        ])
    }
}

impl VisionConfig {
    /// Returns the side of the table of positions.
    pub fn position_side(&self) -> usize {
        self.num_position_embeddings.isqrt()
    }

    /// Returns the number of samples in a patch of one frame.
    pub fn patch_len(&self) -> usize {
        self.in_channels * self.patch_size * self.patch_size
    }

    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("vision_config.depth", self.depth),
            ("vision_config.hidden_size", self.hidden_size),
            ("vision_config.intermediate_size", self.intermediate_size),
            ("vision_config.num_heads", self.num_heads),
            ("vision_config.out_hidden_size", self.out_hidden_size),
            ("vision_config.num_position_embeddings", self.num_position_embeddings),
        ])?;
        check_rules(&[
            (
                self.patch_size == 16
                    && self.temporal_patch_size == 2
                    && self.spatial_merge_size == 2
                    && self.in_channels == 3,
                "vision_config: only patches of 16 px, 2 frames and 3 channels, merged 2 × 2, are \
                 supported",
            ),
            (
                self.deepstack_visual_indexes.is_empty(),
                "vision_config.deepstack_visual_indexes is not supported",
            ),
            (
                self.hidden_size.is_multiple_of(4 * self.num_heads),
                "vision_config.num_heads does not divide hidden_size into heads of a multiple of 4",
            ),
            (
                self.position_side().pow(2) == self.num_position_embeddings,
                "vision_config.num_position_embeddings is not a square number",
            ),
        ])
    }
}

fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    for (name, size) in sizes {
        if !(1..=SIZE_MAX).contains(size) {
            return Err(format!("{name} is {size}; it must be in 1..={SIZE_MAX}"));
        }
    }
    Ok(())
}

fn check_rules(rules: &[(bool, &str)]) -> Result<(), String> {
    let broken = rules.iter().find(|(holds, _)| !holds);
    broken.map_or(Ok(()), |(_, message)| Err((*message).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fourth_layer_of_a_published_network_is_full() {
        for size in Size::ALL {
            let config = Config::of_size(size);
            let json = serde_json::to_string(&config).unwrap();
            let parsed = Config::from_json(&json).unwrap();
            assert_eq!((&parsed, parsed.size()), (&config, Some(size)));
            assert_eq!(config.text_config.rotated(), 64);
            let types: Vec<LayerType> = config.layer_types();
            assert_eq!(
                types[..4],
                [LayerType::Linear, LayerType::Linear, LayerType::Linear, LayerType::Full]
            );
            assert_eq!(types.last(), Some(&LayerType::Full));
        }
    }

    #[test]
    fn an_impossible_or_unknown_value_is_refused_by_name() {
        let json = serde_json::to_string(&Config::of_size(Size::B0_8)).unwrap();
        for (from, to, named) in [
            ("\"head_dim\":256,", "", "head_dim"),
            ("\"head_dim\":256", "\"head_dim\":128", "mrope_section"),
            ("[11,11,10]", "[11,11,1048576000000]", "mrope_section"),
            ("\"mrope_interleaved\":true", "\"mrope_interleaved\":false", "mrope_interleaved"),
            ("\"rope_type\":\"default\"", "\"rope_type\":\"yarn\"", "yarn"),
            ("\"attn_output_gate\":true", "\"attn_output_gate\":false", "attn_output_gate"),
            ("\"linear_conv_kernel_dim\":4", "\"linear_conv_kernel_dim\":3", "kernel_dim"),
            ("\"hidden_act\":\"silu\"", "\"hidden_act\":\"relu\"", "relu"),
            ("\"linear_num_key_heads\":16", "\"linear_num_key_heads\":3", "linear_num_key_heads"),
            ("\"deepstack_visual_indexes\":[]", "\"deepstack_visual_indexes\":[5]", "deepstack"),
            ("\"patch_size\":16", "\"patch_size\":14", "patches of 16"),
            ("\"num_position_embeddings\":2304", "\"num_position_embeddings\":2300", "square"),
            ("\"out_hidden_size\":1024", "\"out_hidden_size\":512", "out_hidden_size"),
            ("\"depth\":12", "\"depth\":0", "depth"),
            ("\"text_config\":", "\"layer_types\":[],\"text_config\":", ""),
        ] {
            let broken = json.replacen(from, to, 1);
            assert_ne!(broken, json, "{from}");
            match Config::from_json(&broken) {
                Err(message) => assert!(message.contains(named), "{message}"),
                // An unknown field is ignored.
                Ok(_) => assert!(named.is_empty(), "{to} is accepted"),
            }
        }
    }
}
