//! Agreement of two engines on the same images, without people's scores.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::evaluation::error::EvaluationError;
use crate::evaluation::scores::ScoreValue;
use crate::event::QualityEvent;
use crate::method::agreement::{plcc, srcc};

/// The events of two engines, paired by the ids of their references.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnginePairs {
    /// Names of the engines.
    pub engines: EngineNames,
    /// Number of images with events of both.
    pub images: usize,
    /// Number of images without an event of the second engine.
    pub only_first: usize,
    /// Number of images without an event of the first engine.
    pub only_second: usize,
    /// Spearman's rank correlation of the values.
    pub srcc: f64,
    /// Pearson's correlation of the values.
    pub plcc: f64,
    /// Mean of the second engine's values minus the first's.
    pub mean_difference: f64,
    /// Number of images with a verdict of both.
    pub verdicts: usize,
    /// Share of these whose outcomes differ. `None` without verdicts.
    pub changed_verdicts_share: Option<f64>,
}

/// Names and versions of two engines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineNames {
    /// The first engine.
    pub first: String,
    /// The second engine.
    pub second: String,
}

impl EnginePairs {
    /// Pairs the events and compares a value of them. Of repeated events, the last counts.
    ///
    /// # Errors
    /// Fails if there are too few pairs, or if all values of an engine are equal.
    pub fn of(
        first: &[QualityEvent],
        second: &[QualityEvent],
        value: ScoreValue,
    ) -> Result<Self, EvaluationError> {
        let (by_first, by_second) = (by_id(first), by_id(second));
        let ids: BTreeSet<&str> =
            by_first.keys().filter(|id| by_second.contains_key(*id)).copied().collect();
        if ids.is_empty() {
            let id_of = |events: &BTreeMap<&str, _>| {
                events.keys().next().map_or_else(|| "none".to_owned(), |id| format!("`{id}`"))
            };
            return Err(EvaluationError::NoCommonImages {
                first: id_of(&by_first),
                second: id_of(&by_second),
            });
        }
        let (mut ours, mut theirs, mut verdicts, mut changed) = (Vec::new(), Vec::new(), 0, 0);
        for id in &ids {
            let (one, other) = (by_first[id], by_second[id]);
            if let (Some(one), Some(other)) = (value.of(one), value.of(other)) {
                ours.push(one);
                theirs.push(other);
            }
            if let (Some(one), Some(other)) = (&one.verdict, &other.verdict) {
                verdicts += 1;
                changed += usize::from(one.outcome != other.outcome);
            }
        }
        let difference: f64 = theirs.iter().zip(&ours).map(|(theirs, ours)| theirs - ours).sum();
        Ok(Self {
            engines: EngineNames { first: name_of(first), second: name_of(second) },
            images: ours.len(),
            only_first: by_first.len() - ids.len(),
            only_second: by_second.len() - ids.len(),
            srcc: srcc(&theirs, &ours)?,
            plcc: plcc(&theirs, &ours)?,
            mean_difference: difference / ours.len() as f64,
            verdicts,
            changed_verdicts_share: (verdicts > 0).then(|| changed as f64 / verdicts as f64),
        })
    }
}

fn by_id(events: &[QualityEvent]) -> BTreeMap<&str, &QualityEvent> {
    events.iter().map(|event| (event.reference.id.as_str(), event)).collect()
}

fn name_of(events: &[QualityEvent]) -> String {
    let engine = events.first().map(|event| &event.engine);
    engine.map_or_else(String::new, |engine| format!("{} {}", engine.name, engine.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventVerdict;
    use crate::method::PolicyOutcome;

    const EVENT: &str = include_str!("../../schemas/examples/quality-event.json");

    fn event(id: &str, score: f64, outcome: PolicyOutcome) -> QualityEvent {
        let mut event: QualityEvent = serde_json::from_str(EVENT).unwrap();
        id.clone_into(&mut event.reference.id);
        event.score = score;
        event.verdict =
            Some(EventVerdict { policy: "shop".to_owned(), outcome, reasons: Vec::new() });
        event
    }

    #[test]
    fn events_are_paired_by_id_and_the_last_of_repeated_ones_counts() {
        use PolicyOutcome::{Pass, Reject};
        let scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut first: Vec<_> =
            scores.iter().map(|score| event(&format!("id-{score}"), *score, Pass)).collect();
        // In another order. The first two ranks are swapped, and the mean is half a level higher.
        let of_shadow = [(6.0, 6.5), (5.0, 5.5), (4.0, 4.5), (3.0, 3.5), (2.0, 1.5), (1.0, 2.5)];
        let mut second: Vec<_> =
            of_shadow.iter().map(|(id, score)| event(&format!("id-{id}"), *score, Pass)).collect();
        second[0].verdict.as_mut().unwrap().outcome = Reject;
        second.insert(0, event("id-6", 1.0, Pass));
        second.push(event("other", 1.0, Pass));
        first.push(event("one", 1.0, Pass));
        first.push(event("two", 1.0, Pass));
        let pairs = EnginePairs::of(&first, &second, ScoreValue::Score).unwrap();
        assert_eq!((pairs.images, pairs.only_first, pairs.only_second), (6, 2, 1));
        // 1 - 6 · (1 + 1) / (6 · 35)
        assert!((pairs.srcc - (1.0 - 12.0 / 210.0)).abs() < 1e-12, "{}", pairs.srcc);
        assert!((pairs.mean_difference - 0.5).abs() < 1e-12, "{}", pairs.mean_difference);
        assert_eq!((pairs.verdicts, pairs.changed_verdicts_share), (6, Some(1.0 / 6.0)));
        let error = EnginePairs::of(&first[6..], &second[7..], ScoreValue::Score).unwrap_err();
        assert!(error.to_string().contains("`one`"), "{error}");
    }
}
