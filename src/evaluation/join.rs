//! Joins labels and scores by the names of the images.

use crate::evaluation::error::EvaluationError;
use crate::evaluation::labels::Labels;
use crate::evaluation::name_matches::{JoinRule, match_names};
use crate::evaluation::scores::{Score, Scores};

/// The rule of a join, and the authors' habits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JoinOptions {
    /// The rule of the names.
    pub rule: JoinRule,
    /// Score of a label without a score. Without it, such a label is left out.
    pub missing: Option<f64>,
    /// True if pairs with a score of 0 are left out.
    pub drop_zero: bool,
}

/// Labels with their scores, and all that could not be joined.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Join {
    /// Position of each joined label in the labels.
    pub labels: Vec<usize>,
    /// People's score of each joined label.
    pub opinions: Vec<f64>,
    /// Our score of each joined label.
    pub scores: Vec<f64>,
    /// Position of each joined label's score in the scores; `None` for that of a missing one.
    pub positions: Vec<Option<usize>>,
    /// Names of labels without a score.
    pub without_score: Vec<String>,
    /// Names of scores without a label.
    pub without_label: Vec<String>,
    /// Names that several labels have. These labels are left out, unless the rule takes the last.
    pub repeated_labels: Vec<String>,
    /// Names of labels with several different scores. They are left out, unless the rule takes the
    /// last.
    pub contradictory: Vec<String>,
    /// Number of pairs that were left out because their score is 0.
    pub zeros: usize,
}

/// Joins labels and scores.
///
/// # Errors
/// Fails if no label has a score.
pub fn join(
    labels: &Labels,
    scores: &Scores,
    options: &JoinOptions,
) -> Result<Join, EvaluationError> {
    let names: Vec<&[String]> = scores.scores.iter().map(|score| &score.names[..]).collect();
    let matches = match_names(labels, &names, options.rule);
    let first_name = |position: &usize| names[*position].first().cloned().unwrap_or_default();
    let mut join = Join {
        without_label: matches.without_label.iter().map(first_name).collect(),
        repeated_labels: matches.repeated_labels,
        ..Join::default()
    };
    for (index, positions) in &matches.labels {
        let value = |position: usize| scores.scores[position].value;
        // A topic may repeat an event. Equal scores are one score.
        let is_contradictory =
            positions.windows(2).any(|pair| Some(value(pair[0])) != Some(value(pair[1])));
        let name = &labels.labels[*index].name;
        let position = match options.rule {
            JoinRule::Name => positions.first(),
            JoinRule::FirstDot => positions.last(),
        };
        if is_contradictory {
            join.contradictory.push(name.clone());
            if options.rule == JoinRule::Name {
                continue;
            }
        }
        if position.is_none() {
            join.without_score.push(name.clone());
        }
        if let Some(score) = position.map(|position| value(*position)).or(options.missing) {
            join.labels.push(*index);
            join.opinions.push(labels.labels[*index].opinion);
            join.scores.push(score);
            join.positions.push(position.copied());
        }
    }
    if options.drop_zero {
        join.drop_zeros();
    }
    if join.labels.is_empty() {
        let score = scores.scores.first().map_or("no score", Score::file_name);
        return Err(no_pairs(labels, scores.scores.len(), score));
    }
    Ok(join)
}

/// Reports labels and images that have no name in common. `first` is the file name of an image.
pub(crate) fn no_pairs(labels: &Labels, images: usize, first: &str) -> EvaluationError {
    let label = labels.labels.first().map_or("no label", |label| &label.name);
    EvaluationError::NoPairs {
        labels: labels.labels.len(),
        scores: images,
        hint: format!("the first label is for `{label}`, the first score for `{first}`"),
    }
}

impl Join {
    fn drop_zeros(&mut self) {
        let keep: Vec<bool> = self.scores.iter().map(|score| *score != 0.0).collect();
        self.zeros = keep.iter().filter(|keep| !**keep).count();
        retain(&mut self.labels, &keep);
        retain(&mut self.opinions, &keep);
        retain(&mut self.scores, &keep);
        retain(&mut self.positions, &keep);
    }
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    values.retain(|_| flags.next().copied().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::labels::{DataSet, Label};

    fn labels(names: &[(&str, f64)]) -> Labels {
        let label = |(name, opinion): &(&str, f64)| Label {
            name: (*name).to_owned(),
            opinion: *opinion,
            kind: None,
        };
        Labels { set: DataSet::Csv, labels: names.iter().map(label).collect() }
    }

    fn scores(names: &[(&str, f64)]) -> Scores {
        let score =
            |(name, value): &(&str, f64)| Score { names: vec![(*name).to_owned()], value: *value };
        Scores {
            origin: "test".to_owned(),
            scores: names.iter().map(score).collect(),
            without_value: 0,
        }
    }

    #[test]
    fn what_cannot_be_joined_is_listed_and_nothing_is_guessed() {
        let labels = labels(&[
            ("a.jpg", 1.0),
            ("b.jpg", 2.0),
            ("c.jpg", 3.0),
            ("c.jpg", 4.0),
            ("d.jpg", 5.0),
        ]);
        let scores = scores(&[
            ("s3://photos/2024/a.jpg", 10.0),
            ("s3://photos/2024/a.jpg", 10.0),
            ("xb.jpg", 20.0),
            ("c.jpg", 30.0),
            ("d.jpg", 40.0),
            ("d.jpg", 41.0),
        ]);
        let join = join(&labels, &scores, &JoinOptions::default()).unwrap();
        assert_eq!((join.labels, join.scores), (vec![0], vec![10.0]));
        assert_eq!(join.positions, [Some(0)]);
        assert_eq!(join.without_score, ["b.jpg"]);
        assert_eq!(join.without_label, ["xb.jpg"]);
        assert_eq!(join.repeated_labels, ["c.jpg"]);
        assert_eq!(join.contradictory, ["d.jpg"]);
    }

    #[test]
    fn lists_without_a_common_name_are_an_error_that_shows_two_names() {
        let error =
            join(&labels(&[("a.jpg", 1.0)]), &scores(&[("a.png", 1.0)]), &JoinOptions::default());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`a.jpg`") && text.contains("`a.png`"), "{text}");
    }
}
