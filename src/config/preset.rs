//! The settings of each preset: a layer between the defaults and the file.

use crate::method::Preset;

/// The published settings of the paper's best row. The mask generator's parameters are not
/// published.
const PAPER: &str = r#"
pipeline.crop = "bounding-box"
method.standard = { levels = 7, form = "word" }
method.objects.when = "always"
method.aggregation = { weighting = "area", global = true, segmentation_score = true, c_max = 71 }
engine.dog_iqa.rating = { cut = false, image = "first" }
"#;

/// Returns the preset as two TOML layers: the best row, and the differences from it.
pub(crate) fn layers(preset: Preset) -> [&'static str; 2] {
    let differences = match preset {
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
    [PAPER, differences]
}
