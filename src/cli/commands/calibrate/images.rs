//! The images of a calibration: their scores and, if there are labels, people's opinions.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::cli::commands::calibrate::arguments::Args;
use crate::cli::saved_events::read_events;
use crate::cli::terminal::print_status;
use crate::evaluation::{Join, JoinOptions, LabelFile, Labels, Score, Scores, join};
use crate::event::QualityEvent;
use crate::method::{Basis, Formula};

/// The events and what people say about their images.
#[derive(Debug)]
pub(crate) struct CalibrationImages {
    pub(crate) events: Vec<QualityEvent>,
    labels: Option<Labels>,
    /// Formula of all scores.
    pub(crate) formula: Formula,
}

/// Scores of images with people's opinions and the events of the scores.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LabelledScores<'a> {
    pub(crate) scores: Vec<f64>,
    pub(crate) opinions: Vec<f64>,
    pub(crate) events: Vec<&'a QualityEvent>,
}

impl CalibrationImages {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    /// Fails if a file cannot be read, if there are no events, or if they are of several engines or
    /// formulas, whose scores cannot share a threshold.
    pub(crate) fn read(args: &Args) -> anyhow::Result<Self> {
        let mut events = Vec::new();
        for path in &args.events {
            events.extend(read_events(path)?);
        }
        let Some(first) = events.first() else { bail!("there are no events") };
        let engine = &first.engine;
        if let Some(other) = events.iter().find(|event| event.engine != *engine) {
            let name = |event: &QualityEvent| {
                let engine = &event.engine;
                format!("{} {} {}", engine.name, engine.standard, engine.settings)
            };
            bail!(
                "the events are of several engines or settings ({} and {}), whose scores differ; \
                 calibrate each on its own",
                name(first),
                name(other)
            );
        }
        let formula = engine.formula.unwrap_or_default();
        Ok(Self { labels: labels(args)?, formula, events })
    }

    /// Returns the scores of all events.
    pub(crate) fn scores(&self, basis: Basis) -> Vec<f64> {
        self.events.iter().map(|event| score(event, basis)).collect()
    }

    /// Joins people's opinions with the score of each event, and reports what has no partner.
    /// Returns `None` without labels.
    ///
    /// # Errors
    /// Fails if no label has an event.
    pub(crate) fn labelled(&self, basis: Basis) -> anyhow::Result<Option<LabelledScores<'_>>> {
        let Some(labels) = &self.labels else { return Ok(None) };
        let of_event = |event| Score::of_event(event, score(event, basis));
        let scores = self.events.iter().map(of_event).collect();
        let scores = Scores { origin: "events".to_owned(), scores, without_value: 0 };
        let Join {
            scores,
            opinions,
            positions,
            without_score,
            without_label,
            repeated_labels,
            contradictory,
            ..
        } = join(labels, &scores, &JoinOptions::default())?;
        let problems = [
            ("labels have no event", &without_score),
            ("events have no label", &without_label),
            ("names have several labels", &repeated_labels),
            ("labels have several different scores", &contradictory),
        ];
        for (problem, names) in problems {
            if let Some(first) = names.first() {
                print_status(&format!("{} {problem}, such as {first}", names.len()));
            }
        }
        let events = positions.into_iter().flatten().map(|position| &self.events[position]);
        Ok(Some(LabelledScores { scores, opinions, events: events.collect() }))
    }

    /// Returns the names of the policies in the events, with the images of each.
    pub(crate) fn by_policy(self) -> Vec<(String, Self)> {
        let mut groups: Vec<(String, Vec<QualityEvent>)> = Vec::new();
        for event in self.events {
            let Some(name) = event.verdict.as_ref().map(|verdict| verdict.policy.clone()) else {
                continue;
            };
            match groups.iter_mut().find(|(group, _)| *group == name) {
                Some((_, events)) => events.push(event),
                None => groups.push((name, vec![event])),
            }
        }
        let (labels, formula) = (self.labels, self.formula);
        let with_labels = |(name, events)| (name, Self { events, labels: labels.clone(), formula });
        groups.into_iter().map(with_labels).collect()
    }
}

/// Returns the score of an event.
fn score(event: &QualityEvent, basis: Basis) -> f64 {
    match basis {
        Basis::Level => event.score,
        Basis::Expected => event.score_expected,
    }
}

fn labels(args: &Args) -> anyhow::Result<Option<Labels>> {
    let read = |path: &Path| {
        let name = path.display().to_string();
        let bytes = fs::read(path).with_context(|| name.clone())?;
        anyhow::Ok((name, bytes))
    };
    if let Some(path) = &args.decisions {
        let (name, bytes) = read(path)?;
        let file = LabelFile { name: &name, bytes: &bytes };
        return Ok(Some(Labels::read_decisions(&file, &args.columns())?));
    }
    let Some(path) = &args.labels else { return Ok(None) };
    let (name, bytes) = read(path)?;
    let file = LabelFile { name: &name, bytes: &bytes };
    let set = crate::evaluation::DataSet::Csv;
    Ok(Some(Labels::read(set, &[file], &args.columns())?))
}
