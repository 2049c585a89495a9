//! The run of `dogiqa calibrate`.

use std::fs;

use anyhow::{Context, anyhow, bail};

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::calibrate::arguments::{Args, MapForm};
use crate::cli::commands::calibrate::curve_picture::curve_svg;
use crate::cli::commands::calibrate::figures::{
    PolicyFigures, calibration_lines, mask_lines, policy_lines, savings_lines,
};
use crate::cli::commands::calibrate::images::{CalibrationImages, LabelledScores};
use crate::cli::terminal::{print_result, print_status};
use crate::evaluation::{
    Target, best_mask_weight, choose_threshold, isotonic, mask_counts, review_band, threshold_curve,
};
use crate::event::QualityEvent;
use crate::method::agreement::Logistic;
use crate::method::{CalibrationSettings, PolicySettings};

/// Maximum number of points of a fitted curve.
const CURVE_POINTS_MAX: usize = 40;

pub(crate) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    if args.target().is_none() && args.map.is_none() && !args.mask_bonus {
        bail!(
            "nothing to calibrate; give a target (--reject-share, --false-reject, --false-accept \
             or --precision), --map or --mask-bonus"
        );
    }
    let images = CalibrationImages::read(args)?;
    let mut lines = vec![format!("# Calibrated on {} events.", images.events.len())];
    // The target of each policy has the labels of its own images.
    let of_all = args.target().filter(|_| !args.per_policy);
    if args.mask_bonus || args.map.is_some() || of_all.is_some() {
        let labelled = images.labelled(args.basis())?;
        let labelled = labelled.as_ref();
        if args.mask_bonus {
            lines.extend(mask_bonus(args, &images, labelled)?);
        }
        if let Some(form) = args.map {
            lines.extend(map(args, &images, labelled, form)?);
        }
        if let Some(target) = of_all {
            lines.extend(policy(args, (&args.policy, &images, labelled), target)?);
        }
    }
    if let Some(target) = args.target().filter(|_| args.per_policy) {
        let groups = images.by_policy();
        if groups.is_empty() {
            bail!("no event has the verdict of a policy; leave out --per-policy");
        }
        for (name, group) in groups {
            let labelled = group.labelled(args.basis());
            let policy = labelled
                .and_then(|labelled| policy(args, (&name, &group, labelled.as_ref()), target));
            lines.extend(policy.with_context(|| format!("policy {name}"))?);
        }
    }
    for line in lines {
        print_result(&line)?;
    }
    Ok(CommandOutcome::Success)
}

/// Chooses the threshold of a policy from its images.
fn policy(
    args: &Args,
    (name, images, labelled): (&str, &CalibrationImages, Option<&LabelledScores<'_>>),
    target: Target,
) -> anyhow::Result<Vec<String>> {
    let basis = args.basis();
    let accepted = accepted(args, labelled);
    // A share of rejects holds for all images, the other rates for those with labels.
    let all_scores = images.scores(basis);
    let (scores, accepted) = match (labelled, &accepted) {
        (Some(labelled), Some(accepted)) => (&labelled.scores, Some(accepted.as_slice())),
        _ => (&all_scores, None),
    };
    let chosen = choose_threshold(scores, accepted, target, &args.bootstrap())?;
    let band = args.decided.map(|share| review_band(&all_scores, chosen.score_min, share));
    let curve = threshold_curve(scores, accepted);
    if let Some(path) = &args.curve {
        let path = if args.per_policy {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{stem}-{name}.svg"))
        } else {
            path.clone()
        };
        let svg = curve_svg(&curve, chosen.score_min);
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
        print_status(&format!("curve: {}", path.display()));
    }
    let settings = PolicySettings {
        formula: images.formula,
        score_min: Some(chosen.score_min),
        review_band: band.unwrap_or(0.0),
        basis,
        ..PolicySettings::default()
    };
    let figures = PolicyFigures {
        name,
        target,
        chosen: &chosen,
        settings: &settings,
        images: scores.len(),
        decided: args.decided,
    };
    let mut lines = policy_lines(&figures)?;
    if let Some(prices) = args.prices() {
        if accepted.is_none() {
            bail!(
                "a table of savings needs to know which images are good: --decisions, or --labels \
                   with --good-from"
            );
        }
        lines.extend(savings_lines(&curve, &prices));
    }
    Ok(lines)
}

/// Returns which labelled images are good, if that is known.
fn accepted(args: &Args, labelled: Option<&LabelledScores<'_>>) -> Option<Vec<bool>> {
    // A decision to accept is an opinion of 1.
    let good_from = if args.decisions.is_some() { Some(0.5) } else { args.good_from };
    let (labelled, good_from) = (labelled?, good_from?);
    Some(labelled.opinions.iter().map(|opinion| *opinion >= good_from).collect())
}

/// Fits the curve to people's scale.
fn map(
    args: &Args,
    images: &CalibrationImages,
    labelled: Option<&LabelledScores<'_>>,
    form: MapForm,
) -> anyhow::Result<Vec<String>> {
    let basis = args.basis();
    let LabelledScores { scores, opinions, .. } =
        labelled.ok_or_else(|| anyhow!("--map needs labels"))?;
    let mut settings =
        CalibrationSettings { formula: images.formula, basis, points: Vec::new(), logistic: None };
    match form {
        MapForm::Logistic => settings.logistic = Some(Logistic::fit(scores, opinions)?),
        MapForm::Isotonic => settings.points = isotonic(scores, opinions, CURVE_POINTS_MAX)?,
    }
    settings.check(images.formula).context("the fitted curve")?;
    calibration_lines(&settings, scores, opinions)
}

/// Finds the points for each mask.
fn mask_bonus(
    args: &Args,
    images: &CalibrationImages,
    labelled: Option<&LabelledScores<'_>>,
) -> anyhow::Result<Vec<String>> {
    let count = |event: &QualityEvent| f64::from(event.segmentation.mask_count);
    let all: Vec<f64> = images.events.iter().map(count).collect();
    let counts = mask_counts(&all).ok_or_else(|| anyhow!("there are no events"))?;
    let LabelledScores { scores, opinions, events } =
        labelled.ok_or_else(|| anyhow!("--mask-bonus needs labels"))?;
    let labelled = scores.iter().zip(events);
    let without: Vec<f64> =
        labelled.map(|(score, event)| score - event.segmentation.score).collect();
    let masks: Vec<f64> = events.iter().copied().map(count).collect();
    let best = best_mask_weight(&without, &masks, opinions, &args.bootstrap())?;
    Ok(mask_lines(&counts, &best))
}
