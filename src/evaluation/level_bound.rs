//! The upper bound of agreement with K levels: people's own scores, rounded to levels, against
//! themselves (the paper's Table 1).

use crate::evaluation::error::EvaluationError;
use crate::evaluation::labels::{Label, Labels};
use crate::evaluation::name_matches::{JoinRule, first_dot};
use crate::method::agreement::{plcc, srcc};

use std::collections::HashMap;

/// The rounding of people's scores to levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundRounding {
    /// `round(s / (max − min) · K)`, halves to even: the authors' program. Makes K + 1 levels of a
    /// scale that begins at 0. All printed values come from it.
    Program,
    /// `round((s − min) / (max − min) · (K − 1))`: the paper's Eq. 1. Makes K levels.
    Paper,
}

/// Agreement of rounded scores with themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelBound {
    /// Number of labels.
    pub labels: usize,
    /// Number of levels that occur.
    pub levels: usize,
    /// Spearman's rank correlation.
    pub srcc: f64,
    /// Pearson's correlation.
    pub plcc: f64,
}

impl LevelBound {
    /// Returns the mean of both correlations, which the paper prints.
    pub fn mean(&self) -> f64 {
        f64::midpoint(self.srcc, self.plcc)
    }
}

/// Computes the bound of `k` levels from the labels alone.
///
/// # Errors
/// Fails on fewer than 2 labels, and on labels that are all equal.
pub fn level_bound(
    labels: &Labels,
    k: u8,
    rounding: BoundRounding,
    rule: JoinRule,
) -> Result<LevelBound, EvaluationError> {
    let opinions = opinions(&labels.labels, rule);
    let (low, high) = opinions
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), o| (low.min(*o), high.max(*o)));
    let level = |opinion: &f64| match rounding {
        BoundRounding::Program => opinion / (high - low) * f64::from(k),
        BoundRounding::Paper => (opinion - low) / (high - low) * (f64::from(k) - 1.0),
    };
    let rounded: Vec<f64> =
        opinions.iter().map(|opinion| level(opinion).round_ties_even()).collect();
    let mut levels = rounded.clone();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    Ok(LevelBound {
        labels: opinions.len(),
        levels: levels.len(),
        srcc: srcc(&rounded, &opinions)?,
        plcc: plcc(&rounded, &opinions)?,
    })
}

/// Returns people's scores. By the authors' rule, labels with the same name up to the first dot are
/// one, and the last counts.
fn opinions(labels: &[Label], rule: JoinRule) -> Vec<f64> {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut opinions: Vec<f64> = Vec::new();
    for label in labels {
        let position = match rule {
            JoinRule::Name => opinions.len(),
            JoinRule::FirstDot => {
                *positions.entry(first_dot(&label.name)).or_insert(opinions.len())
            }
        };
        match opinions.get_mut(position) {
            Some(opinion) => *opinion = label.opinion,
            None => opinions.push(label.opinion),
        }
    }
    opinions
}
