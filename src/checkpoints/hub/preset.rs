//! The models that have a name here.

/// A published checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPreset {
    /// Its name, which is also that of the model in events.
    pub name: &'static str,
    /// A shorter name, if it has one.
    pub alias: Option<&'static str>,
    /// Its repository on the Hub.
    pub repo: &'static str,
    /// What is fetched, about, in bytes.
    pub bytes: u64,
    /// The licence of the weights, as an SPDX identifier.
    pub licence: &'static str,
}

/// Models that make an engine together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelBundle {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The segmenter's preset, and the scorer's.
    pub models: [&'static str; 2],
}

/// Sizes of the segmenters are those of their published `.pt` files (the 2.0's as the 2.1's, which differ by
/// less than they are rounded to); those of the scorers their published `.safetensors`.
pub const PRESETS: [ModelPreset; 12] = [
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
];

/// Pairs to begin with.
pub const BUNDLES: [ModelBundle; 2] = [
    ModelBundle {
        name: "laptop",
        purpose: "runs on a processor with 8 GiB",
        models: ["sam2.1-tiny", "mplug-owl3-1b-241014"],
    },
    ModelBundle {
        name: "production",
        purpose: "the largest of both; wants a GPU with 32 GiB",
        models: ["sam2.1-large", "mplug-owl3-7b-241101"],
    },
];

impl ModelPreset {
    /// The preset of this name or alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name || preset.alias == Some(name))
    }
}

impl ModelBundle {
    /// The bundle of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BUNDLES.iter().find(|bundle| bundle.name == name)
    }
}

const fn sam2(name: &'static str, repo: &'static str, megabytes: u64) -> ModelPreset {
    ModelPreset { name, alias: None, repo, bytes: megabytes * 1_000_000, licence: "Apache-2.0" }
}

const fn owl(
    name: &'static str,
    alias: Option<&'static str>,
    repo: &'static str,
    megabytes: u64,
) -> ModelPreset {
    ModelPreset { name, alias, repo, bytes: megabytes * 1_000_000, licence: "Apache-2.0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Sam2Version;
    use crate::models::mplug_owl3::Release;
    use crate::models::sam2::Size;

    #[test]
    fn every_published_network_has_a_preset_under_its_own_name() {
        let mut names: Vec<String> =
            Release::ALL.iter().map(|release| format!("mplug-owl3-{}", release.name())).collect();
        for version in [Sam2Version::V2_0, Sam2Version::V2_1] {
            let sizes = Size::ALL.iter();
            names.extend(sizes.map(|size| format!("sam{}-{}", version.name(), size.name())));
        }
        names.sort();
        let mut presets: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        presets.sort_unstable();
        assert_eq!(presets, names);
        for bundle in BUNDLES {
            assert!(bundle.models.iter().all(|model| ModelPreset::find(model).is_some()));
        }
    }
}
