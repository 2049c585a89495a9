//! The figures of agreement with their intervals, and comparisons of two sets of scores.

use serde::Serialize;

use crate::evaluation::bootstrap::{Bootstrap, Interval};
use crate::evaluation::error::EvaluationError;
use crate::method::agreement::{Logistic, krcc, pairwise_accuracy, plcc, rmse, srcc};

/// A figure of agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureKind {
    /// Spearman's rank correlation; ties share their average rank.
    Srcc,
    /// Pearson's correlation of the raw scores.
    Plcc,
    /// Pearson's correlation after the four-parameter logistic.
    PlccLogistic,
    /// Kendall's rank correlation, tau-b.
    Krcc,
    /// Root of the mean squared error after the logistic, on people's scale.
    RmseLogistic,
    /// Share of the pairs of images that the scores order like people.
    PairwiseAccuracy,
}

impl FigureKind {
    /// All figures.
    pub const ALL: [Self; 6] = [
        Self::Srcc,
        Self::Plcc,
        Self::PlccLogistic,
        Self::Krcc,
        Self::RmseLogistic,
        Self::PairwiseAccuracy,
    ];

    /// Returns the heading of a column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Srcc => "SRCC",
            Self::Plcc => "PLCC",
            Self::PlccLogistic => "PLCC logistic",
            Self::Krcc => "KRCC",
            Self::RmseLogistic => "RMSE logistic",
            Self::PairwiseAccuracy => "pairwise",
        }
    }

    /// Returns true if a lower figure means better agreement.
    pub fn lower_is_better(self) -> bool {
        self == Self::RmseLogistic
    }
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The figure of all images.
    pub value: f64,
    /// Its interval. Absent if the figure is defined for no resample.
    pub interval: Option<Interval>,
}

/// All figures of one set of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Number of images.
    pub images: usize,
    /// The curve that maps scores to people's scale.
    pub logistic: Logistic,
    /// One figure per kind, in the order of [`FigureKind::ALL`].
    values: [Figure; FigureKind::ALL.len()],
}

impl Figures {
    /// Computes all figures and their intervals.
    ///
    /// # Errors
    /// Fails on fewer than 5 images, and on scores or opinions that are all equal.
    pub fn of(
        scores: &[f64],
        opinions: &[f64],
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvaluationError> {
        let logistic = Logistic::fit(scores, opinions)?;
        let exact = values_with(&logistic, scores, opinions)?;
        let resampled = bootstrap.run(scores.len(), |drawn| {
            let (scores, opinions) = (draw(scores, drawn), draw(opinions, drawn));
            values_with(&logistic.refit(&scores, &opinions).ok()?, &scores, &opinions).ok()
        });
        let figure = |index: usize, value| Figure {
            value,
            interval: Interval::of(resampled.iter().map(|values| values[index]).collect()),
        };
        let mut values = exact.map(|value| Figure { value, interval: None });
        for (index, value) in values.iter_mut().enumerate() {
            *value = figure(index, value.value);
        }
        Ok(Self { images: scores.len(), logistic, values })
    }

    /// Returns a figure.
    pub fn get(&self, kind: FigureKind) -> Figure {
        self.values[kind as usize]
    }
}

/// Two sets of scores of the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// The compared figure.
    pub kind: FigureKind,
    /// Figure of the first minus figure of the second.
    pub difference: Figure,
    /// Share of the resamples in which the first agrees better with people.
    pub first_wins: f64,
}

/// Compares two sets of scores of the same images by each figure. Both are drawn together, so the
/// intervals of the differences are narrower than those of the figures.
///
/// # Errors
/// Fails like [`Figures::of`].
pub fn compare(
    first: &[f64],
    second: &[f64],
    opinions: &[f64],
    bootstrap: &Bootstrap,
) -> Result<Vec<Comparison>, EvaluationError> {
    let curves = (Logistic::fit(first, opinions)?, Logistic::fit(second, opinions)?);
    let exact =
        (values_with(&curves.0, first, opinions)?, values_with(&curves.1, second, opinions)?);
    let resampled = bootstrap.run(opinions.len(), |drawn| {
        let opinions = draw(opinions, drawn);
        let values = |curve: &Logistic, scores: &[f64]| {
            let scores = draw(scores, drawn);
            values_with(&curve.refit(&scores, &opinions).ok()?, &scores, &opinions).ok()
        };
        Some((values(&curves.0, first)?, values(&curves.1, second)?))
    });
    let comparison = |(index, kind): (usize, FigureKind)| {
        let differences: Vec<f64> =
            resampled.iter().map(|(first, second)| first[index] - second[index]).collect();
        let wins = |difference: &&f64| {
            if kind.lower_is_better() { **difference < 0.0 } else { **difference > 0.0 }
        };
        let wins = differences.iter().filter(wins).count();
        Comparison {
            kind,
            first_wins: wins as f64 / differences.len().max(1) as f64,
            difference: Figure {
                value: exact.0[index] - exact.1[index],
                interval: Interval::of(differences),
            },
        }
    };
    Ok(FigureKind::ALL.into_iter().enumerate().map(comparison).collect())
}

/// Returns the figures in the order of [`FigureKind::ALL`].
fn values_with(
    logistic: &Logistic,
    scores: &[f64],
    opinions: &[f64],
) -> Result<[f64; FigureKind::ALL.len()], EvaluationError> {
    let mapped: Vec<f64> = scores.iter().map(|&score| logistic.map(score)).collect();
    Ok([
        srcc(scores, opinions)?,
        plcc(scores, opinions)?,
        // A flat curve explains nothing.
        plcc(&mapped, opinions).unwrap_or(0.0),
        krcc(scores, opinions)?,
        rmse(&mapped, opinions)?,
        pairwise_accuracy(scores, opinions)?,
    ])
}

fn draw(values: &[f64], drawn: &[usize]) -> Vec<f64> {
    drawn.iter().map(|&index| values[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_win_the_resamples_and_equal_ones_none() {
        let opinions: Vec<f64> = (0..60).map(f64::from).collect();
        let good: Vec<f64> = opinions.iter().map(|o| o + o % 3.0).collect();
        let poor: Vec<f64> = opinions.iter().map(|o| o + 40.0 * (o % 2.0)).collect();
        let bootstrap = Bootstrap { resamples: 200.try_into().unwrap(), seed: 3 };
        let compared = compare(&good, &poor, &opinions, &bootstrap).unwrap();
        for comparison in &compared {
            assert!(comparison.first_wins > 0.99, "{comparison:?}");
        }
        for comparison in compare(&good, &good, &opinions, &bootstrap).unwrap() {
            assert_eq!((comparison.first_wins, comparison.difference.value), (0.0, 0.0));
        }
    }

    #[test]
    fn the_interval_contains_the_figure() {
        let opinions: Vec<f64> = (0..40).map(f64::from).collect();
        let scores: Vec<f64> = opinions.iter().map(|o| o + 9.0 * (o * 1.7).sin()).collect();
        let figures = Figures::of(&scores, &opinions, &Bootstrap::default()).unwrap();
        for kind in FigureKind::ALL {
            let Figure { value, interval } = figures.get(kind);
            let interval = interval.unwrap();
            assert!(
                interval.low <= value && value <= interval.high,
                "{kind:?} {value} {interval:?}"
            );
            assert!(interval.high > interval.low);
        }
    }
}
