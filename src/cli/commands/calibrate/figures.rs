//! The lines of TOML that `dogiqa calibrate` prints, with their figures as comments.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Serialize;

use crate::evaluation::{
    ChosenThreshold, Interval, MaskCounts, MaskWeight, Prices, Rates, Target, savings,
};
use crate::method::agreement::{plcc, rmse};
use crate::method::{CalibrationSettings, PolicySettings};

/// Maximum number of rows in the table of savings.
const SAVINGS_ROWS_MAX: usize = 15;

/// A policy and how it was chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PolicyFigures<'a> {
    pub(crate) name: &'a str,
    pub(crate) target: Target,
    pub(crate) chosen: &'a ChosenThreshold,
    pub(crate) settings: &'a PolicySettings,
    /// Number of images from which the threshold was chosen.
    pub(crate) images: usize,
    /// Wanted share of images that are decided without people.
    pub(crate) decided: Option<f64>,
}

/// Returns the section of a policy.
pub(crate) fn policy_lines(figures: &PolicyFigures<'_>) -> anyhow::Result<Vec<String>> {
    let PolicyFigures { name, target, chosen, images, decided, .. } = *figures;
    let wanted = match target {
        Target::FalseReject(share) => {
            format!("at most {} of the good images rejected", percent(share))
        }
        Target::FalseAccept(share) => {
            format!("at most {} of the bad images passed", percent(share))
        }
        Target::Precision(share) => {
            format!("at least {} of the passed images good", percent(share))
        }
        Target::RejectShare(share) => format!("at most {} of all images rejected", percent(share)),
    };
    let mut lines = vec![String::new(), format!("# Target: {wanted}; {images} images.")];
    let threshold = bounded(chosen.score_min, chosen.interval, |value| format!("{value:.3}"));
    lines.push(format!("# score_min {threshold}: 95 % interval of the threshold."));
    if let Some(rate) = target.rate(&chosen.rates) {
        let rate = bounded(rate, chosen.rate_interval, percent);
        lines.push(format!("# The target's share on these images: {rate}, 95 % interval."));
    }
    lines.push(format!("# {}", rates_text(&chosen.rates)));
    if let Some(share) = decided {
        lines.push(format!(
            "# review_band: at least {} are decided without people.",
            percent(share)
        ));
    }
    let named = BTreeMap::from([(name, figures.settings)]);
    let policies = BTreeMap::from([("policies", BTreeMap::from([("named", named)]))]);
    lines.extend(toml_lines(&BTreeMap::from([("method", policies)]))?);
    Ok(lines)
}

/// Returns the section of the curve.
pub(crate) fn calibration_lines(
    settings: &CalibrationSettings,
    scores: &[f64],
    opinions: &[f64],
) -> anyhow::Result<Vec<String>> {
    let mapped: Vec<f64> = scores.iter().map(|&score| settings.map(score)).collect();
    let error = rmse(&mapped, opinions)?;
    let correlation =
        plcc(&mapped, opinions).map_or_else(|_| "-".to_owned(), |it| format!("{it:.3}"));
    let images = scores.len();
    let mut lines = vec![
        String::new(),
        format!(
            "# From scores to people's scale: {images} images, RMSE {error:.3}, PLCC {correlation}."
        ),
        "# Both figures are those of the images of the fit.".to_owned(),
    ];
    let calibration = BTreeMap::from([("calibration", settings)]);
    lines.extend(toml_lines(&BTreeMap::from([("method", calibration)]))?);
    Ok(lines)
}

/// Returns the section of the points for masks.
pub(crate) fn mask_lines(counts: &MaskCounts, best: &MaskWeight) -> Vec<String> {
    let MaskCounts { least, median, mean, percentile_95, most } = counts;
    let weight = bounded(best.weight, best.interval, |value| format!("{value:.3}"));
    let gain = best.srcc - best.srcc_without;
    let mut lines = vec![
        String::new(),
        format!(
            "# Masks of an image: {least} to {most}, median {median}, mean {mean:.1}, 95 % below \
             {percentile_95:.0}."
        ),
        format!("# With the bonus `auto`, c_max = {most} would give {most} masks K points."),
        format!("# Best points for a mask: {weight}, 95 % interval."),
        format!(
            "# SRCC {:.3} with them (cross-validated), {:.3} without points for masks: {}.",
            best.srcc,
            best.srcc_without,
            if gain > 0.0 { format!("a gain of {gain:.3}") } else { "no gain".to_owned() }
        ),
        "[method.aggregation]".to_owned(),
    ];
    // A bonus that does not help other images is left out.
    let bonus = if gain > 0.0 { best.weight } else { 0.0 };
    lines.push(format!("mask_bonus = {bonus:.3}"));
    lines.push("# It changes the formula: score again before you choose thresholds.".to_owned());
    lines
}

/// Returns a table of the costs at evenly spaced thresholds, as comments.
pub(crate) fn savings_lines(curve: &[(f64, Rates)], prices: &Prices) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "# Cost of one good image that a person has accepted (formula of arXiv 2510.16179):"
            .to_owned(),
        "#  score_min    kept  precision    cost   saved".to_owned(),
    ];
    let step = curve.len().div_ceil(SAVINGS_ROWS_MAX).max(1);
    for (threshold, rates) in curve.iter().step_by(step) {
        let Some(costs) = savings(rates, prices) else { continue };
        lines.push(format!(
            "#  {threshold:>9.3}  {:>6}  {:>9}  {:>6.2}  {:>6}",
            percent(1.0 - rates.reject_share),
            rates.precision.map_or_else(|| "-".to_owned(), percent),
            costs.cost_with,
            percent(costs.share()),
        ));
    }
    lines
}

fn rates_text(rates: &Rates) -> String {
    let named = [
        ("rejected", Some(rates.reject_share)),
        ("good images rejected", rates.false_reject),
        ("bad images passed", rates.false_accept),
        ("precision", rates.precision),
    ];
    let texts =
        named.iter().filter_map(|(name, rate)| Some(format!("{name} {}", percent((*rate)?))));
    texts.collect::<Vec<_>>().join(", ")
}

fn bounded(value: f64, interval: Option<Interval>, show: impl Fn(f64) -> String) -> String {
    match interval {
        Some(Interval { low, high }) => format!("{} [{}, {}]", show(value), show(low), show(high)),
        None => show(value),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Writes nested sections as TOML.
fn toml_lines(sections: &impl Serialize) -> anyhow::Result<Vec<String>> {
    let text = toml::to_string(sections).context("writing TOML")?;
    Ok(text.lines().map(str::to_owned).collect())
}
