//! The shape of a SAM 2 network: the four published sizes, or a Hub `config.json`.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The published sizes; SAM 2.0 and 2.1 share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    /// 38.9 M parameters.
    Tiny,
    /// 46.0 M parameters.
    Small,
    /// 80.8 M parameters.
    BasePlus,
    /// 224.4 M parameters.
    Large,
}

impl Size {
    /// All sizes, the smallest first.
    pub const ALL: [Self; 4] = [Self::Tiny, Self::Small, Self::BasePlus, Self::Large];

    /// Returns the name in file names: `tiny`, `small`, `base-plus`, `large`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::BasePlus => "base-plus",
            Self::Large => "large",
        }
    }
}

/// Shape of the Hiera trunk. Each stage halves the map and doubles the channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkConfig {
    /// Channels of the first stage.
    pub embed_dim: usize,
    /// Attention heads of the first stage.
    pub heads: usize,
    /// Blocks in each stage.
    pub stages: [usize; 4],
    /// Side of the attention windows of each stage in tokens. The first block of a stage still has
    /// the window of the stage before.
    pub window_spec: [usize; 4],
    /// Indices of the blocks that attend to the whole map, counted through all stages.
    pub global_blocks: Vec<usize>,
    /// Height and width of the stored position embedding.
    pub position_size: [usize; 2],
}

/// If one mask is requested and the network's first mask is not stable, the best of the other three
/// is returned instead (the reference's `dynamic_multimask_via_stability`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicMultimask {
    /// Logits between −delta and +delta are uncertain.
    pub delta: f32,
    /// Minimum ratio of certain pixels to certain and uncertain ones in a stable mask.
    pub threshold: f32,
}

/// Shape of the whole network.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Side of the square input in pixels, a multiple of 32.
    pub image_size: usize,
    /// The image encoder's trunk.
    pub trunk: TrunkConfig,
    /// Channels of the neck, the prompts and the decoder.
    pub d_model: usize,
    /// Hidden width of the two-way transformer's MLP.
    pub mlp_dim: usize,
    /// Heads of the two-way transformer.
    pub decoder_heads: usize,
    /// Hidden width of the head that predicts the intersection over union.
    pub iou_hidden: usize,
    /// Channels of an embedded mask prompt before the last convolution.
    pub mask_channels: usize,
    /// The rule that chooses one mask; `None` always chooses the first.
    pub dynamic_multimask: Option<DynamicMultimask>,
}

/// Limits of a network: far above every published one. A larger configuration is refused.
const WIDTH_MAX: usize = 1 << 16;
const BLOCKS_MAX: usize = 256;
const SIDE_MAX: usize = 256;
const IMAGE_SIZE_MAX: usize = 4096;

impl Config {
    /// Returns the configuration of a published size.
    pub fn of_size(size: Size) -> Self {
        let (embed_dim, heads, stages, window_spec, global_blocks, position) = match size {
            Size::Tiny => (96, 1, [1, 2, 7, 2], [8, 4, 14, 7], [5, 7, 9], 7),
            Size::Small => (96, 1, [1, 2, 11, 2], [8, 4, 14, 7], [7, 10, 13], 7),
            Size::BasePlus => (112, 2, [2, 3, 16, 3], [8, 4, 14, 7], [12, 16, 20], 14),
            Size::Large => (144, 2, [2, 6, 36, 4], [8, 4, 16, 8], [23, 33, 43], 7),
        };
        Self {
            image_size: 1024,
            trunk: TrunkConfig {
                embed_dim,
                heads,
                stages,
                window_spec,
                global_blocks: global_blocks.into(),
                position_size: [position; 2],
            },
            d_model: 256,
            mlp_dim: 2048,
            decoder_heads: 8,
            iou_hidden: 256,
            mask_channels: 16,
            dynamic_multimask: Some(DynamicMultimask { delta: 0.05, threshold: 0.98 }),
        }
    }

    /// Parses a Hub `config.json` of `Sam2Model` or `Sam2VideoModel`. Keys of the video parts are
    /// ignored; absent keys have the values of the tiny size, as in the reference.
    ///
    /// # Errors
    /// Returns the sentence to show if the document is malformed or the network cannot be built.
    pub fn from_hub_json(json: &str) -> Result<Self, String> {
        let document = serde_json::from_str(json).map_err(|error| error.to_string())?;
        check_constants(&document)?;
        let hub: Hub = serde_json::from_value(document).map_err(|error| error.to_string())?;
        if !hub.model_type.starts_with("sam2") {
            return Err(format!("the model type is `{}`, not `sam2`", hub.model_type));
        }
        let (backbone, decoder) = (hub.vision_config.backbone_config, hub.mask_decoder_config);
        let [height, width] = backbone.image_size;
        if height != width {
            return Err(format!("image_size is {height} × {width}, only squares are supported"));
        }
        let dynamic = DynamicMultimask {
            delta: decoder.dynamic_multimask_stability_delta,
            threshold: decoder.dynamic_multimask_stability_thresh,
        };
        let config = Self {
            image_size: height,
            trunk: TrunkConfig {
                embed_dim: backbone.hidden_size,
                heads: backbone
                    .num_attention_heads_per_stage
                    .map_or(backbone.num_attention_heads, |heads| heads[0]),
                stages: backbone.blocks_per_stage,
                window_spec: backbone.window_size_per_stage,
                global_blocks: backbone.global_attention_blocks,
                position_size: backbone.window_positional_embedding_background_size,
            },
            d_model: hub.vision_config.fpn_hidden_size,
            mlp_dim: decoder.mlp_dim,
            decoder_heads: decoder.num_attention_heads,
            iou_hidden: decoder.iou_head_hidden_dim,
            mask_channels: hub.prompt_encoder_config.mask_input_channels,
            dynamic_multimask: decoder.dynamic_multimask_via_stability.then_some(dynamic),
        };
        config.check()?;
        check_stages(backbone.embed_dim_per_stage, config.trunk.embed_dim, "embed_dim_per_stage")?;
        let heads = backbone.num_attention_heads_per_stage;
        check_stages(heads, config.trunk.heads, "num_attention_heads_per_stage")?;
        Ok(config)
    }

    /// Returns the side of the image embedding in tokens.
    pub fn embedding_side(&self) -> usize {
        self.image_size / 16
    }

    /// Returns the side of a low-resolution mask in pixels.
    pub fn mask_side(&self) -> usize {
        self.image_size / 4
    }

    /// Refuses a network that cannot be built.
    fn check(&self) -> Result<(), String> {
        let TrunkConfig { embed_dim, heads, stages, window_spec, position_size, .. } = &self.trunk;
        let widths = vec![
            *embed_dim,
            *heads,
            self.d_model,
            self.mlp_dim,
            self.decoder_heads,
            self.iou_hidden,
            self.mask_channels,
        ];
        for (numbers, name, max) in [
            (widths, "widths and heads", WIDTH_MAX),
            (stages.to_vec(), "blocks_per_stage", BLOCKS_MAX),
            (window_spec.to_vec(), "window_size_per_stage", SIDE_MAX),
            (position_size.to_vec(), "window_positional_embedding_background_size", SIDE_MAX),
            (vec![self.image_size], "image_size", IMAGE_SIZE_MAX),
        ] {
            if let Some(number) = numbers.iter().find(|number| !(1..=max).contains(*number)) {
                return Err(format!("{name}: {number} is not in 1..={max}"));
            }
        }
        let refuse = |what: String| Err(format!("the network cannot be built: {what}"));
        if !self.image_size.is_multiple_of(32) {
            return refuse(format!("the image size {} is not a multiple of 32", self.image_size));
        }
        if !embed_dim.is_multiple_of(*heads) {
            return refuse(format!("{heads} heads do not divide {embed_dim} channels"));
        }
        if window_spec[..3].iter().any(|side| !side.is_multiple_of(2)) {
            return refuse(format!("queries are pooled in windows of odd sides {window_spec:?}"));
        }
        let firsts = [stages[0], stages[0] + stages[1], stages[0] + stages[1] + stages[2]];
        if self.trunk.global_blocks.iter().any(|block| firsts.contains(block)) {
            return refuse("the first block of a stage cannot see the whole map".to_owned());
        }
        let divisor = 2 * self.decoder_heads;
        if !self.mask_channels.is_multiple_of(4) {
            return refuse(format!("{} channels of an embedded mask", self.mask_channels));
        }
        if !self.d_model.is_multiple_of(divisor) || !self.d_model.is_multiple_of(8) {
            return refuse(format!("{} channels for {} heads", self.d_model, self.decoder_heads));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Hub {
    model_type: String,
    #[serde(default)]
    vision_config: HubVision,
    #[serde(default)]
    prompt_encoder_config: HubPrompt,
    #[serde(default)]
    mask_decoder_config: HubDecoder,
}

#[derive(Deserialize)]
#[serde(default)]
struct HubVision {
    backbone_config: HubBackbone,
    fpn_hidden_size: usize,
}

impl Default for HubVision {
    fn default() -> Self {
        Self { backbone_config: HubBackbone::default(), fpn_hidden_size: 256 }
    }
}

/// JSON pointers and the values that all published networks share. Networks with other values are
/// not supported.
const CONSTANTS: [(&str, &str); 15] = [
    ("/vision_config/fpn_top_down_levels", "[2,3]"),
    ("/vision_config/fpn_kernel_size", "1"),
    ("/vision_config/layer_norm_eps", "1e-6"),
    ("/vision_config/backbone_config/num_channels", "3"),
    ("/vision_config/backbone_config/patch_kernel_size", "[7,7]"),
    ("/vision_config/backbone_config/patch_stride", "[4,4]"),
    ("/vision_config/backbone_config/patch_padding", "[3,3]"),
    ("/vision_config/backbone_config/query_stride", "[2,2]"),
    ("/vision_config/backbone_config/num_query_pool_stages", "3"),
    ("/vision_config/backbone_config/mlp_ratio", "4.0"),
    ("/vision_config/backbone_config/layer_norm_eps", "1e-6"),
    ("/mask_decoder_config/num_hidden_layers", "2"),
    ("/mask_decoder_config/num_multimask_outputs", "3"),
    ("/mask_decoder_config/attention_downsample_rate", "2"),
    ("/mask_decoder_config/iou_head_depth", "3"),
];

fn check_constants(document: &Value) -> Result<(), String> {
    for (pointer, expected) in CONSTANTS {
        let expected: Value = serde_json::from_str(expected).map_err(|error| error.to_string())?;
        let Some(found) = document.pointer(pointer) else { continue };
        // One number may replace two equal sides, and an integer may be written with a decimal
        // point.
        let number = |value: &Value| value.as_f64();
        let is_equal = match (found, &expected) {
            (Value::Array(_), _) => *found == expected,
            (found, Value::Array(sides)) => sides.iter().all(|side| number(side) == number(found)),
            (found, expected) => number(found) == number(expected),
        };
        if !is_equal {
            return Err(format!(
                "{} is {found}, only {expected} is supported",
                pointer.trim_start_matches('/')
            ));
        }
    }
    Ok(())
}

/// Checks that each stage has twice as many as the one before.
fn check_stages(stages: Option<[usize; 4]>, first: usize, name: &str) -> Result<(), String> {
    let doubled = std::array::from_fn(|stage| first << stage);
    match stages {
        Some(found) if found != doubled => {
            Err(format!("{name} is {found:?}, only doubling is supported: {doubled:?}"))
        }
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct HubBackbone {
    hidden_size: usize,
    num_attention_heads: usize,
    #[serde(deserialize_with = "side_or_sides")]
    image_size: [usize; 2],
    #[serde(deserialize_with = "side_or_sides")]
    window_positional_embedding_background_size: [usize; 2],
    blocks_per_stage: [usize; 4],
    num_attention_heads_per_stage: Option<[usize; 4]>,
    window_size_per_stage: [usize; 4],
    global_attention_blocks: Vec<usize>,
    embed_dim_per_stage: Option<[usize; 4]>,
}

impl Default for HubBackbone {
    fn default() -> Self {
        let Config { image_size, trunk, .. } = Config::of_size(Size::Tiny);
        Self {
            hidden_size: trunk.embed_dim,
            num_attention_heads: trunk.heads,
            image_size: [image_size; 2],
            window_positional_embedding_background_size: trunk.position_size,
            blocks_per_stage: trunk.stages,
            num_attention_heads_per_stage: None,
            window_size_per_stage: trunk.window_spec,
            global_attention_blocks: trunk.global_blocks,
            embed_dim_per_stage: None,
        }
    }
}

/// Accepts one number for both sides, or height and width.
fn side_or_sides<'de, D: Deserializer<'de>>(from: D) -> Result<[usize; 2], D::Error> {
    let value = Value::deserialize(from)?;
    let sides = match &value {
        Value::Array(_) => serde_json::from_value(value),
        _ => serde_json::from_value(value).map(|side| [side; 2]),
    };
    sides.map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
#[serde(default)]
struct HubPrompt {
    mask_input_channels: usize,
}

impl Default for HubPrompt {
    fn default() -> Self {
        Self { mask_input_channels: 16 }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct HubDecoder {
    mlp_dim: usize,
    num_attention_heads: usize,
    iou_head_hidden_dim: usize,
    dynamic_multimask_via_stability: bool,
    dynamic_multimask_stability_delta: f32,
    dynamic_multimask_stability_thresh: f32,
}

impl Default for HubDecoder {
    fn default() -> Self {
        Self {
            mlp_dim: 2048,
            num_attention_heads: 8,
            iou_head_hidden_dim: 256,
            dynamic_multimask_via_stability: true,
            dynamic_multimask_stability_delta: 0.05,
            dynamic_multimask_stability_thresh: 0.98,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_hub_configuration_is_the_tiny_one() {
        for name in ["sam2", "sam2_video"] {
            let config = Config::from_hub_json(&format!(r#"{{"model_type": "{name}"}}"#)).unwrap();
            assert_eq!(config, Config::of_size(Size::Tiny));
        }
    }

    #[test]
    fn a_network_that_cannot_be_built_is_refused_with_the_reason() {
        for (json, reason) in [
            (r#"{"model_type": "sam"}"#, "not `sam2`"),
            (r#"{"vision_config": {}}"#, "model_type"),
            (
                r#"{"model_type": "sam2",
                    "vision_config": {"backbone_config": {"image_size": 1000000000}}}"#,
                "image_size",
            ),
            (
                r#"{"model_type": "sam2",
                    "vision_config": {"backbone_config": {"image_size": [1024, 512]}}}"#,
                "squares",
            ),
            (
                r#"{"model_type": "sam2", "vision_config": {"backbone_config":
                    {"blocks_per_stage": [18446744073709551615, 2, 7, 2]}}}"#,
                "blocks_per_stage",
            ),
            (r#"{"model_type": "sam2", "mask_decoder_config": {"mlp_dim": 0}}"#, "widths"),
            (r#"{"model_type": "sam2", "vision_config": {"fpn_top_down_levels": [3]}}"#, "[3]"),
            (
                r#"{"model_type": "sam2", "vision_config": {"backbone_config": {"image_size": 1000}}}"#,
                "multiple of 32",
            ),
            (
                r#"{"model_type": "sam2", "vision_config": {"backbone_config": {"mlp_ratio": 3}}}"#,
                "mlp_ratio",
            ),
            (
                r#"{"model_type": "sam2", "mask_decoder_config": {"num_hidden_layers": 3}}"#,
                "layers",
            ),
            (
                r#"{"model_type": "sam2",
                    "vision_config": {"backbone_config": {"embed_dim_per_stage": [96, 96, 96, 96]}}}"#,
                "doubling",
            ),
            (
                r#"{"model_type": "sam2",
                    "vision_config": {"backbone_config": {"global_attention_blocks": [3]}}}"#,
                "whole map",
            ),
            (
                r#"{"model_type": "sam2",
                    "vision_config": {"backbone_config": {"window_size_per_stage": [7, 4, 14, 7]}}}"#,
                "odd sides",
            ),
        ] {
            let error = Config::from_hub_json(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn every_published_size_can_be_built() {
        for size in Size::ALL {
            Config::of_size(size).check().unwrap();
        }
    }
}
