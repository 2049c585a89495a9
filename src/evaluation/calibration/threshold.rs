//! Thresholds of a policy for a wanted rate, and the rates of a threshold.

use thiserror::Error;

use crate::evaluation::bootstrap::{Bootstrap, Interval, quantile};

/// The rate that a threshold should keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most this share of the good images is rejected.
    FalseReject(f64),
    /// At most this share of the bad images passes.
    FalseAccept(f64),
    /// At least this share of the images that pass is good.
    Precision(f64),
    /// At most this share of all images is rejected. Needs no labels.
    RejectShare(f64),
}

/// A target that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// There are no images.
    #[error("there are no scores")]
    NoScores,
    /// The rate needs to know which images are good.
    #[error("the target needs labels: people's scores with --good-from, or accept and reject")]
    NoLabels,
    /// All images are good, or all are bad.
    #[error("all labelled images are {0}; the target needs good and bad ones")]
    OneKind(&'static str),
    /// Even the highest threshold does not reach the precision.
    #[error("no threshold reaches the precision; the best one reaches {0}")]
    Unreachable(String),
}

/// The rates of a threshold: an image with a score below it is rejected. A rate over no images is
/// absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Share of all images that is rejected.
    pub reject_share: f64,
    /// Share of the good images among all.
    pub good_share: Option<f64>,
    /// Share of the good images that is rejected.
    pub false_reject: Option<f64>,
    /// Share of the bad images that passes.
    pub false_accept: Option<f64>,
    /// Share of good images among those that pass.
    pub precision: Option<f64>,
}

/// A threshold and its quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChosenThreshold {
    /// The threshold.
    pub score_min: f64,
    /// 95 % interval of the threshold, from resampled images.
    pub interval: Option<Interval>,
    /// Rates of the threshold on these images.
    pub rates: Rates,
    /// 95 % interval of the target's rate at the threshold.
    pub rate_interval: Option<Interval>,
}

/// Returns the rates of a threshold. `accepted` tells which images are good.
pub fn rates(scores: &[f64], accepted: Option<&[bool]>, threshold: f64) -> Rates {
    let mut counts = Counts::default();
    for (index, &score) in scores.iter().enumerate() {
        counts.add(score >= threshold, accepted.map(|accepted| accepted[index]));
    }
    counts.rates()
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    passed: usize,
    rejected: usize,
    good_passed: usize,
    good_rejected: usize,
    bad_passed: usize,
    bad_rejected: usize,
}

impl Counts {
    fn add(&mut self, passes: bool, is_good: Option<bool>) {
        self.passed += usize::from(passes);
        self.rejected += usize::from(!passes);
        match (passes, is_good) {
            (true, Some(true)) => self.good_passed += 1,
            (true, Some(false)) => self.bad_passed += 1,
            (false, Some(true)) => self.good_rejected += 1,
            (false, Some(false)) => self.bad_rejected += 1,
            (_, None) => {}
        }
    }

    fn rates(&self) -> Rates {
        let share = |part: usize, rest: usize| {
            let whole = part + rest;
            (whole > 0).then(|| part as f64 / whole as f64)
        };
        let good = self.good_passed + self.good_rejected;
        let bad = self.bad_passed + self.bad_rejected;
        Rates {
            reject_share: share(self.rejected, self.passed).unwrap_or(0.0),
            good_share: share(good, bad),
            false_reject: share(self.good_rejected, self.good_passed),
            false_accept: share(self.bad_passed, self.bad_rejected),
            precision: share(self.good_passed, self.bad_passed),
        }
    }
}

impl Target {
    /// Returns the rate of the target.
    pub fn rate(self, rates: &Rates) -> Option<f64> {
        match self {
            Self::FalseReject(_) => rates.false_reject,
            Self::FalseAccept(_) => rates.false_accept,
            Self::Precision(_) => rates.precision,
            Self::RejectShare(_) => Some(rates.reject_share),
        }
    }

    fn check(self, scores: &[f64], accepted: Option<&[bool]>) -> Result<(), TargetError> {
        if scores.is_empty() {
            return Err(TargetError::NoScores);
        }
        if matches!(self, Self::RejectShare(_)) {
            return Ok(());
        }
        let accepted = accepted.ok_or(TargetError::NoLabels)?;
        match (accepted.contains(&true), accepted.contains(&false)) {
            (true, true) => Ok(()),
            (true, false) => Err(TargetError::OneKind("good")),
            (false, _) => Err(TargetError::OneKind("bad")),
        }
    }

    /// Returns the best threshold by the target, or `None` if none meets it.
    fn choose(self, scores: &[f64], accepted: Option<&[bool]>) -> Option<f64> {
        let curve = threshold_curve(scores, accepted);
        let meets = |(_, rates): &&(f64, Rates)| match self {
            Self::FalseReject(most) => rates.false_reject.is_none_or(|rate| rate <= most),
            Self::FalseAccept(most) => rates.false_accept.is_none_or(|rate| rate <= most),
            Self::Precision(least) => rates.precision.is_some_and(|rate| rate >= least),
            Self::RejectShare(most) => rates.reject_share <= most,
        };
        // Both limits on rejects allow low thresholds; of those the highest keeps out most. The
        // other two demand a high threshold; of those the lowest keeps most images.
        match self {
            Self::FalseReject(_) | Self::RejectShare(_) => curve.iter().rev().find(meets),
            Self::FalseAccept(_) | Self::Precision(_) => curve.iter().find(meets),
        }
        .map(|(threshold, _)| *threshold)
    }
}

/// Returns the rates of every threshold that makes a difference, in ascending order: one below all
/// scores, one between each two neighbours, one above all.
pub fn threshold_curve(scores: &[f64], accepted: Option<&[bool]>) -> Vec<(f64, Rates)> {
    let mut images: Vec<(f64, Option<bool>)> = scores
        .iter()
        .enumerate()
        .map(|(index, &score)| (score, accepted.map(|accepted| accepted[index])))
        .collect();
    images.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut counts = Counts::default();
    for (_, is_good) in &images {
        counts.add(true, *is_good);
    }
    let mut curve = Vec::new();
    let mut below = None;
    for tie in images.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let score = tie[0].0;
        let threshold = below.map_or(score, |below: f64| short_threshold(below, score));
        curve.push((threshold, counts.rates()));
        for (_, is_good) in tie {
            counts.passed -= 1;
            counts.rejected += 1;
            match is_good {
                Some(true) => {
                    counts.good_passed -= 1;
                    counts.good_rejected += 1;
                }
                Some(false) => {
                    counts.bad_passed -= 1;
                    counts.bad_rejected += 1;
                }
                None => {}
            }
        }
        below = Some(score);
    }
    if let Some(highest) = below {
        curve.push((short_threshold(highest, highest + 1.0), counts.rates()));
    }
    curve
}

/// Returns a number with few decimals that is above `below` and at most `above`, near their middle.
pub fn short_threshold(below: f64, above: f64) -> f64 {
    let middle = f64::midpoint(below, above);
    let rounded = (0..=9).map(|decimals| {
        let scale = 10_f64.powi(decimals);
        (middle * scale).round() / scale
    });
    let mut separating = rounded.into_iter().filter(|value| below < *value && *value <= above);
    separating.next().unwrap_or(above)
}

/// Chooses the threshold for a target. The intervals come from resampled images.
///
/// # Errors
/// Fails without the labels that the target needs, and if no threshold meets it.
pub fn choose_threshold(
    scores: &[f64],
    accepted: Option<&[bool]>,
    target: Target,
    bootstrap: &Bootstrap,
) -> Result<ChosenThreshold, TargetError> {
    target.check(scores, accepted)?;
    let score_min = target.choose(scores, accepted).ok_or_else(|| {
        let curve = threshold_curve(scores, accepted);
        let best = curve.iter().filter_map(|(_, rates)| target.rate(rates)).fold(0.0, f64::max);
        TargetError::Unreachable(format!("{best:.3}"))
    })?;
    let resampled = bootstrap.run(scores.len(), |drawn| {
        let drawn_scores: Vec<f64> = drawn.iter().map(|&index| scores[index]).collect();
        let drawn_accepted: Option<Vec<bool>> =
            accepted.map(|accepted| drawn.iter().map(|&index| accepted[index]).collect());
        let drawn_accepted = drawn_accepted.as_deref();
        let threshold = target.choose(&drawn_scores, drawn_accepted)?;
        let rate = target.rate(&rates(&drawn_scores, drawn_accepted, score_min))?;
        Some((threshold, rate))
    });
    let (thresholds, shares): (Vec<f64>, Vec<f64>) = resampled.into_iter().unzip();
    Ok(ChosenThreshold {
        score_min,
        interval: Interval::of(thresholds),
        rates: rates(scores, accepted, score_min),
        rate_interval: Interval::of(shares),
    })
}

/// Returns the review band around a threshold with which at least this share of the images is
/// decided without people. An image is reviewed if its score is in `threshold − band ..
/// threshold + band`.
pub fn review_band(scores: &[f64], threshold: f64, decided_share: f64) -> f64 {
    let mut distances: Vec<f64> = scores.iter().map(|score| (score - threshold).abs()).collect();
    distances.sort_by(f64::total_cmp);
    let band = quantile(&distances, 1.0 - decided_share).unwrap_or(0.0);
    let reviewed = |band: f64| {
        let within = scores.iter().filter(|&&it| it >= threshold - band && it < threshold + band);
        within.count() as f64 / scores.len().max(1) as f64
    };
    // Rounded down to three decimals, so that no image at the edge falls into the band.
    let mut band = (band * 1e3).floor() / 1e3;
    while band > 0.0 && reviewed(band) > 1.0 - decided_share {
        // Many images with one score at the edge: the next smaller distance leaves them out.
        let below = distances.iter().rev().find(|distance| **distance < band);
        band = below.map_or(0.0, |distance| (distance * 1e3).floor() / 1e3);
    }
    band
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ten() -> (Vec<f64>, Vec<bool>) {
        let scores = (0..10).map(|index| f64::from(index) / 2.0).collect();
        // Bad: 0.0, 0.5, 1.0, 2.0; good: 1.5 and 2.5 to 4.5.
        let accepted = [false, false, false, true, false, true, true, true, true, true];
        (scores, accepted.to_vec())
    }

    #[test]
    fn each_target_gets_the_threshold_that_keeps_its_rate() {
        let (scores, accepted) = ten();
        let choose = |target| {
            let chosen =
                choose_threshold(&scores, Some(&accepted), target, &Bootstrap::default()).unwrap();
            let interval = chosen.interval.unwrap();
            assert!(interval.low <= chosen.score_min && chosen.score_min <= interval.high);
            (chosen.score_min, target.rate(&chosen.rates).unwrap())
        };
        // No good image is lost below 1.5.
        let (threshold, rate) = choose(Target::FalseReject(0.0));
        assert!(1.0 < threshold && threshold <= 1.5 && rate <= 0.0);
        // One of six good images may be lost: 1.5.
        let (threshold, rate) = choose(Target::FalseReject(0.2));
        assert!(2.0 < threshold && threshold <= 2.5 && (rate - 1.0 / 6.0).abs() < 1e-12);
        let (threshold, rate) = choose(Target::FalseAccept(0.25));
        assert!(1.0 < threshold && threshold <= 1.5 && (rate - 0.25).abs() < 1e-12);
        let (threshold, rate) = choose(Target::Precision(1.0));
        assert!(2.0 < threshold && threshold <= 2.5 && rate >= 1.0);
        let (threshold, rate) = choose(Target::RejectShare(0.3));
        assert!(1.0 < threshold && threshold <= 1.5 && (rate - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_target_without_its_labels_or_out_of_reach_is_an_error() {
        let (scores, accepted) = ten();
        let choose = |accepted: Option<&[bool]>, target| {
            choose_threshold(&scores, accepted, target, &Bootstrap::default()).unwrap_err()
        };
        assert_eq!(choose(None, Target::Precision(0.5)), TargetError::NoLabels);
        let all_good = vec![true; 10];
        assert_eq!(choose(Some(&all_good), Target::FalseAccept(0.1)), TargetError::OneKind("good"));
        let best_is_bad: Vec<bool> = accepted.iter().map(|good| !good).collect();
        let error = choose(Some(&best_is_bad), Target::Precision(0.9));
        assert!(matches!(error, TargetError::Unreachable(_)), "{error}");
    }

    #[test]
    fn a_threshold_has_few_decimals_and_separates_its_neighbours() {
        assert!((short_threshold(1.0, 1.5) - 1.3).abs() < 1e-12);
        assert!((short_threshold(3.999, 4.001) - 4.0).abs() < 1e-12);
        assert!((short_threshold(0.2, 3.0) - 2.0).abs() < 1e-12);
        let next = 1.0_f64.next_up();
        assert!((short_threshold(1.0, next) - next).abs() < f64::EPSILON / 2.0);
    }

    proptest! {
        #[test]
        fn the_curve_has_the_rates_of_its_thresholds(
            images in prop::collection::vec((0_u8..8, any::<bool>()), 1..40)
        ) {
            let scores: Vec<f64> = images.iter().map(|image| f64::from(image.0)).collect();
            let accepted: Vec<bool> = images.iter().map(|image| image.1).collect();
            for (threshold, expected) in threshold_curve(&scores, Some(&accepted)) {
                prop_assert_eq!(rates(&scores, Some(&accepted), threshold), expected);
            }
        }

        #[test]
        fn the_review_band_leaves_the_wanted_share_decided(
            scores in prop::collection::vec(0.0..7.0_f64, 1..60),
            threshold in 0.0..7.0_f64,
            decided in 0.0..1.0_f64,
        ) {
            let band = review_band(&scores, threshold, decided);
            let reviewed =
                scores.iter().filter(|&&it| it >= threshold - band && it < threshold + band);
            prop_assert!(reviewed.count() as f64 <= (1.0 - decided) * scores.len() as f64 + 1e-9);
        }
    }
}
