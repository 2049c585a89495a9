//! The page of `dogiqa evaluate --report`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::commands::evaluate::data_folder::DataFolder;
use crate::cli::commands::evaluate::outcome::ScoresOutcome;
use crate::cli::report_folder::picture_file_name;
use crate::evaluation::{Labels, Score, agreement_by_kind, last_segment};
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

    /// Adds one set of scores. Draws the images with the largest errors, if they are among the
    /// files; with `events`, their regions too.
    pub(crate) fn add(
        &mut self,
        labels: &Labels,
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

        let pictures = Pictures::of(files, events, &self.imaging);
        let mut errors = Vec::new();
        for position in by_error {
            let (score, opinion) = points[position];
            let name = &labels.labels[join.labels[position]].name;
            let picture = pictures.draw(name, &self.folder, self.pictures)?;
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

/// The files of a data set's images by their names.
#[derive(Debug)]
pub(crate) struct ImageFiles(HashMap<String, PathBuf>);

impl ImageFiles {
    /// Lists the files of a data set. A report without pictures is still a report, so a folder
    /// without images has no files.
    pub(crate) fn of(data: &DataFolder) -> Self {
        let named = |path: PathBuf| (last_segment(&path.display().to_string()).to_owned(), path);
        Self(data.images().unwrap_or_default().into_iter().map(named).collect())
    }
}

/// The files of the images and the events about them.
struct Pictures<'a> {
    files: &'a ImageFiles,
    events: HashMap<String, &'a QualityEvent>,
    imaging: &'a imaging::Settings,
}

impl<'a> Pictures<'a> {
    fn of(
        files: &'a ImageFiles,
        events: &'a [QualityEvent],
        imaging: &'a imaging::Settings,
    ) -> Self {
        // The first name is the decoded URI.
        let of_event = |event: &'a QualityEvent| {
            let names = Score::of_event(event, event.score).names;
            (names.first().map_or("", |name| last_segment(name)).to_owned(), event)
        };
        Self { files, events: events.iter().map(of_event).collect(), imaging }
    }

    /// Draws the image of a label into the folder. Returns the name of the picture, or `None` if
    /// the image is missing or cannot be decoded.
    fn draw(&self, label: &str, folder: &Path, index: usize) -> anyhow::Result<Option<String>> {
        let Some(path) = self.files.0.get(last_segment(label)) else { return Ok(None) };
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let Ok(picture) = imaging::decode(&bytes, self.imaging) else { return Ok(None) };
        let drawn = match self.events.get(last_segment(label)) {
            Some(event) => annotate(&picture, event).ok(),
            None => None,
        };
        let drawn = drawn.unwrap_or_else(|| picture.pixels().as_ref().clone());
        let name = picture_file_name(index, label);
        let target = folder.join(&name);
        drawn.save(&target).with_context(|| target.display().to_string())?;
        Ok(Some(name))
    }
}
