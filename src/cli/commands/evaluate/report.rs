//! The page of `dogiqa evaluate --report`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::commands::evaluate::data_folder::DataFolder;
use crate::cli::commands::evaluate::outcome::ScoresOutcome;
use crate::cli::report_folder::picture_file_name;
use crate::evaluation::{JoinRule, Labels, Score, agreement_by_kind, match_names};
use crate::event::QualityEvent;
use crate::imaging;
use crate::report::{AgreementSection, EvaluationPage, LargeError, annotate};

/// Number of images with the largest errors that are shown.
const ERRORS_SHOWN: usize = 20;

/// A report folder that is being written.
#[derive(Debug)]
pub(crate) struct EvaluationReport {
    folder: PathBuf,
    imaging: imaging::Settings,
    page: EvaluationPage,
    pictures: usize,
}

impl EvaluationReport {
    /// Creates the folder. Files of an earlier report in it are replaced. Images are decoded with
    /// `imaging`.
    pub(crate) fn create(folder: &Path, imaging: imaging::Settings) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let page = EvaluationPage::default();
        Ok(Self { folder: folder.to_owned(), imaging, page, pictures: 0 })
    }

    /// Adds one set of scores, which `rule` joined. Draws the images with the largest errors, if
    /// they are among the files; with `events`, their regions too.
    pub(crate) fn add(
        &mut self,
        (labels, rule): (&Labels, JoinRule),
        outcome: &ScoresOutcome,
        files: &ImageFiles,
        events: &[QualityEvent],
    ) -> anyhow::Result<()> {
        let join = &outcome.join;
        let points: Vec<(f64, f64)> =
            join.scores.iter().copied().zip(join.opinions.iter().copied()).collect();
        let curve = &outcome.computed.logistic;
        let error = |position: &usize| {
            let (score, opinion) = points[*position];
            (curve.map(score) - opinion).abs()
        };
        let mut by_error: Vec<usize> = (0..points.len()).collect();
        by_error.sort_by(|a, b| error(b).total_cmp(&error(a)));
        by_error.truncate(ERRORS_SHOWN);

        let pictures = Pictures::of(labels, rule, files, events, &self.imaging);
        let mut errors = Vec::new();
        for position in by_error {
            let (score, opinion) = points[position];
            let label = join.labels[position];
            let name = &labels.labels[label].name;
            let file_name = picture_file_name(self.pictures, name);
            let is_drawn = pictures.draw(label, &self.folder.join(&file_name))?;
            let picture = is_drawn.then_some(file_name);
            self.pictures += 1;
            let predicted = curve.map(score);
            errors.push(LargeError { name: name.clone(), picture, score, predicted, opinion });
        }
        let title = format!("{}: {}", labels.set.name(), outcome.origin);
        let kinds = agreement_by_kind(labels, join);
        self.page.add(&AgreementSection {
            title: &title,
            figures: &outcome.computed,
            points: &points,
            errors: &errors,
            kinds: &kinds,
        });
        Ok(())
    }

    /// Writes the page and returns its path.
    pub(crate) fn finish(self) -> anyhow::Result<PathBuf> {
        let path = self.folder.join("index.html");
        fs::write(&path, self.page.render()).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// The files of a data set's images.
#[derive(Debug)]
pub(crate) struct ImageFiles(Vec<PathBuf>);

impl ImageFiles {
    /// Lists the files of a data set. A report without pictures is still a report, so a folder
    /// without images has no files.
    pub(crate) fn of(data: &DataFolder) -> Self {
        Self(data.images().unwrap_or_default())
    }
}

/// The files of the labelled images and the events about them, by position of the label.
struct Pictures<'a> {
    files: HashMap<usize, &'a Path>,
    events: HashMap<usize, &'a QualityEvent>,
    imaging: &'a imaging::Settings,
}

impl<'a> Pictures<'a> {
    /// Finds files and events by the rule that joins labels and scores. A label with several files
    /// has no picture.
    fn of(
        labels: &Labels,
        rule: JoinRule,
        files: &'a ImageFiles,
        events: &'a [QualityEvent],
        imaging: &'a imaging::Settings,
    ) -> Self {
        let names: Vec<_> = files.0.iter().map(|path| vec![path.display().to_string()]).collect();
        let of_files = positions(labels, rule, &names);
        let one_file = |(label, positions): (usize, Vec<usize>)| match positions[..] {
            [one] => Some((label, &*files.0[one])),
            _ => None,
        };
        let names: Vec<_> =
            events.iter().map(|event| Score::of_event(event, event.score).names).collect();
        let of_events = positions(labels, rule, &names);
        // A topic may repeat an event.
        let last_event =
            |(label, positions): (usize, Vec<usize>)| Some((label, &events[*positions.last()?]));
        Self {
            files: of_files.into_iter().filter_map(one_file).collect(),
            events: of_events.into_iter().filter_map(last_event).collect(),
            imaging,
        }
    }

    /// Draws the image of a label to a file. Returns false if the image is missing or cannot be
    /// decoded.
    fn draw(&self, label: usize, target: &Path) -> anyhow::Result<bool> {
        let Some(path) = self.files.get(&label) else { return Ok(false) };
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let Ok(picture) = imaging::decode(&bytes, self.imaging) else { return Ok(false) };
        let drawn = self.events.get(&label).and_then(|event| annotate(&picture, event).ok());
        let drawn = drawn.unwrap_or_else(|| picture.pixels().as_ref().clone());
        drawn.save(target).with_context(|| target.display().to_string())?;
        Ok(true)
    }
}

/// Returns the positions of the images of each label.
fn positions(labels: &Labels, rule: JoinRule, names: &[Vec<String>]) -> Vec<(usize, Vec<usize>)> {
    let images: Vec<&[String]> = names.iter().map(Vec::as_slice).collect();
    match_names(labels, &images, rule).labels
}
