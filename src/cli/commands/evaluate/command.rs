//! The run of `dogiqa evaluate`.

use std::borrow::Cow;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::evaluate::arguments::{Ablate, Args};
use crate::cli::commands::evaluate::data_folder::DataFolder;
use crate::cli::commands::evaluate::engine_pairs::compare_engines;
use crate::cli::commands::evaluate::figures_table::{means, sections};
use crate::cli::commands::evaluate::metric_scores::{MetricScores, measure_images};
use crate::cli::commands::evaluate::outcome::{
    AblationOutcome, ScoresOutcome, SetOutcome, bounds, compare_outcomes,
};
use crate::cli::commands::evaluate::report::{EvaluationReport, ImageFiles};
use crate::cli::commands::evaluate::scoring::{
    ScoredImages, images_to_score, labelled_images, score_images,
};
use crate::cli::commands::evaluate::variations::rate_variations;
use crate::cli::document::print_document;
use crate::cli::journey_setup::open_journey;
use crate::cli::saved_events::{EventFile, read_events};
use crate::cli::terminal::print_status;
use crate::config::{Settings, preset_settings};
use crate::evaluation::{DataSet, Score, Scores, ablations, agreement_by_kind, join};
use crate::event::QualityEvent;
use crate::method::agreement::{plcc, srcc};

/// Everything that `--format json` prints.
#[derive(Serialize)]
struct Evaluation {
    data_sets: Vec<SetOutcome>,
    resamples: usize,
    seed: u64,
}

/// Scores to compare with the labels, and the events that they come from.
struct NamedEvents {
    origin: String,
    events: Vec<QualityEvent>,
}

/// Everything that is compared with the labels of a data set.
#[derive(Default)]
struct Candidates {
    events: Vec<NamedEvents>,
    scores: Vec<Scores>,
    failed_images: usize,
}

pub(crate) async fn run(args: Args, settings: Settings) -> anyhow::Result<CommandOutcome> {
    if !args.engines.is_empty() {
        return compare_engines(&args);
    }
    let sets = data_sets(&args.data_sets)?;
    if args.save.is_some() && sets.len() > 1 {
        bail!("--save takes the events of one data set; evaluate the sets one by one");
    }
    let given = given_candidates(&args)?;
    warn_of_habits(&args);
    let mut report = args
        .report
        .as_deref()
        .map(|folder| EvaluationReport::create(folder, settings.imaging.clone()))
        .transpose()?;
    let mut outcomes = Vec::new();
    let mut tables = Vec::new();
    for (set, path) in sets {
        let folder = DataFolder::open(set, Path::new(path), &args.labels)?;
        let scored;
        let candidates = match &given {
            Some(given) => given,
            None if !needs_engine(&args) => &Candidates::default(),
            None => {
                scored = score(&args, &folder, settings.clone()).await?;
                &scored
            }
        };
        let measured = measure(&args, &folder, &settings)?;
        let outcome = evaluate(&args, &folder, candidates, &measured, &settings)?;
        if let Some(report) = &mut report {
            let files = ImageFiles::of(&folder);
            for (index, scores) in outcome.scores.iter().enumerate() {
                let events = candidates.events.get(index).map_or(&[][..], |it| &it.events);
                let rule = args.join.options().rule;
                report.add((&folder.labels, rule), scores, &files, events)?;
            }
        }
        tables.extend(sections(set, &outcome, args.paper));
        outcomes.push(outcome);
    }
    tables.extend(means(&outcomes));
    let has_failed = outcomes.iter().any(|outcome| outcome.failed_images > 0);
    let bootstrap = args.bootstrap.bootstrap();
    let resamples = bootstrap.resamples.get();
    let evaluation = Evaluation { data_sets: outcomes, resamples, seed: bootstrap.seed };
    print_document(args.format, &tables, &evaluation)?;
    if let Some(report) = report {
        print_status(&format!("report: {}", report.finish()?.display()));
    }
    Ok(CommandOutcome::negative_if(has_failed))
}

/// Returns the pairs of data set and path.
fn data_sets(arguments: &[String]) -> anyhow::Result<Vec<(DataSet, &str)>> {
    let (pairs, rest) = arguments.as_chunks::<2>();
    if let [name] = rest {
        bail!("data set {name} has no PATH");
    }
    let mut sets = Vec::new();
    for [name, path] in pairs {
        let set = DataSet::by_name(name).ok_or_else(|| {
            let names: Vec<&str> = DataSet::ALL.iter().map(|set| set.name()).collect();
            anyhow!("no data set `{name}`; there are: {}", names.join(", "))
        })?;
        sets.push((set, path.as_str()));
    }
    Ok(sets)
}

/// Reads the files of `--events` and `--scores`. Returns `None` without any.
fn given_candidates(args: &Args) -> anyhow::Result<Option<Candidates>> {
    if args.events.is_empty() && args.scores.is_empty() {
        return Ok(None);
    }
    if let Some(ablate) = args.ablate.iter().find(|ablate| **ablate != Ablate::Aggregation) {
        bail!("--ablate {ablate:?} rates the images again; leave out --events and --scores");
    }
    let mut candidates = Candidates::default();
    for path in &args.events {
        let events = read_events(path)?;
        candidates.events.push(NamedEvents { origin: path.display().to_string(), events });
    }
    for path in &args.scores {
        let origin = path.display().to_string();
        let bytes = fs::read(path).with_context(|| origin.clone())?;
        candidates.scores.push(Scores::from_csv(&origin, &bytes)?);
    }
    Ok(Some(candidates))
}

/// Returns false if bounds or metrics are asked for, and nothing else.
fn needs_engine(args: &Args) -> bool {
    let asks_for_events = args.save.is_some() || !args.ablate.is_empty();
    asks_for_events || (args.bound.is_empty() && args.metric.is_empty())
}

/// Warns of options that repeat habits of the authors' program.
fn warn_of_habits(args: &Args) {
    let options = args.join.options();
    if options.rule == crate::evaluation::JoinRule::FirstDot {
        print_status(
            "warning: --join first-dot takes the last of all images whose names are equal up to \
             the first dot; 1,484 of agiqa3k's 2,982 are left",
        );
    }
    if let Some(score) = options.missing {
        print_status(&format!("warning: labels without a score count as {score}"));
    }
    if options.drop_zero {
        print_status("warning: images with a score of 0 are left out");
    }
}

/// Scores the images of a data set with the configured engine.
async fn score(
    args: &Args,
    folder: &DataFolder,
    mut settings: Settings,
) -> anyhow::Result<Candidates> {
    let rates_again = args.ablate.iter().any(|ablate| *ablate != Ablate::Aggregation);
    settings.pipeline.masks_in_events |= args.report.is_some() || rates_again;
    let images = images_to_score(folder, &args.join.options(), &mut settings)?;
    let references = images.references.clone();
    let file = match &args.save {
        Some(path) => Some(EventFile::open(path, args.resume)?),
        None => None,
    };
    let journey = open_journey(&settings).await?;
    let ScoredImages { events, failed } = score_images(&journey, images, file).await?;
    let origin = journey.engine().info().name.clone();
    // The next engine needs the memory of this one.
    drop(journey);
    let rated = rate_variations(args, &references, &events, &settings).await?;
    let mut candidates = Candidates {
        events: vec![NamedEvents { origin, events }],
        scores: Vec::new(),
        failed_images: failed,
    };
    for (origin, ScoredImages { events, .. }) in rated {
        candidates.events.push(NamedEvents { origin, events });
    }
    Ok(candidates)
}

/// Measures the labelled images by the metrics of `--metric`.
fn measure(args: &Args, folder: &DataFolder, settings: &Settings) -> anyhow::Result<MetricScores> {
    if args.metric.is_empty() {
        return Ok(MetricScores::default());
    }
    let images = labelled_images(folder, &args.join.options())?;
    let parameters = args.parameters.as_ref().or(settings.pipeline.measure_parameters.as_ref());
    measure_images(&args.metric, parameters.map(PathBuf::as_path), &images, &settings.imaging)
}

fn evaluate(
    args: &Args,
    folder: &DataFolder,
    candidates: &Candidates,
    measured: &MetricScores,
    settings: &Settings,
) -> anyhow::Result<SetOutcome> {
    let labels = &folder.labels;
    let set = labels.set.name();
    let (options, bootstrap) = (args.join.options(), args.bootstrap.bootstrap());
    let of_events =
        candidates.events.iter().map(|it| Scores::of_events(&it.origin, &it.events, args.value));
    let others = candidates.scores.iter().chain(&measured.scores);
    let mut scores = Vec::new();
    for candidate in of_events.map(Cow::Owned).chain(others.map(Cow::Borrowed)) {
        let context = || format!("{set}, {}", candidate.origin);
        let outcome = ScoresOutcome::of(labels, &candidate, &options, &bootstrap);
        let mut outcome = outcome.with_context(context)?;
        if args.kinds {
            outcome.kinds = agreement_by_kind(labels, &outcome.join);
        }
        scores.push(outcome);
    }
    let mut comparisons = Vec::new();
    if let Some((first, others)) = scores.split_first() {
        for other in others {
            comparisons.push(compare_outcomes(first, other, &bootstrap)?);
        }
    }
    let mut ablated = Vec::new();
    if args.ablate.contains(&Ablate::Aggregation) {
        for named in &candidates.events {
            let c_max = settings.method.aggregation.c_max;
            ablated.extend(ablate(args, folder, named, c_max).with_context(|| set)?);
        }
    }
    Ok(SetOutcome {
        data_set: set,
        labels: labels.labels.len(),
        training_images_left_out: folder.training_images,
        failed_images: candidates.failed_images + measured.failed,
        scores,
        ablations: ablated,
        comparisons,
        bounds: bounds(labels, &args.bound, &options)?,
    })
}

/// Computes the figures of the events by each formula.
fn ablate(
    args: &Args,
    folder: &DataFolder,
    named: &NamedEvents,
    c_max: NonZeroU32,
) -> anyhow::Result<Vec<AblationOutcome>> {
    let mut outcomes = Vec::new();
    for ablation in ablations(c_max, |preset| preset_settings(preset).method) {
        let value = |event| ablation.score(event).map(|value| Score::of_event(event, value));
        let scores: Vec<Score> = named.events.iter().filter_map(value).collect();
        let without_value = named.events.len() - scores.len();
        let scores = Scores { origin: named.origin.clone(), scores, without_value };
        let joined = join(&folder.labels, &scores, &args.join.options())?;
        outcomes.push(AblationOutcome {
            origin: named.origin.clone(),
            formula: ablation.name(),
            preset: ablation.preset.name(),
            images: joined.scores.len(),
            srcc: srcc(&joined.scores, &joined.opinions)?,
            plcc: plcc(&joined.scores, &joined.opinions)?,
        });
    }
    Ok(outcomes)
}
