//! Agreement for each kind of distortion.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evaluation::join::Join;
use crate::evaluation::labels::Labels;
use crate::method::agreement::{plcc, srcc};

/// The agreement of one kind of distortion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindAgreement {
    /// Name of the kind.
    pub kind: String,
    /// Number of images.
    pub images: usize,
    /// Spearman's rank correlation, if it is defined.
    pub srcc: Option<f64>,
    /// Pearson's correlation, if it is defined.
    pub plcc: Option<f64>,
}

/// Computes the agreement of each kind of distortion, in the order of their names. Returns none if
/// the labels have no kinds.
pub fn agreement_by_kind(labels: &Labels, join: &Join) -> Vec<KindAgreement> {
    let mut kinds: BTreeMap<&str, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for ((&label, &score), &opinion) in join.labels.iter().zip(&join.scores).zip(&join.opinions) {
        if let Some(kind) = &labels.labels[label].kind {
            let (scores, opinions) = kinds.entry(kind).or_default();
            scores.push(score);
            opinions.push(opinion);
        }
    }
    let agreement = |(kind, (scores, opinions)): (&str, (Vec<f64>, Vec<f64>))| KindAgreement {
        kind: kind.to_owned(),
        images: scores.len(),
        srcc: srcc(&scores, &opinions).ok(),
        plcc: plcc(&scores, &opinions).ok(),
    };
    kinds.into_iter().map(agreement).collect()
}
