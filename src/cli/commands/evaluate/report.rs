//! The page of `dogiqa evaluate --report`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::commands::evaluate::data_folder::DataFolder;
use crate::cli::commands::evaluate::outcome::{KindOutcome, ScoresOutcome};
use crate::cli::report_folder::picture_file_name;
use crate::evaluation::{Labels, Score};
use crate::event::QualityEvent;
use crate::imaging;
use crate::report::{AgreementSection, EvaluationPage, KindRow, LargeError, annotate};

/// Number of images with the largest errors that are shown.
const ERRORS_SHOWN: usize = 20;

/// A report folder that is being written.
#[derive(Debug)]
pub(crate) struct EvaluationReport {
    folder: PathBuf,
    page: EvaluationPage,
    pictures: usize,
}

impl EvaluationReport {
    /// Creates the folder. Files of an earlier report in it are replaced.
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder: folder.to_owned(), page: EvaluationPage::default(), pictures: 0 })
    }

    /// Adds one set of scores. Draws the images with the largest errors, if they are in the data
    /// set's folder; with `events`, their regions too.
    pub(crate) fn add(
        &mut self,
        data: &DataFolder,
        outcome: &ScoresOutcome,
        events: &[QualityEvent],
        imaging: &imaging::Settings,
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

        let pictures = Pictures::of(data, events, imaging);
        let mut errors = Vec::new();
        for position in by_error {
            let (score, opinion) = points[position];
            let name = &data.labels.labels[join.labels[position]].name;
            let picture = pictures.draw(name, &self.folder, self.pictures)?;
            self.pictures += 1;
            let predicted = curve.map(score);
            errors.push(LargeError { name: name.clone(), picture, score, predicted, opinion });
        }
        let title = format!("{}: {}", data.labels.set.name(), outcome.origin);
        let kinds = kind_rows(&data.labels, outcome);
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

fn kind_rows(labels: &Labels, outcome: &ScoresOutcome) -> Vec<KindRow> {
    let row = |kind: KindOutcome| KindRow {
        kind: kind.kind,
        images: kind.images,
        srcc: kind.srcc,
        plcc: kind.plcc,
    };
    outcome.kinds_of(labels).into_iter().map(row).collect()
}

/// The files of the images and the events about them, by the names of the labels.
struct Pictures<'a> {
    files: HashMap<String, PathBuf>,
    events: HashMap<String, &'a QualityEvent>,
    imaging: &'a imaging::Settings,
}

impl<'a> Pictures<'a> {
    fn of(data: &DataFolder, events: &'a [QualityEvent], imaging: &'a imaging::Settings) -> Self {
        // A report without pictures is still a report.
        let files = data.images().unwrap_or_default();
        let named = |path: PathBuf| (file_name(&path.display().to_string()).to_owned(), path);
        // The first name is the decoded URI.
        let of_event = |event: &'a QualityEvent| {
            let names = Score::of_event(event, event.score).names;
            (names.first().map_or("", |name| file_name(name)).to_owned(), event)
        };
        Self {
            files: files.into_iter().map(named).collect(),
            events: events.iter().map(of_event).collect(),
            imaging,
        }
    }

    /// Draws the image of a label into the folder. Returns the name of the picture, or `None` if
    /// the image is missing or cannot be decoded.
    fn draw(&self, label: &str, folder: &Path, index: usize) -> anyhow::Result<Option<String>> {
        let Some(path) = self.files.get(file_name(label)) else { return Ok(None) };
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let Ok(picture) = imaging::decode(&bytes, self.imaging) else { return Ok(None) };
        let drawn = match self.events.get(file_name(label)) {
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

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}
