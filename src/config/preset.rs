//! What a preset sets: a layer between the defaults and the file.

use crate::method::Preset;

/// All that the paper's best row fixes, as far as it is public: the mask generator's parameters are not.
const PAPER: &str = r#"
pipeline.crop = "bounding-box"
method.standard = { levels = 7, form = "word" }
method.objects.when = "always"
method.aggregation = { weighting = "area", global = true, segmentation_score = true, c_max = 71 }
engine.dog_iqa.rating = { cut = false, image = "first" }
"#;

/// The preset's settings as TOML: the best row's, and over them what is different in its own.
pub(super) fn layers(preset: Preset) -> [&'static str; 2] {
    let own = match preset {
        Preset::Paper => "",
        Preset::PaperBoxes => "method.aggregation.global = false",
        Preset::PaperNoSeg => "method.aggregation = { global = false, segmentation_score = false }",
        Preset::PaperWhole => "method.objects.when = 'never'",
        Preset::PaperMask => "pipeline.crop = 'mask'\nmethod.aggregation.global = false",
        Preset::PaperMean => "method.aggregation = { weighting = 'mean', global = false }",
        Preset::PaperSentence => {
            "method.standard.form = 'sentence'\nmethod.aggregation.global = false"
        }
        Preset::PaperNumber => "method.standard.form = 'number'\nmethod.aggregation.global = false",
    };
    [PAPER, own]
}
