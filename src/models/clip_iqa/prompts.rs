//! The pairs of opposite prompts, with their tokens.
//!
//! The prompts are fixed, and so is CLIP's vocabulary. So the tokens are here, and no file of a
//! tokenizer is needed that could only disagree.

use serde::{Deserialize, Serialize};

/// The token that begins a text.
const START: u32 = 49_406;
/// The token that ends a text. The text's feature is that of this token.
const END: u32 = 49_407;

/// The sets of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// The paper's pair.
    #[default]
    Paper,
    /// The five pairs of IQA-PyTorch.
    IqaPytorch,
}

/// A prompt: its text, and the tokens between the first and the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompt {
    /// The text.
    pub text: &'static str,
    words: &'static [u32],
}

impl Prompt {
    /// Returns all tokens, from the one that begins a text to the one that ends it.
    pub fn tokens(&self) -> Vec<u32> {
        [&[START], self.words, &[END]].concat()
    }

    /// Returns the number of rows that the network's table of tokens needs for any prompt.
    pub const fn vocabulary() -> usize {
        END as usize + 1
    }
}

/// The paper's pair, the better prompt first.
const PAPER: [[Prompt; 2]; 1] =
    [[prompt("Good photo.", &[886, 1_125, 269]), prompt("Bad photo.", &[2_103, 1_125, 269])]];

/// The five pairs of IQA-PyTorch, the better prompt first.
const IQA_PYTORCH: [[Prompt; 2]; 5] = [
    [prompt("Good image", &[886, 2_867]), prompt("bad image", &[2_103, 2_867])],
    [prompt("Sharp image", &[8_157, 2_867]), prompt("blurry image", &[21_977, 2_867])],
    [prompt("sharp edges", &[8_157, 20_938]), prompt("blurry edges", &[21_977, 20_938])],
    [
        prompt("High resolution image", &[1_400, 9_977, 2_867]),
        prompt("low resolution image", &[1_042, 9_977, 2_867]),
    ],
    [
        prompt("Noise-free image", &[9_307, 268, 1_139, 2_867]),
        prompt("noisy image", &[33_495, 2_867]),
    ],
];

/// Further properties of the paper, each with the prompt for it and the opposite one.
pub const ATTRIBUTES: [(&str, [Prompt; 2]); 4] = [
    (
        "bright",
        [
            prompt("Bright photo.", &[4_852, 1_125, 269]),
            prompt("Dark photo.", &[3_144, 1_125, 269]),
        ],
    ),
    (
        "sharp",
        [
            prompt("Sharp photo.", &[8_157, 1_125, 269]),
            prompt("Blurry photo.", &[21_977, 1_125, 269]),
        ],
    ),
    (
        "clean",
        [
            prompt("Clean photo.", &[3_772, 1_125, 269]),
            prompt("Noisy photo.", &[33_495, 1_125, 269]),
        ],
    ),
    (
        "colourful",
        [
            prompt("Colorful photo.", &[11_444, 1_125, 269]),
            prompt("Dull photo.", &[19_433, 1_125, 269]),
        ],
    ),
];

const fn prompt(text: &'static str, words: &'static [u32]) -> Prompt {
    Prompt { text, words }
}

impl Pairs {
    /// Returns the pairs, the better prompt of each first.
    pub fn prompts(self) -> &'static [[Prompt; 2]] {
        match self {
            Self::Paper => &PAPER,
            Self::IqaPytorch => &IQA_PYTORCH,
        }
    }

    /// Returns the name of the mapping from the pairs' probabilities to levels, for events.
    pub fn mapping(self) -> &'static str {
        match self {
            Self::Paper => "clip-paper-pair-linear",
            Self::IqaPytorch => "clip-iqa-pytorch-pairs-linear",
        }
    }
}
