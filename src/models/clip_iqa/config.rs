//! The shape of the network, read from the shapes of its tensors.
//!
//! Only the number of heads and the activation do not show in them. Every published CLIP has heads
//! of 64 values, and OpenAI's have the fast approximation of GELU. A configuration next to the
//! weights may say otherwise.

use std::collections::BTreeMap;

use candle_core::Shape;
use serde_json::Value;

/// Values of a head in every published network.
const HEAD_DIM: usize = 64;

/// The shape of a CLIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Values of a feature.
    pub embed_dim: usize,
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
}

/// The shape of the image tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisionConfig {
    /// A ResNet.
    ResNet(ResNetConfig),
    /// A ViT.
    Vit(VitConfig),
}

/// The shape of a ResNet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Channels after the stem.
    pub width: usize,
    /// Bottlenecks of each layer.
    pub layers: [usize; 4],
    /// Heads of the attention pool.
    pub heads: usize,
}

/// The shape of a ViT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VitConfig {
    /// Values of a token.
    pub width: usize,
    /// Values between the two layers of an MLP.
    pub inner: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Patches at a side.
    pub grid: usize,
}

impl VitConfig {
    /// Returns the number of tokens: one for each patch, and one for the class.
    pub fn tokens(&self) -> usize {
        self.grid * self.grid + 1
    }
}

/// The shape of the text tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextConfig {
    /// Values of a token.
    pub width: usize,
    /// Values between the two layers of an MLP.
    pub inner: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Largest number of tokens.
    pub context: usize,
    /// Rows of the table of tokens.
    pub vocabulary: usize,
}

/// The heads that a configuration next to the weights states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfigHints {
    text: StatedHeads,
    vision: StatedHeads,
}

/// The heads of a tower, as far as a configuration states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct StatedHeads {
    count: Option<usize>,
    /// Values of a head, if their number is not stated.
    head_dim: Option<usize>,
}

impl ConfigHints {
    /// Reads the configuration of a CLIP, of OpenCLIP or of the Hub. Returns no hints for the
    /// configuration of another program.
    ///
    /// # Errors
    /// Returns the sentence to show for a text that is not JSON, and for another activation.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let all: Value =
            serde_json::from_str(json).map_err(|error| format!("it is not JSON: {error}"))?;
        let config = all.get("model_cfg").unwrap_or(&all);
        let whole = |value: &Value| value.as_u64().and_then(|heads| usize::try_from(heads).ok());
        let number = |part: &str, name: &str| config.get(part)?.get(name).and_then(whole);
        let heads = |part, name| StatedHeads { count: number(part, name), head_dim: None };
        let activation = |found: &str| {
            Err(format!("its activation is {found}; CLIP-IQA knows CLIPs with `quick_gelu`"))
        };
        if config.get("text_cfg").is_some() {
            return match config.get("quick_gelu").and_then(Value::as_bool) {
                Some(true) => Ok(Self {
                    text: heads("text_cfg", "heads"),
                    // OpenCLIP states the values of a head; `visual_heads` is outside the towers.
                    vision: StatedHeads {
                        count: [config, &all]
                            .into_iter()
                            .find_map(|place| place.get("visual_heads").and_then(whole)),
                        head_dim: number("vision_cfg", "head_width"),
                    },
                }),
                _ => activation("not `quick_gelu`"),
            };
        }
        for part in ["text_config", "vision_config"] {
            let found = config.get(part).and_then(|part| part.get("hidden_act"));
            if let Some(other) = found.filter(|found| *found != "quick_gelu") {
                return activation(&other.to_string());
            }
        }
        Ok(Self {
            text: heads("text_config", "num_attention_heads"),
            vision: heads("vision_config", "num_attention_heads"),
        })
    }
}

/// The shapes of the tensors of a file by name.
struct Shapes<'a>(&'a BTreeMap<String, Shape>);

impl Shapes<'_> {
    /// Returns the dimensions of a tensor.
    fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N], String> {
        let shape = self.0.get(name).ok_or_else(|| format!("the tensor `{name}` is missing"))?;
        let dims: Option<[usize; N]> = shape.dims().try_into().ok();
        dims.filter(|dims| dims.iter().all(|size| *size > 0))
            .ok_or_else(|| format!("the tensor `{name}` has the shape {:?}", shape.dims()))
    }

    /// Counts consecutive names from 0.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..self.0.len()).take_while(|index| self.0.contains_key(&name(*index))).count()
    }
}

/// Returns the heads of a transformer of this width.
fn heads_of(width: usize, stated: StatedHeads) -> Result<usize, String> {
    let head_dim = stated.head_dim.unwrap_or(HEAD_DIM);
    let heads = match stated.count {
        Some(heads) => heads,
        None if head_dim > 0 && width.is_multiple_of(head_dim) => width / head_dim,
        None => {
            return Err(format!(
                "its tokens have {width} values, which are no whole heads of {head_dim}; a \
                 `config.json` next to it must state the number of heads"
            ));
        }
    };
    if heads > 0 && width.is_multiple_of(heads) {
        return Ok(heads);
    }
    Err(format!("tokens of {width} values cannot have {heads} heads"))
}

impl Config {
    /// Reads the shape of the network from those of its tensors, in the names of OpenCLIP if the
    /// image tower is a ResNet, and in those of the Hub if it is a ViT.
    ///
    /// # Errors
    /// Returns the sentence to show for a tensor that is missing or has an impossible shape.
    pub fn of_shapes(shapes: &BTreeMap<String, Shape>, hints: ConfigHints) -> Result<Self, String> {
        let shapes = Shapes(shapes);
        if shapes.0.contains_key("visual.attnpool.c_proj.weight") {
            Self::of_open_clip(&shapes, hints)
        } else {
            Self::of_hub(&shapes, hints)
        }
    }

    fn of_open_clip(shapes: &Shapes<'_>, hints: ConfigHints) -> Result<Self, String> {
        let [width, ..] = shapes.dims::<4>("visual.conv3.weight")?;
        let layers = [1, 2, 3, 4]
            .map(|layer| shapes.count(|block| format!("visual.layer{layer}.{block}.conv1.weight")));
        let [embed_dim, channels] = shapes.dims("visual.attnpool.c_proj.weight")?;
        if !width.is_multiple_of(2) || layers.contains(&0) || channels != 32 * width {
            return Err(format!(
                "a ResNet of {width} channels and {layers:?} bottlenecks before an attention pool \
                 of {channels} channels does not exist"
            ));
        }
        let [vocabulary, text_width] = shapes.dims("token_embedding.weight")?;
        let [context, _] = shapes.dims("positional_embedding")?;
        let block = |index: usize| format!("transformer.resblocks.{index}.mlp.c_fc.weight");
        let [inner, _] = shapes.dims(&block(0))?;
        Ok(Self {
            embed_dim,
            vision: VisionConfig::ResNet(ResNetConfig {
                width,
                layers,
                heads: heads_of(channels, hints.vision)?,
            }),
            text: TextConfig {
                width: text_width,
                inner,
                layers: shapes.count(block),
                heads: heads_of(text_width, hints.text)?,
                context,
                vocabulary,
            },
        })
    }

    fn of_hub(shapes: &Shapes<'_>, hints: ConfigHints) -> Result<Self, String> {
        let embeddings = "vision_model.embeddings";
        let [width, _, patch, _] = shapes.dims(&format!("{embeddings}.patch_embedding.weight"))?;
        let [positions, _] = shapes.dims(&format!("{embeddings}.position_embedding.weight"))?;
        let grid = (positions - 1).isqrt();
        if grid == 0 || grid * grid != positions - 1 {
            return Err(format!("{positions} positions are not those of a class and a square"));
        }
        let [embed_dim, _] = shapes.dims("visual_projection.weight")?;
        let table = |name: &str| shapes.dims(&format!("text_model.embeddings.{name}.weight"));
        let [vocabulary, text_width] = table("token_embedding")?;
        let [context, _] = table("position_embedding")?;
        let block =
            |model: &str, index: usize| format!("{model}.encoder.layers.{index}.mlp.fc1.weight");
        let [inner, _] = shapes.dims(&block("vision_model", 0))?;
        let [text_inner, _] = shapes.dims(&block("text_model", 0))?;
        Ok(Self {
            embed_dim,
            vision: VisionConfig::Vit(VitConfig {
                width,
                inner,
                layers: shapes.count(|index| block("vision_model", index)),
                heads: heads_of(width, hints.vision)?,
                patch,
                grid,
            }),
            text: TextConfig {
                width: text_width,
                inner: text_inner,
                layers: shapes.count(|index| block("text_model", index)),
                heads: heads_of(text_width, hints.text)?,
                context,
                vocabulary,
            },
        })
    }

    /// Returns the short name of a published network, or `custom`.
    pub fn name(&self) -> &'static str {
        match &self.vision {
            VisionConfig::ResNet(ResNetConfig { width: 64, layers: [3, 4, 6, 3], .. })
                if self.embed_dim == 1024 =>
            {
                "rn50"
            }
            VisionConfig::Vit(VitConfig { width: 768, layers: 12, patch: 32, grid: 7, .. }) => {
                "vit-b-32"
            }
            VisionConfig::Vit(VitConfig {
                width: 768, layers: 12, patch: 16, grid: 14, ..
            }) => "vit-b-16",
            VisionConfig::Vit(VitConfig {
                width: 1024, layers: 24, patch: 14, grid: 16, ..
            }) => "vit-l-14",
            VisionConfig::ResNet(_) | VisionConfig::Vit(_) => "custom",
        }
    }

    /// Returns the memory of one image in `f32` for each pixel of the largest one, in bytes, or 0
    /// if images have one size.
    pub fn bytes_per_pixel(&self) -> u64 {
        match &self.vision {
            VisionConfig::ResNet(ResNetConfig { width, .. }) => 4 * *width as u64,
            VisionConfig::Vit(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_states_heads_and_an_activation() {
        let hints = |json: &str| ConfigHints::from_json(json);
        let nested = r#"{"model_cfg": {"quick_gelu": true, "text_cfg": {"heads": 8}}}"#;
        assert_eq!(hints(nested).unwrap().text.count, Some(8));
        let hub = r#"{"text_config": {"num_attention_heads": 12, "hidden_act": "quick_gelu"},
                      "vision_config": {"num_attention_heads": 16}}"#;
        let found = hints(hub).unwrap();
        assert_eq!((found.text.count, found.vision.count), (Some(12), Some(16)));
        let other = r#"{"architecture": "resnet50_clip", "num_classes": 1024}"#;
        assert_eq!(hints(other), Ok(ConfigHints::default()));
        assert_eq!(hints("[3]"), Ok(ConfigHints::default()));
        for bad in [
            "{",
            r#"{"text_cfg": {"heads": 8}}"#,
            r#"{"text_cfg": {}, "quick_gelu": false}"#,
            r#"{"vision_config": {"hidden_act": "gelu"}}"#,
        ] {
            assert!(hints(bad).is_err(), "{bad}");
        }
    }

    fn shapes(all: &[(&str, &[usize])]) -> BTreeMap<String, Shape> {
        all.iter().map(|(name, dims)| ((*name).to_owned(), Shape::from(*dims))).collect()
    }

    #[test]
    fn published_networks_are_recognised_by_their_shapes() {
        let mut all = shapes(&[
            ("visual.conv3.weight", &[64, 32, 3, 3]),
            ("visual.attnpool.c_proj.weight", &[1024, 2048]),
            ("token_embedding.weight", &[49_408, 512]),
            ("positional_embedding", &[77, 512]),
            ("transformer.resblocks.0.mlp.c_fc.weight", &[2048, 512]),
        ]);
        for (layer, count) in (1..).zip([3, 4, 6, 3]) {
            for block in 0..count {
                let name = format!("visual.layer{layer}.{block}.conv1.weight");
                all.insert(name, Shape::from(1));
            }
        }
        let found = Config::of_shapes(&all, ConfigHints::default()).unwrap();
        assert_eq!((found.name(), found.text.heads, found.bytes_per_pixel()), ("rn50", 8, 256));
        let VisionConfig::ResNet(vision) = found.vision else { panic!("{found:?}") };
        assert_eq!((vision.heads, vision.layers), (32, [3, 4, 6, 3]));
        for (name, [width, layers, patch, positions, text, projection]) in [
            ("vit-b-32", [768, 12, 32, 50, 512, 512]),
            ("vit-b-16", [768, 12, 16, 197, 512, 512]),
            ("vit-l-14", [1024, 24, 14, 257, 768, 768]),
        ] {
            let embeddings = "vision_model.embeddings";
            let mut all = shapes(&[
                (&format!("{embeddings}.patch_embedding.weight"), &[width, 3, patch, patch]),
                (&format!("{embeddings}.position_embedding.weight"), &[positions, width]),
                ("visual_projection.weight", &[projection, width]),
                ("text_model.embeddings.token_embedding.weight", &[49_408, text]),
                ("text_model.embeddings.position_embedding.weight", &[77, text]),
                ("text_model.encoder.layers.0.mlp.fc1.weight", &[4 * text, text]),
            ]);
            for layer in 0..layers {
                let name = format!("vision_model.encoder.layers.{layer}.mlp.fc1.weight");
                all.insert(name, Shape::from((4 * width, width)));
            }
            let found = Config::of_shapes(&all, ConfigHints::default()).unwrap();
            assert_eq!((found.name(), found.text.heads), (name, text / 64));
            let VisionConfig::Vit(vision) = found.vision else { panic!("{found:?}") };
            assert_eq!((vision.heads, vision.tokens()), (width / 64, positions));
            assert_eq!((vision.patch * vision.grid, vision.layers), (224, layers));
        }
    }

    #[test]
    fn heads_are_those_that_are_stated_or_of_64_values() {
        let stated = |count, head_dim| StatedHeads { count, head_dim };
        for (width, stated, heads) in [
            (512, stated(None, None), 8),
            (512, stated(None, Some(32)), 16),
            (512, stated(Some(4), Some(32)), 4),
            (16, stated(Some(2), None), 2),
        ] {
            assert_eq!(heads_of(width, stated), Ok(heads));
        }
        for (width, stated) in [
            (16, stated(None, None)),
            (16, stated(Some(3), None)),
            (16, stated(Some(0), None)),
            (0, stated(None, None)),
            (64, stated(None, Some(0))),
            (64, stated(None, Some(48))),
        ] {
            assert!(heads_of(width, stated).is_err(), "{width}, {stated:?}");
        }
    }

    #[test]
    fn an_open_clip_configuration_states_the_heads_of_the_image_tower() {
        let heads = |json: &str| heads_of(2048, ConfigHints::from_json(json).unwrap().vision);
        let plain = r#"{"quick_gelu": true, "text_cfg": {}, "vision_cfg": {"head_width": 128}}"#;
        assert_eq!(heads(plain), Ok(16));
        let outside = r#"{"model_cfg": {"quick_gelu": true, "text_cfg": {}}, "visual_heads": 8}"#;
        assert_eq!(heads(outside), Ok(8));
        let within = r#"{"quick_gelu": true, "text_cfg": {}, "visual_heads": 4}"#;
        assert_eq!(heads(within), Ok(4));
        assert_eq!(heads(r#"{"quick_gelu": true, "text_cfg": {}}"#), Ok(32));
    }
}
