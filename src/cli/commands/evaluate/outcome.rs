//! The figures of an evaluation, as `--format json` prints them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::evaluation::{
    Bootstrap, BoundRounding, Comparison, EvaluationError, Figure, FigureKind, Figures, Join,
    JoinOptions, KindAgreement, Labels, LevelBound, Scores, compare, join, level_bound,
    paper_bound,
};

/// All figures of one data set.
#[derive(Debug, Serialize)]
pub(crate) struct SetOutcome {
    /// Name of the data set.
    pub(crate) data_set: &'static str,
    /// Number of labels after all filters.
    pub(crate) labels: usize,
    /// Number of training images that were left out.
    pub(crate) training_images_left_out: usize,
    /// Number of images that could not be scored in this run.
    pub(crate) failed_images: usize,
    /// The figures of each set of scores.
    pub(crate) scores: Vec<ScoresOutcome>,
    /// The figures of the same events by other formulas, without intervals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ablations: Vec<AblationOutcome>,
    /// Each further set of scores against the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) comparisons: Vec<ComparisonOutcome>,
    /// The upper bounds of levels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bounds: Vec<BoundOutcome>,
}

/// The figures of one set of scores.
#[derive(Debug, Serialize)]
pub(crate) struct ScoresOutcome {
    /// Name of the scores.
    pub(crate) origin: String,
    /// Number of images with label and score.
    pub(crate) images: usize,
    /// Figures by name.
    pub(crate) figures: BTreeMap<&'static str, Figure>,
    /// All that could not be joined.
    pub(crate) not_joined: NotJoined,
    /// Figures by kind of distortion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kinds: Vec<KindAgreement>,
    #[serde(skip)]
    pub(crate) join: Join,
    #[serde(skip)]
    pub(crate) computed: Figures,
}

/// Names that could not be joined.
#[derive(Debug, Serialize)]
pub(crate) struct NotJoined {
    pub(crate) labels_without_score: Vec<String>,
    pub(crate) scores_without_label: Vec<String>,
    pub(crate) repeated_labels: Vec<String>,
    pub(crate) contradictory_scores: Vec<String>,
    pub(crate) zeros_left_out: usize,
    pub(crate) events_without_value: usize,
}

/// The figures of a formula.
#[derive(Debug, Serialize)]
pub(crate) struct AblationOutcome {
    pub(crate) origin: String,
    pub(crate) formula: String,
    pub(crate) preset: &'static str,
    pub(crate) images: usize,
    pub(crate) srcc: f64,
    pub(crate) plcc: f64,
}

/// Two sets of scores of the same images.
#[derive(Debug, Serialize)]
pub(crate) struct ComparisonOutcome {
    pub(crate) first: String,
    pub(crate) second: String,
    pub(crate) images: usize,
    pub(crate) figures: Vec<Comparison>,
}

/// The bound of a number of levels.
#[derive(Debug, Serialize)]
pub(crate) struct BoundOutcome {
    pub(crate) levels: u8,
    pub(crate) labels: usize,
    /// By the formula of the authors' program.
    pub(crate) program: BoundFigures,
    /// By the paper's Eq. 1.
    pub(crate) equation_1: BoundFigures,
    /// The printed value.
    pub(crate) paper: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BoundFigures {
    pub(crate) levels_that_occur: usize,
    pub(crate) srcc: f64,
    pub(crate) plcc: f64,
    pub(crate) mean: f64,
}

impl From<LevelBound> for BoundFigures {
    fn from(bound: LevelBound) -> Self {
        let LevelBound { levels, srcc, plcc, .. } = bound;
        Self { levels_that_occur: levels, srcc, plcc, mean: bound.mean() }
    }
}

impl ScoresOutcome {
    /// Joins scores with labels and computes all figures.
    ///
    /// # Errors
    /// Fails if fewer than 5 labels have a score, or if values do not vary.
    pub(crate) fn of(
        labels: &Labels,
        scores: &Scores,
        options: &JoinOptions,
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvaluationError> {
        let join = join(labels, scores, options)?;
        let computed = Figures::of(&join.scores, &join.opinions, bootstrap)?;
        let name = |kind| match kind {
            FigureKind::Srcc => "srcc",
            FigureKind::Plcc => "plcc",
            FigureKind::PlccLogistic => "plcc_logistic",
            FigureKind::Krcc => "krcc",
            FigureKind::RmseLogistic => "rmse_logistic",
            FigureKind::PairwiseAccuracy => "pairwise_accuracy",
        };
        let figures = FigureKind::ALL.map(|kind| (name(kind), computed.get(kind)));
        Ok(Self {
            origin: scores.origin.clone(),
            images: computed.images,
            figures: figures.into_iter().collect(),
            not_joined: NotJoined {
                labels_without_score: join.without_score.clone(),
                scores_without_label: join.without_label.clone(),
                repeated_labels: join.repeated_labels.clone(),
                contradictory_scores: join.contradictory.clone(),
                zeros_left_out: join.zeros,
                events_without_value: scores.without_value,
            },
            kinds: Vec::new(),
            join,
            computed,
        })
    }
}

/// Compares two sets of scores on the images that both have.
///
/// # Errors
/// Fails if they have fewer than 5 images in common, or if values do not vary.
pub(crate) fn compare_outcomes(
    first: &ScoresOutcome,
    second: &ScoresOutcome,
    bootstrap: &Bootstrap,
) -> Result<ComparisonOutcome, EvaluationError> {
    let by_label: HashMap<usize, f64> =
        second.join.labels.iter().copied().zip(second.join.scores.iter().copied()).collect();
    let (mut ours, mut theirs, mut opinions) = (Vec::new(), Vec::new(), Vec::new());
    for ((label, &score), &opinion) in
        first.join.labels.iter().zip(&first.join.scores).zip(&first.join.opinions)
    {
        if let Some(&other) = by_label.get(label) {
            ours.push(score);
            theirs.push(other);
            opinions.push(opinion);
        }
    }
    Ok(ComparisonOutcome {
        first: first.origin.clone(),
        second: second.origin.clone(),
        images: opinions.len(),
        figures: compare(&ours, &theirs, &opinions, bootstrap)?,
    })
}

/// Computes the bound of each number of levels by both formulas.
///
/// # Errors
/// Fails if the labels do not vary.
pub(crate) fn bounds(
    labels: &Labels,
    levels: &[u8],
    options: &JoinOptions,
) -> Result<Vec<BoundOutcome>, EvaluationError> {
    let distinct: BTreeSet<u8> = levels.iter().copied().collect();
    let bound = |levels: u8| {
        let by = |rounding| level_bound(labels, levels, rounding, options.rule);
        let program = by(BoundRounding::Program)?;
        Ok(BoundOutcome {
            levels,
            labels: program.labels,
            program: program.into(),
            equation_1: by(BoundRounding::Paper)?.into(),
            paper: paper_bound(labels.set, levels),
        })
    };
    distinct.into_iter().map(bound).collect()
}
