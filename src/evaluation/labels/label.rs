//! Labels: names of images with people's scores.

use std::collections::HashMap;

use crate::evaluation::labels::data_set::DataSet;

/// People's score of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Name of the image: a file name, or a path below the folder of the images.
    pub name: String,
    /// People's score; larger is better.
    pub opinion: f64,
    /// Kind of distortion, if the set has kinds.
    pub kind: Option<String>,
}

/// The labels of a data set, in the order of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// The data set.
    pub set: DataSet,
    /// The labels.
    pub labels: Vec<Label>,
}

/// A file with labels.
#[derive(Debug, Clone, Copy)]
pub struct LabelFile<'a> {
    /// Name of the file, for messages.
    pub name: &'a str,
    /// Content of the file.
    pub bytes: &'a [u8],
}

/// Names of the columns of a user's own table. The usual names are tried without them.
#[derive(Debug, Clone, Default)]
pub struct CsvColumns {
    /// Column with the names of the images.
    pub name: Option<String>,
    /// Column with people's scores.
    pub opinion: Option<String>,
    /// Column with the kind of distortion.
    pub kind: Option<String>,
}

impl Labels {
    /// Removes the images that the set's authors used to train their observers, and returns their
    /// number. Only `livec` has them.
    pub fn remove_training_images(&mut self) -> usize {
        let before = self.labels.len();
        let training = self.set.training_images();
        self.labels.retain(|label| !training.contains(&label.name.as_str()));
        before - self.labels.len()
    }

    /// Returns the names that occur more than once, in the order of their first occurrence.
    pub fn repeated_names(&self) -> Vec<&str> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for label in &self.labels {
            *counts.entry(&label.name).or_default() += 1;
        }
        let mut names: Vec<&str> = Vec::new();
        for label in &self.labels {
            if counts.remove(label.name.as_str()).is_some_and(|count| count > 1) {
                names.push(&label.name);
            }
        }
        names
    }
}
