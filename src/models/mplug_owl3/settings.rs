//! How the model is asked for ratings.

use serde::{Deserialize, Serialize};

/// Where the image stands in the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePlace {
    /// Before it, as the model is used to.
    #[default]
    First,
    /// After it: nearly the whole prompt is then the same for all images, and computed once.
    Last,
}

/// Settings of the ratings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatingSettings {
    /// Whether the model looks at four to seven views of a crop, cut out of it and enlarged, instead of
    /// the whole alone. The paper does not; it costs as many times more.
    pub cut: bool,
    /// Where the image stands in the question: `first`, as the model is used to, or `last`, which leaves
    /// about ten tokens to compute for a crop instead of forty. It is another question, with other answers.
    pub image: ImagePlace,
    /// Whether each rating gets a second opinion, `direction`, from a second pass of the language model:
    /// how far its next words point from bad to good quality.
    pub direction: bool,
    /// The words of that direction.
    pub poles: Poles,
}

/// Words for the two ends of a direction. A word of several tokens counts with each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Poles {
    /// For good quality.
    pub good: Vec<String>,
    /// For bad quality.
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
