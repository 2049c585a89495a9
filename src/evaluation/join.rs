//! Joins labels and scores by the names of the images.

use std::collections::{HashMap, HashSet};

use crate::evaluation::error::EvaluationError;
use crate::evaluation::labels::{Label, Labels};
use crate::evaluation::scores::{Score, Scores, last_segment};

/// The rule by which two names are those of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum JoinRule {
    /// The score's path ends with the label's whole name
    #[default]
    Name,
    /// The file names are equal up to their first dot, and of equal ones the last counts, as in the
    /// authors' program
    FirstDot,
}

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
    let mut join = match options.rule {
        JoinRule::Name => by_name(&labels.labels, &scores.scores, options),
        JoinRule::FirstDot => by_first_dot(&labels.labels, &scores.scores, options),
    };
    if options.drop_zero {
        join.drop_zeros();
    }
    if join.labels.is_empty() {
        let label = labels.labels.first().map_or("no label", |label| &label.name);
        let score = scores.scores.first().map_or("no score", Score::file_name);
        return Err(EvaluationError::NoPairs {
            labels: labels.labels.len(),
            scores: scores.scores.len(),
            hint: format!("the first label is for `{label}`, the first score for `{score}`"),
        });
    }
    Ok(join)
}

impl Join {
    fn add(&mut self, index: usize, label: &Label, score: Option<f64>, options: &JoinOptions) {
        if score.is_none() {
            self.without_score.push(label.name.clone());
        }
        if let Some(score) = score.or(options.missing) {
            self.labels.push(index);
            self.opinions.push(label.opinion);
            self.scores.push(score);
        }
    }

    fn drop_zeros(&mut self) {
        let keep: Vec<bool> = self.scores.iter().map(|score| *score != 0.0).collect();
        self.zeros = keep.iter().filter(|keep| !**keep).count();
        retain(&mut self.labels, &keep);
        retain(&mut self.opinions, &keep);
        retain(&mut self.scores, &keep);
    }
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    values.retain(|_| flags.next().copied().unwrap_or(false));
}

fn by_name(labels: &[Label], scores: &[Score], options: &JoinOptions) -> Join {
    let mut join = Join::default();
    let mut by_file_name: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut by_whole_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, label) in labels.iter().enumerate() {
        by_file_name.entry(last_segment(&label.name)).or_default().push(index);
        by_whole_name.entry(&label.name).or_default().push(index);
    }
    let mut found: HashMap<usize, Vec<f64>> = HashMap::new();
    for score in scores {
        match score.names.iter().find_map(|name| labelled(name, labels, &by_file_name)) {
            Some(index) => found.entry(index).or_default().push(score.value),
            None => join.without_label.push(score.names.first().cloned().unwrap_or_default()),
        }
    }
    let mut reported = HashSet::new();
    for (index, label) in labels.iter().enumerate() {
        if by_whole_name[label.name.as_str()].len() > 1 {
            if reported.insert(&label.name) {
                join.repeated_labels.push(label.name.clone());
            }
            continue;
        }
        let values = found.get(&index).map_or(&[][..], Vec::as_slice);
        // A topic may repeat an event. Equal scores are one score.
        let first = values.first().copied();
        if values.iter().any(|value| Some(*value) != first) {
            join.contradictory.push(label.name.clone());
            continue;
        }
        join.add(index, label, first, options);
    }
    join
}

/// Finds the label whose name the path ends with. Of several, the longest name is meant: a label
/// `b/1.jpg` is more specific than `1.jpg`.
fn labelled(
    path: &str,
    labels: &[Label],
    by_file_name: &HashMap<&str, Vec<usize>>,
) -> Option<usize> {
    let candidates = by_file_name.get(last_segment(path))?;
    let is_suffix = |index: &&usize| {
        let rest = path.strip_suffix(labels[**index].name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', '\\']))
    };
    candidates.iter().filter(is_suffix).max_by_key(|index| labels[**index].name.len()).copied()
}

/// Joins like the authors' program: the key of a name is its text up to the first dot; of equal
/// keys the last value counts and stands where the key first stood.
fn by_first_dot(labels: &[Label], scores: &[Score], options: &JoinOptions) -> Join {
    let mut join = Join::default();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut last: Vec<usize> = Vec::new();
    let mut reported = HashSet::new();
    for (index, label) in labels.iter().enumerate() {
        let key = first_dot(&label.name);
        let position = *positions.entry(key).or_insert(last.len());
        if position == last.len() {
            last.push(index);
        } else {
            last[position] = index;
            if reported.insert(key) {
                join.repeated_labels.push(key.to_owned());
            }
        }
    }
    let mut values: HashMap<&str, f64> = HashMap::new();
    let mut contradictory = HashSet::new();
    for score in scores {
        let key = first_dot(score.file_name());
        if !positions.contains_key(key) {
            join.without_label.push(score.names.first().cloned().unwrap_or_default());
        }
        let before = values.insert(key, score.value);
        if before.is_some_and(|before| before.total_cmp(&score.value).is_ne())
            && contradictory.insert(key)
        {
            join.contradictory.push(key.to_owned());
        }
    }
    for index in last {
        let label = &labels[index];
        join.add(index, label, values.get(first_dot(&label.name)).copied(), options);
    }
    join
}

/// Returns the file name up to its first dot.
pub(crate) fn first_dot(name: &str) -> &str {
    last_segment(name).split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::labels::DataSet;

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
        assert_eq!(join.without_score, ["b.jpg"]);
        assert_eq!(join.without_label, ["xb.jpg"]);
        assert_eq!(join.repeated_labels, ["c.jpg"]);
        assert_eq!(join.contradictory, ["d.jpg"]);
    }

    #[test]
    fn a_longer_label_is_more_specific() {
        let labels = labels(&[("1.jpg", 1.0), ("b/1.jpg", 2.0)]);
        let scores = scores(&[("/data/a/1.jpg", 10.0), ("/data/b/1.jpg", 20.0)]);
        let join = join(&labels, &scores, &JoinOptions::default()).unwrap();
        assert_eq!(join.scores, [10.0, 20.0]);
    }

    #[test]
    fn lists_without_a_common_name_are_an_error_that_shows_two_names() {
        let error =
            join(&labels(&[("a.jpg", 1.0)]), &scores(&[("a.png", 1.0)]), &JoinOptions::default());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`a.jpg`") && text.contains("`a.png`"), "{text}");
    }
}
