//! A rating in a quality event, and the answer of which its level is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::{AnswerKind, FurtherRating, GeneratedAnswer, LevelDistribution, Standard};

/// A scorer's rating of the whole image or of one region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rating {
    /// The most probable level, 1 to K. With `answer`, the level that the answer names, 0 to 9.
    #[schemars(range(min = 0, max = 9))]
    pub level: u8,
    /// The standard's word for the level, or for the nearest one.
    pub word: String,
    /// Mean of the levels, 1 to K.
    #[schemars(range(min = 1, max = 9))]
    pub expected: f64,
    /// Probability of the level; 0 if an answer is none of the levels.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// Probability of each level from 1 to K; they sum to 1.
    #[schemars(length(min = 2, max = 9), inner(range(min = 0, max = 1)))]
    pub probabilities: Vec<f64>,
    /// Share of the model's probability that is on no level, if the scorer knows it. Near 1, the
    /// model does not answer the question, and the other numbers mean little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub off_level: Option<f64>,
    /// Share of the model's probability on tokens that a scoring server did not report: it lists
    /// only the most probable ones. A level of probability 0 may have some of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub unreported: Option<f64>,
    /// True if the scoring server reports no probabilities. `level` then has the probability 1, and
    /// `expected`, `confidence` and `probabilities` say no more than `level`. In a rating by
    /// several scorers, this holds for the server's share only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub level_only: bool,
    /// The generated answer. Present only if the level is that of an answer
    /// (`engine.dog_iqa.rating.level = "generated"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<EventAnswer>,
    /// A second score, if the scorer is configured to compute it: how far its next-token logits
    /// point from words for bad to words for good quality. Larger is better. The scale depends on
    /// the model, so it ranks images and is not a level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<f64>,
    /// The scorer's own score, on the scale of its authors, if its levels are derived from one: 0
    /// to 1 for Q-ReAlign and CLIP-IQA. Larger is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<f64>,
    /// Name of the mapping from the scorer's answers to levels. Present with `raw`.
    /// `five-words-linear`: bad, poor, fair, good and excellent are spread evenly over 1 to K, each
    /// shared by the nearest levels. `clip-paper-pair-linear` and `clip-iqa-pytorch-pairs-linear`:
    /// the probability of each pair's better prompt has its place among the levels in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
    /// The scorer's answers to further questions about the same pixels
    /// (`engine.dog_iqa.q_realign.question` with two). They do not affect the score. Absent if it
    /// is asked one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<EventFurtherRating>,
    /// Probabilities of properties against their opposites, by name
    /// (`engine.dog_iqa.clip_iqa.attributes`): `bright` (not dark), `sharp` (not blurry), `clean`
    /// (not noisy), `colourful` (not dull). They do not affect the score. Absent without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("additionalProperties" = {"type": "number", "minimum": 0, "maximum": 1}))]
    pub attributes: BTreeMap<String, f64>,
}

/// A scorer's answer to another question than that of the score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventFurtherRating {
    /// The question: `quality` or `aesthetics`.
    pub question: String,
    /// The most probable level, 1 to K.
    #[schemars(range(min = 1, max = 9))]
    pub level: u8,
    /// Mean of the levels, 1 to K.
    #[schemars(range(min = 1, max = 9))]
    pub expected: f64,
    /// Probability of each level from 1 to K; they sum to 1.
    #[schemars(length(min = 2, max = 9), inner(range(min = 0, max = 1)))]
    pub probabilities: Vec<f64>,
    /// The scorer's own score, as in the rating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<f64>,
}

/// The first token of a generated answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventAnswer {
    /// The text, without special tokens.
    pub text: String,
    /// `number`: its first character is the level. `not-a-number`: level 1. `empty`: level 1, where
    /// the authors' program stops.
    pub kind: AnswerKind,
}

impl Rating {
    /// Converts a distribution, with the standard's word for its level.
    pub fn new(distribution: &LevelDistribution, standard: &Standard) -> Self {
        let level = distribution.level();
        Self {
            level,
            word: standard.word(level).to_owned(),
            expected: distribution.expected(),
            confidence: distribution.confidence(),
            probabilities: distribution.probabilities().to_vec(),
            off_level: distribution.off_level(),
            unreported: distribution.served().and_then(|served| served.unreported),
            level_only: distribution.served().is_some_and(|served| served.unreported.is_none()),
            answer: distribution.answer().map(EventAnswer::from),
            direction: distribution.direction(),
            raw: distribution.raw().map(|raw| raw.value),
            mapping: distribution.raw().map(|raw| raw.mapping.to_owned()),
            further: distribution.further().iter().map(EventFurtherRating::from).collect(),
            attributes: distribution
                .attributes()
                .iter()
                .map(|attribute| (attribute.name.to_owned(), attribute.probability))
                .collect(),
        }
    }
}

impl From<&FurtherRating> for EventFurtherRating {
    fn from(further: &FurtherRating) -> Self {
        let FurtherRating { question, rating } = further;
        Self {
            question: (*question).to_owned(),
            level: rating.level(),
            expected: rating.expected(),
            probabilities: rating.probabilities().to_vec(),
            raw: rating.raw().map(|raw| raw.value),
        }
    }
}

impl From<&GeneratedAnswer> for EventAnswer {
    fn from(answer: &GeneratedAnswer) -> Self {
        Self { text: answer.text().to_owned(), kind: answer.kind() }
    }
}
