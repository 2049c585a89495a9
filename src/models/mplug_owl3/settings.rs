//! Settings of the ratings.

use serde::{Deserialize, Serialize};

/// The position of the image in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePosition {
    /// Before the question, the model's usual order.
    #[default]
    First,
    /// After the question. Nearly the whole prompt is then the same for all images, and computed
    /// once.
    Last,
}

/// Settings of the ratings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatingSettings {
    /// Shows the model four to seven views of each crop: its enlarged parts and the whole. Costs
    /// four to seven times as much. By default the model reads only the whole crop, as in the
    /// paper.
    pub cut: bool,
    /// The position of the image in the prompt: `first`, the model's usual order, or `last`, which
    /// leaves about ten tokens to compute for each crop instead of forty. The answers differ, so do
    /// not compare scores of the two.
    pub image: ImagePosition,
    /// Adds a second score, `direction`, to each rating, from a second pass of the language model:
    /// how far its next word points from bad to good quality.
    pub direction: bool,
    /// The words at the two ends of `direction`.
    pub poles: Poles,
}

/// Words for the two ends of a direction. Every token of a word counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Poles {
    /// Words for good quality.
    pub good: Vec<String>,
    /// Words for bad quality.
    pub bad: Vec<String>,
}

impl Default for Poles {
    fn default() -> Self {
        let words = |list: &str| list.split(' ').map(str::to_owned).collect();
        Self {
            good: words(
                "perfect excellent outstanding superb great good fine sharp clear crisp detailed \
                 vivid bright rich clean natural beautiful stunning",
            ),
            bad: words(
                "bad terrible awful poor horrible blurry unclear noisy grainy distorted dark dull \
                 faded washed unacceptable disappointing low weak",
            ),
        }
    }
}
