//! The settings of each preset: a layer between the defaults and the file.

use crate::method::Preset;

/// The settings of the paper's best row. The paper does not state the parameters of its mask
/// generator.
const PAPER: &str = r#"
pipeline.crop = "bounding-box"
pipeline.crop_margin = 0.0
method.standard = { levels = 7, form = "word", wording = "paper" }
method.objects.when = "always"
method.aggregation = { weighting = "area", local_weight = 0.5, global_weight = 0.5, mask_bonus = "auto", c_max = 71 }
engine.dog_iqa.rating = { cut = false, image = "first", turns = "system-and-user", level = "levels", crop_context = "none" }
"#;

/// The same row without the rating of the whole image.
const BOXES: &str = "method.aggregation = { local_weight = 1.0, global_weight = 0.0 }";

/// The authors' program: `sjtuzzq/Dog-IQA`, commit `9eb4120`. `docs/reproduction.md` compares it
/// with the paper.
const RELEASE: &str = r#"
imaging = { orientation = "as-stored", colour = "as-stored", alpha = "dropped" }
pipeline.crop = "bounding-box"
pipeline.crop_margin = 0.0
method.standard = { levels = 7, form = "word", wording = "release" }
method.objects.when = "always"
method.aggregation = { weighting = "area", local_weight = 1.0, global_weight = 0.5, mask_bonus = 0.1 }

[method.regions]
area_min_fraction = 0.0
area_min_px = 1000
remainder = "arithmetic"
when_empty = "frame"
regions_max = 256
side_max = 0

[engine.dog_iqa]
segmenter = "sam2-large"
scorer = "mplug-owl3-7b-240728"
dtype = "f16"
segmenter_dtype = "f32"
rating = { cut = true, image = "first", turns = "user-only", level = "generated", crop_context = "none" }

[engine.dog_iqa.masks]
points_per_side = 8
points_per_batch = 128
pred_iou_thresh = 0.9
stability_score_thresh = 0.8
stability_score_offset = 0.7
mask_threshold = 0.0
box_nms_thresh = 0.9
crop_n_layers = 0
crop_n_points_downscale_factor = 1.2
min_mask_region_area = 1000
use_m2m = false
multimask_output = true
small_region_area = 0
masks_max = 0
"#;

/// Returns the preset as TOML layers; a later one overrides those before it.
pub(crate) fn layers(preset: Preset) -> Vec<&'static str> {
    match preset {
        Preset::Paper => vec![PAPER],
        Preset::PaperBoxes => vec![PAPER, BOXES],
        Preset::PaperNoSeg => vec![PAPER, BOXES, "method.aggregation.mask_bonus = 0.0"],
        Preset::PaperWhole => vec![PAPER, "method.objects.when = 'never'"],
        Preset::PaperMask => vec![PAPER, BOXES, "pipeline.crop = 'mask'"],
        Preset::PaperMean => vec![PAPER, BOXES, "method.aggregation.weighting = 'mean'"],
        Preset::PaperSentence => vec![PAPER, BOXES, "method.standard.form = 'sentence'"],
        Preset::PaperNumber => vec![PAPER, BOXES, "method.standard.form = 'number'"],
        Preset::Release => vec![RELEASE],
        Preset::ReleaseTables => vec![RELEASE, "method.aggregation.global_weight = 1.0"],
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::config::{load, preset_settings};
    use crate::engine::{Precision, Scorers};
    use crate::imaging::{AlphaRule, ColourRule, OrientationRule};
    use crate::method::Formula;
    use crate::models::sam2::amg::AmgPreset;

    #[test]
    fn every_preset_is_valid_and_a_flag_selects_it() {
        for preset in Preset::ALL {
            let flag = format!("method.preset={}", preset.name());
            let mut loaded = load(None, &[flag]).unwrap().settings;
            loaded.method.preset = None;
            assert_eq!(preset_settings(preset), loaded, "{}", preset.name());
        }
    }

    #[test]
    fn a_preset_states_itself_that_crops_show_no_surroundings() {
        for preset in Preset::ALL {
            let stated = layers(preset)
                .into_iter()
                .fold(Figment::new(), |stated, layer| stated.merge(Toml::string(layer)));
            let margin: f64 = stated.extract_inner("pipeline.crop_margin").unwrap();
            let context = "engine.dog_iqa.rating.crop_context";
            let context: String = stated.extract_inner(context).unwrap();
            assert_eq!((margin, context.as_str()), (0.0, "none"), "{}", preset.name());
        }
    }

    #[test]
    fn the_authors_presets_have_their_formula_and_their_mask_generator() {
        for (preset, formula) in
            [(Preset::Release, Formula::Release), (Preset::ReleaseTables, Formula::Tables)]
        {
            let flag = format!("method.preset={}", preset.name());
            let settings = load(None, &[flag]).unwrap().settings;
            assert_eq!(settings.method.aggregation.formula(), formula);
            assert_eq!(settings.engine.dog_iqa.masks, AmgPreset::Release.settings());
            let dog_iqa = &settings.engine.dog_iqa;
            assert_eq!(dog_iqa.segmenter, "sam2-large");
            assert_eq!(dog_iqa.scorer, Scorers::from("mplug-owl3-7b-240728"));
            assert_eq!(dog_iqa.dtype, Precision::F16);
            assert_eq!(dog_iqa.segmenter_dtype, Some(Precision::F32));
            let imaging = &settings.imaging;
            assert_eq!(imaging.orientation, OrientationRule::AsStored);
            assert_eq!((imaging.colour, imaging.alpha), (ColourRule::AsStored, AlphaRule::Dropped));
        }
    }
}
