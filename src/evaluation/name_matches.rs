//! Finds the labels of images by the images' names: of scores, of events or of files.

use std::collections::{HashMap, HashSet};

use crate::evaluation::labels::{Label, Labels};
use crate::evaluation::scores::last_segment;

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

/// The images of each label. Labels and images are positions in their lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameMatches {
    /// Labels with their images, which may be none or several, in the order of the images.
    pub labels: Vec<(usize, Vec<usize>)>,
    /// Images without a label.
    pub without_label: Vec<usize>,
    /// Names that several labels have. These labels are left out, unless the rule takes the last.
    pub repeated_labels: Vec<String>,
}

/// Finds the labels of images. Each image has several names, the most specific first.
pub fn match_names(labels: &Labels, images: &[&[String]], rule: JoinRule) -> NameMatches {
    match rule {
        JoinRule::Name => by_name(&labels.labels, images),
        JoinRule::FirstDot => by_first_dot(&labels.labels, images),
    }
}

fn by_name(labels: &[Label], images: &[&[String]]) -> NameMatches {
    let mut matches = NameMatches::default();
    let mut by_file_name: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut by_whole_name: HashMap<&str, usize> = HashMap::new();
    for (index, label) in labels.iter().enumerate() {
        by_file_name.entry(last_segment(&label.name)).or_default().push(index);
        *by_whole_name.entry(&label.name).or_default() += 1;
    }
    let mut found: HashMap<usize, Vec<usize>> = HashMap::new();
    for (image, names) in images.iter().enumerate() {
        match names.iter().find_map(|name| labelled(name, labels, &by_file_name)) {
            Some(label) => found.entry(label).or_default().push(image),
            None => matches.without_label.push(image),
        }
    }
    let mut reported = HashSet::new();
    for (index, label) in labels.iter().enumerate() {
        if by_whole_name[label.name.as_str()] == 1 {
            matches.labels.push((index, found.remove(&index).unwrap_or_default()));
        } else if reported.insert(&label.name) {
            matches.repeated_labels.push(label.name.clone());
        }
    }
    matches
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

/// Matches like the authors' program: the key of a name is its text up to the first dot. Of labels
/// with equal keys the last counts and stands where the key first stood.
fn by_first_dot(labels: &[Label], images: &[&[String]]) -> NameMatches {
    let mut matches = NameMatches::default();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut reported = HashSet::new();
    for (index, label) in labels.iter().enumerate() {
        let key = first_dot(&label.name);
        let position = *positions.entry(key).or_insert(matches.labels.len());
        match matches.labels.get_mut(position) {
            None => matches.labels.push((index, Vec::new())),
            Some((last, _)) => {
                *last = index;
                if reported.insert(key) {
                    matches.repeated_labels.push(key.to_owned());
                }
            }
        }
    }
    for (image, names) in images.iter().enumerate() {
        let key = names.first().map_or("", |name| first_dot(name));
        match positions.get(key) {
            Some(&position) => matches.labels[position].1.push(image),
            None => matches.without_label.push(image),
        }
    }
    matches
}

/// Returns the file name up to its first dot.
pub(crate) fn first_dot(name: &str) -> &str {
    last_segment(name).split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::labels::DataSet;

    fn labels(names: &[&str]) -> Labels {
        let label = |name: &&str| Label { name: (*name).to_owned(), opinion: 1.0, kind: None };
        Labels { set: DataSet::Csv, labels: names.iter().map(label).collect() }
    }

    fn matched(labels: &Labels, names: &[&str], rule: JoinRule) -> NameMatches {
        let names: Vec<[String; 1]> = names.iter().map(|name| [(*name).to_owned()]).collect();
        let images: Vec<&[String]> = names.iter().map(|names| &names[..]).collect();
        match_names(labels, &images, rule)
    }

    #[test]
    fn files_with_equal_names_in_two_folders_have_different_labels() {
        let labels = labels(&["b/1.jpg", "a/1.jpg", "2.jpg"]);
        let names = ["/data/a/1.jpg", "/data/b/1.jpg", "/data/b/2.jpg", "/data/c/1.jpg"];
        let matches = matched(&labels, &names, JoinRule::Name);
        assert_eq!(matches.labels, [(0, vec![1]), (1, vec![0]), (2, vec![2])]);
        assert_eq!(matches.without_label, [3]);
    }

    #[test]
    fn a_longer_label_is_more_specific_and_several_files_may_have_the_shorter_one() {
        let labels = labels(&["1.jpg", "b/1.jpg"]);
        let names = ["/data/a/1.jpg", "/data/b/1.jpg", "/data/c/1.jpg"];
        let matches = matched(&labels, &names, JoinRule::Name);
        assert_eq!(matches.labels, [(0, vec![0, 2]), (1, vec![1])]);
    }

    #[test]
    fn repeated_labels_are_left_out_or_the_last_counts() {
        let labels = labels(&["a.jpg", "b.jpg", "a.jpg", "a.png"]);
        let names = ["x/a.jpg", "a.bmp", "b.jpg"];
        let matches = matched(&labels, &names, JoinRule::Name);
        assert_eq!(matches.labels, [(1, vec![2]), (3, vec![])]);
        assert_eq!(matches.repeated_labels, ["a.jpg"]);
        let matches = matched(&labels, &names, JoinRule::FirstDot);
        assert_eq!(matches.labels, [(3, vec![0, 1]), (1, vec![2])]);
        assert_eq!(matches.repeated_labels, ["a"]);
    }
}
