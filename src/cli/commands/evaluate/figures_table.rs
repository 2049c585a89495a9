//! The figures as tables.

use crate::cli::commands::evaluate::outcome::{
    AblationOutcome, BoundOutcome, ComparisonOutcome, NotJoined, ScoresOutcome, SetOutcome,
};
use crate::cli::document::Section;
use crate::evaluation::{DataSet, Figure, FigureKind, PaperRow, PaperTable, paper_rows};

/// Maximum number of names that a note lists; JSON has all.
const NAMES_MAX: usize = 5;

/// Returns the tables of one data set.
pub(crate) fn sections(set: DataSet, outcome: &SetOutcome, with_paper: bool) -> Vec<Section> {
    let mut sections = Vec::new();
    if !outcome.scores.is_empty() {
        sections.push(figures(set, outcome, with_paper));
    }
    sections.extend(outcome.scores.iter().filter(|it| !it.kinds.is_empty()).map(kinds));
    if !outcome.ablations.is_empty() {
        sections.push(ablations(set, &outcome.ablations, with_paper));
    }
    sections.extend(outcome.comparisons.iter().map(comparison));
    if !outcome.bounds.is_empty() {
        sections.push(bounds(set, outcome));
    }
    sections
}

/// Returns the table of the means over all data sets.
pub(crate) fn means(outcomes: &[SetOutcome]) -> Option<Section> {
    let origins: Vec<&str> =
        outcomes.first()?.scores.iter().map(|scores| scores.origin.as_str()).collect();
    if outcomes.len() < 2 || origins.is_empty() {
        return None;
    }
    let mut section = Section::new(
        format!("mean over {} data sets", outcomes.len()),
        &["scores", "SRCC", "PLCC", "PLCC logistic", "KRCC"],
    );
    for (index, origin) in origins.iter().enumerate() {
        let mean = |kind| {
            let figures = outcomes.iter().filter_map(|outcome| outcome.scores.get(index));
            let values: Vec<f64> = figures.map(|it| it.computed.get(kind).value).collect();
            number(values.iter().sum::<f64>() / values.len().max(1) as f64)
        };
        section.rows.push(vec![
            (*origin).to_owned(),
            mean(FigureKind::Srcc),
            mean(FigureKind::Plcc),
            mean(FigureKind::PlccLogistic),
            mean(FigureKind::Krcc),
        ]);
    }
    Some(section)
}

fn figures(set: DataSet, outcome: &SetOutcome, with_paper: bool) -> Section {
    let mut section = Section::new(
        format!("{}: {} labels", set.name(), outcome.labels),
        &["scores", "images", "SRCC", "PLCC", "PLCC logistic", "KRCC", "RMSE logistic", "pairwise"],
    );
    for scores in &outcome.scores {
        let cell = |kind| with_interval(scores.computed.get(kind));
        let name = vec![scores.origin.clone(), scores.images.to_string()];
        section.rows.push([name, FigureKind::ALL.map(cell).to_vec()].concat());
        section.notes.extend(problems(&scores.origin, &scores.not_joined));
    }
    if with_paper {
        // The ablations are of interest next to other ratings.
        let has_variations = outcome.scores.len() > 1;
        let is_shown = |row: &&PaperRow| row.table == PaperTable::Main || has_variations;
        for row in paper_rows(set).iter().filter(is_shown) {
            let plcc = row.plcc.map_or_else(|| "-".to_owned(), number);
            let mut cells =
                vec![format!("paper: {}", row.name), "-".to_owned(), number(row.srcc), plcc];
            cells.resize(section.columns.len(), "-".to_owned());
            section.rows.push(cells);
        }
        section.notes.push(
            "The rows of BRISQUE, BIQI and BLIINDS-II in the paper's Table 2 cannot come from the \
             released parameters; they look retrained on each data set."
                .to_owned(),
        );
    }
    if outcome.training_images_left_out > 0 {
        let count = outcome.training_images_left_out;
        section.notes.push(format!("{count} training images are left out."));
    }
    section.notes.push("In brackets: 95 % intervals (percentile bootstrap).".to_owned());
    section
}

fn problems(origin: &str, not_joined: &NotJoined) -> Vec<String> {
    let listed = |what: &str, names: &[String]| {
        let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if names.len() > NAMES_MAX { ", …" } else { "" };
        (!names.is_empty()).then(|| format!("{origin}: {} {what}: {shown}{more}", names.len()))
    };
    let counted =
        |what: &str, count: usize| (count > 0).then(|| format!("{origin}: {count} {what}"));
    let problems = [
        listed("labels without a score", &not_joined.labels_without_score),
        listed("scores without a label", &not_joined.scores_without_label),
        listed("names with several labels", &not_joined.repeated_labels),
        listed("labels with contradictory scores", &not_joined.contradictory_scores),
        counted("pairs with a score of 0 left out", not_joined.zeros_left_out),
        counted("events without the value", not_joined.events_without_value),
    ];
    problems.into_iter().flatten().collect()
}

fn kinds(scores: &ScoresOutcome) -> Section {
    let title = format!("{} by kind of distortion", scores.origin);
    let mut section = Section::new(title, &["kind", "images", "SRCC", "PLCC"]);
    for kind in &scores.kinds {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        section.rows.push(vec![
            kind.kind.clone(),
            kind.images.to_string(),
            optional(kind.srcc),
            optional(kind.plcc),
        ]);
    }
    section
}

fn ablations(set: DataSet, ablations: &[AblationOutcome], with_paper: bool) -> Section {
    let mut columns = vec!["formula", "images", "SRCC", "PLCC"];
    if with_paper {
        columns.extend(["paper SRCC", "paper PLCC"]);
    }
    let title = format!("{}: formulas of the score from the same ratings", set.name());
    let mut section = Section::new(title, &columns);
    for ablation in ablations {
        let mut row = vec![
            format!("{}: {}", ablation.origin, ablation.formula),
            ablation.images.to_string(),
            number(ablation.srcc),
            number(ablation.plcc),
        ];
        if with_paper {
            let mut rows = paper_rows(set).iter();
            let is_printed =
                |row: &&PaperRow| row.table == PaperTable::Ablations && row.name == ablation.preset;
            let printed = rows.find(is_printed);
            row.push(printed.map_or_else(|| "-".to_owned(), |row| number(row.srcc)));
            let plcc = printed.and_then(|row| row.plcc);
            row.push(plcc.map_or_else(|| "-".to_owned(), number));
        }
        section.rows.push(row);
    }
    section.notes.push(
        "`level` combines the most probable levels, as the paper does; `expected` the expected \
         levels."
            .to_owned(),
    );
    section
}

fn comparison(comparison: &ComparisonOutcome) -> Section {
    let ComparisonOutcome { first, second, images, .. } = comparison;
    let mut section = Section::new(
        format!("{first} against {second}: {images} images"),
        &["figure", "difference", "first is better"],
    );
    for figure in &comparison.figures {
        section.rows.push(vec![
            figure.kind.name().to_owned(),
            with_interval(figure.difference),
            format!("{:.1} %", 100.0 * figure.first_wins),
        ]);
    }
    section.notes.push("`first is better`: share of the bootstrap samples.".to_owned());
    section
}

fn bounds(set: DataSet, outcome: &SetOutcome) -> Section {
    let mut section = Section::new(
        format!("{}: upper bound of K levels, (SRCC + PLCC) / 2", set.name()),
        &["levels", "labels", "program", "Eq. 1", "paper"],
    );
    for BoundOutcome { levels, labels, program, equation_1, paper } in &outcome.bounds {
        section.rows.push(vec![
            levels.to_string(),
            labels.to_string(),
            number(program.mean),
            number(equation_1.mean),
            paper.map_or_else(|| "-".to_owned(), number),
        ]);
    }
    section.notes.push(
        "`program` is round(s / (max − min) · K), as the authors compute it; it has up to K + 1 \
         levels. `Eq. 1` is round((s − min) / (max − min) · (K − 1)), as the paper prints it."
            .to_owned(),
    );
    let printed = outcome.bounds.iter().filter_map(|bound| Some((bound, bound.paper?)));
    let equal =
        printed.clone().filter(|(bound, paper)| number(bound.program.mean) == number(*paper));
    let (printed, equal) = (printed.count(), equal.count());
    if printed > 0 {
        section.notes.push(format!("`program` equals the paper in {equal} of {printed} cells."));
    }
    let labels = outcome.bounds.first().map_or(0, |bound| bound.labels);
    if labels < outcome.labels {
        section.notes.push(format!(
            "The join up to the first dot leaves {labels} of {} labels.",
            outcome.labels
        ));
    }
    section
}

fn with_interval(figure: Figure) -> String {
    match figure.interval {
        Some(interval) => format!(
            "{} [{}, {}]",
            number(figure.value),
            number(interval.low),
            number(interval.high)
        ),
        None => number(figure.value),
    }
}

/// Returns a number with three decimals, as the paper prints correlations.
fn number(value: f64) -> String {
    format!("{value:.3}")
}
