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

/// The turns of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turns {
    /// The standard in the system's turn, image and question in the user's.
    #[default]
    SystemAndUser,
    /// Everything in the user's turn, the image between standard and question: the authors'
    /// program.
    UserOnly,
}

/// The source of a rating's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LevelSource {
    /// The most probable of the K levels.
    #[default]
    Levels,
    /// The most probable token of the whole vocabulary, read as the authors' program does.
    Generated,
}

/// The surroundings that the model sees next to the crop of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropContext {
    /// None: one image in the prompt.
    #[default]
    None,
    /// The whole picture, as a second image in the prompt.
    Whole,
}

/// Settings of the ratings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatingSettings {
    /// Shows the model four to seven views of each crop, its enlarged parts and the whole, as the
    /// authors' program does. A rating then costs three to five times as much. By default the model
    /// reads only the whole crop; the paper mentions no views.
    pub cut: bool,
    /// The position of the image in the prompt: `first`, the model's usual order, or `last`, which
    /// leaves about ten tokens to compute for each crop instead of forty. The answers differ, so do
    /// not compare scores of the two.
    pub image: ImagePosition,
    /// The turns of the prompt: `system-and-user`, as in the paper, or `user-only`, as in the
    /// authors' program: one turn with the image between standard and question. It needs
    /// `image = "first"`.
    pub turns: Turns,
    /// Source of the level: `levels`, the most probable of 1 to K, or `generated`, as in the
    /// authors' program: the most probable token of the whole vocabulary, whose first character is
    /// the level if it is a digit, even 0 or one above K. Any other token is level 1, and the event
    /// names it.
    pub level: LevelSource,
    /// The image that the model sees next to the crop of an object: `none`, as in the paper, or
    /// `whole`, the whole image before the crop, in one prompt. A model that sees the object alone
    /// may take a smooth one for a blurred one. A rating of an object then reads about twenty more
    /// tokens of text and twice the tokens of images; the whole image is encoded once for all
    /// objects of a batch. It needs `turns = "system-and-user"` and `cut = false`. See
    /// `pipeline.crop_margin` for a crop with its nearest surroundings.
    pub crop_context: CropContext,
    /// Adds a second score, `direction`, to each rating, from a second pass of the language model:
    /// how far its next word points from bad to good quality.
    pub direction: bool,
    /// The words at the two ends of `direction`.
    pub poles: Poles,
}

impl RatingSettings {
    /// Checks that the settings agree.
    ///
    /// # Errors
    /// Returns the sentence to show, with the settings and the reason.
    pub fn check(&self) -> Result<(), String> {
        if self.turns == Turns::UserOnly && self.image == ImagePosition::Last {
            return Err("turns = \"user-only\" has the image between standard and question; it \
                        cannot have image = \"last\""
                .to_owned());
        }
        if self.crop_context == CropContext::Whole && (self.cut || self.turns == Turns::UserOnly) {
            return Err("crop_context = \"whole\" shows two uncut images in the user's turn; it \
                        needs cut = false and turns = \"system-and-user\""
                .to_owned());
        }
        Ok(())
    }
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
