//! The published models that have a short name.

/// Licence of most weights.
const APACHE: &str = "Apache-2.0";

/// A published checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPreset {
    /// The short name, which is also the model's name in events.
    pub name: &'static str,
    /// An even shorter name.
    pub alias: Option<&'static str>,
    /// The repository on the Hub.
    pub repo: &'static str,
    /// Approximate size of the download in bytes, if a source states it.
    pub bytes: Option<u64>,
    /// The licence of the weights, as an SPDX identifier.
    pub licence: &'static str,
}

/// The two models of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelBundle {
    /// The name.
    pub name: &'static str,
    /// Hardware that it is meant for.
    pub purpose: &'static str,
    /// The presets of the segmenter and the scorer.
    pub models: [&'static str; 2],
}

/// All presets. Sizes of segmenters are those of the published `.pt` files of SAM 2.1; after
/// rounding, those of 2.0 are equal. Sizes of scorers are those of the published `.safetensors`
/// files. Those of plain Qwen3.5, which was not trained to rate, are not known.
pub const PRESETS: [ModelPreset; 23] = [
    sam2("sam2.1-tiny", "facebook/sam2.1-hiera-tiny", 156),
    sam2("sam2.1-small", "facebook/sam2.1-hiera-small", 184),
    sam2("sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus", 324),
    sam2("sam2.1-large", "facebook/sam2.1-hiera-large", 898),
    sam2("sam2-tiny", "facebook/sam2-hiera-tiny", 156),
    sam2("sam2-small", "facebook/sam2-hiera-small", 184),
    sam2("sam2-base-plus", "facebook/sam2-hiera-base-plus", 324),
    sam2("sam2-large", "facebook/sam2-hiera-large", 898),
    owl("mplug-owl3-7b-241101", None, "mPLUG/mPLUG-Owl3-7B-241101", 16_100),
    owl("mplug-owl3-7b-240728", None, "mPLUG/mPLUG-Owl3-7B-240728", 16_100),
    owl("mplug-owl3-2b-241014", Some("mplug-owl3-2b"), "mPLUG/mPLUG-Owl3-2B-241014", 3_950),
    owl("mplug-owl3-1b-241014", Some("mplug-owl3-1b"), "mPLUG/mPLUG-Owl3-1B-241014", 1_850),
    q_realign("q-realign-0.8b", "q-future/Q-ReAlign-Mini-0.8B", 2_210),
    q_realign("q-realign-4b", "q-future/Q-ReAlign-Lite-4B", 10_350),
    q_realign("q-realign-9b", "q-future/Q-ReAlign-Pro-9B", 18_820),
    base("qwen3.5-0.8b", "Qwen/Qwen3.5-0.8B"),
    base("qwen3.5-2b", "Qwen/Qwen3.5-2B"),
    base("qwen3.5-4b", "Qwen/Qwen3.5-4B"),
    base("qwen3.5-9b", "Qwen/Qwen3.5-9B"),
    clip("clip-iqa-rn50", Some("clip-iqa"), "timm/resnet50_clip.openai", 408),
    clip("clip-iqa-vit-b-32", None, "openai/clip-vit-base-patch32", 605),
    clip("clip-iqa-vit-b-16", None, "openai/clip-vit-base-patch16", 599),
    clip("clip-iqa-vit-l-14", None, "openai/clip-vit-large-patch14", 1_710),
];

/// All bundles.
pub const BUNDLES: [ModelBundle; 3] = [
    ModelBundle {
        name: "laptop",
        purpose: "runs on a CPU with 8 GiB of memory; the code of its scorer's generation is not \
                  public, so nothing confirms our port",
        models: ["sam2.1-tiny", "mplug-owl3-1b-241014"],
    },
    ModelBundle {
        name: "paper",
        purpose: "the networks of the authors' program (preset `release`), to which the paper's \
                  figures very likely belong; needs a GPU with 32 GiB",
        models: ["sam2-large", "mplug-owl3-7b-240728"],
    },
    ModelBundle {
        name: "production",
        purpose: "the largest of both; needs a GPU with 32 GiB",
        models: ["sam2.1-large", "mplug-owl3-7b-241101"],
    },
];

/// Returns the preset or bundle whose name is closest to a misspelt one, or `None` if all of them
/// differ in more than a third of the letters.
pub(crate) fn nearest_name(text: &str) -> Option<&'static str> {
    let presets = PRESETS.into_iter().flat_map(|preset| [Some(preset.name), preset.alias]);
    let names = presets.flatten().chain(BUNDLES.into_iter().map(|bundle| bundle.name));
    let distances = names.map(|name| (strsim::osa_distance(name, text), name));
    let (_, name) = distances.filter(|(distance, _)| *distance <= text.len() / 3).min()?;
    Some(name)
}

impl ModelPreset {
    /// Returns the preset of this name or alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name || preset.alias == Some(name))
    }
}

impl ModelBundle {
    /// Returns the bundle of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BUNDLES.iter().find(|bundle| bundle.name == name)
    }

    /// Returns the names of a bundle's models, or the name itself if it is not a bundle.
    pub fn expand(name: &str) -> Vec<String> {
        let bundle = Self::find(name).map(|bundle| bundle.models.map(str::to_owned).to_vec());
        bundle.unwrap_or_else(|| vec![name.to_owned()])
    }
}

const fn sam2(name: &'static str, repo: &'static str, megabytes: u64) -> ModelPreset {
    published(name, None, repo, megabytes, APACHE)
}

const fn owl(
    name: &'static str,
    alias: Option<&'static str>,
    repo: &'static str,
    megabytes: u64,
) -> ModelPreset {
    published(name, alias, repo, megabytes, APACHE)
}

const fn q_realign(name: &'static str, repo: &'static str, megabytes: u64) -> ModelPreset {
    published(name, None, repo, megabytes, APACHE)
}

const fn base(name: &'static str, repo: &'static str) -> ModelPreset {
    ModelPreset { name, alias: None, repo, bytes: None, licence: APACHE }
}

const fn clip(
    name: &'static str,
    alias: Option<&'static str>,
    repo: &'static str,
    megabytes: u64,
) -> ModelPreset {
    published(name, alias, repo, megabytes, "MIT")
}

const fn published(
    name: &'static str,
    alias: Option<&'static str>,
    repo: &'static str,
    megabytes: u64,
    licence: &'static str,
) -> ModelPreset {
    ModelPreset { name, alias, repo, bytes: Some(megabytes * 1_000_000), licence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Sam2Version;
    use crate::models::mplug_owl3::Release;
    use crate::models::qwen3_5_vl;
    use crate::models::sam2::Size;

    #[test]
    fn every_published_network_has_a_preset_of_its_name() {
        let mut names: Vec<String> =
            Release::ALL.iter().map(|release| format!("mplug-owl3-{}", release.name())).collect();
        for version in [Sam2Version::V2_0, Sam2Version::V2_1] {
            let sizes = Size::ALL.iter();
            names.extend(sizes.map(|size| format!("sam{}-{}", version.name(), size.name())));
        }
        let tuned = [qwen3_5_vl::Size::B0_8, qwen3_5_vl::Size::B4, qwen3_5_vl::Size::B9];
        names.extend(tuned.map(|size| format!("q-realign-{}", size.name())));
        let bases = qwen3_5_vl::Size::ALL.iter();
        names.extend(bases.map(|size| format!("qwen3.5-{}", size.name())));
        // `clip_iqa::Config::name` has these names.
        names.extend(["rn50", "vit-b-32", "vit-b-16", "vit-l-14"].map(|n| format!("clip-iqa-{n}")));
        names.sort();
        let mut presets: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        presets.sort_unstable();
        assert_eq!(presets, names);
        for bundle in BUNDLES {
            assert!(bundle.models.iter().all(|model| ModelPreset::find(model).is_some()));
        }
    }

    #[test]
    fn a_misspelt_name_has_a_nearest_one() {
        for (text, nearest) in [
            ("sam2.1-tin", Some("sam2.1-tiny")),
            ("sam2.1_large", Some("sam2.1-large")),
            ("lapotp", Some("laptop")),
            ("mplug-owl-1b", Some("mplug-owl3-1b")),
            ("qwen3-5-2b", Some("qwen3.5-2b")),
            ("sam3", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(nearest_name(text), nearest, "{text}");
        }
    }
}
