//! Scores the images of a data set, with progress, and continues an interrupted run.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use tempfile::TempDir;

use crate::cli::commands::evaluate::data_folder::DataFolder;
use crate::cli::image_arguments::resolve_references;
use crate::cli::journey_setup::IN_FLIGHT_MAX;
use crate::cli::saved_events::EventFile;
use crate::cli::terminal::{image_bar, print_status};
use crate::config::Settings;
use crate::evaluation::{JoinOptions, JoinRule, last_segment, match_names, no_pairs};
use crate::event::{ImageReference, QualityEvent};
use crate::pipeline::Journey;
use crate::redact;

/// The labelled images of a data set and the settings that allow reading them.
#[derive(Debug)]
pub(crate) struct ImagesToScore {
    pub(crate) references: Vec<ImageReference>,
    /// Number of images that cannot be read.
    pub(crate) unreadable: usize,
}

/// The result of scoring.
#[derive(Debug, Default)]
pub(crate) struct ScoredImages {
    pub(crate) events: Vec<QualityEvent>,
    /// Number of images that could not be scored. Each was reported on standard error.
    pub(crate) failed: usize,
}

/// Finds the images that have a label. Images without a label are counted on standard error, and so
/// are labels without an image.
///
/// # Errors
/// Fails if there are no images, or none has a label.
pub(crate) fn labelled_images(
    folder: &DataFolder,
    options: &JoinOptions,
) -> anyhow::Result<Vec<PathBuf>> {
    let paths = folder.images()?;
    let names: Vec<[String; 1]> = paths.iter().map(|path| [path.display().to_string()]).collect();
    let images: Vec<&[String]> = names.iter().map(|names| &names[..]).collect();
    let matches = match_names(&folder.labels, &images, options.rule);
    let (mut wanted, mut without_image, mut ambiguous) = (Vec::new(), Vec::new(), Vec::new());
    for (label, files) in matches.labels {
        let name = &folder.labels.labels[label].name;
        match (&files[..], options.rule) {
            ([], _) => without_image.push(name.clone()),
            ([file], _) => wanted.push(*file),
            ([.., last], rule) => {
                ambiguous.push(name.clone());
                if rule == JoinRule::FirstDot {
                    wanted.push(*last);
                }
            }
        }
    }
    let unlabelled: Vec<String> =
        matches.without_label.iter().map(|file| names[*file][0].clone()).collect();
    report("labels have no image", &without_image);
    report("images have no label", &unlabelled);
    report("names of images are several files", &ambiguous);
    if wanted.is_empty() {
        let first = names.first().map_or("no image", |names| last_segment(&names[0]));
        return Err(no_pairs(&folder.labels, names.len(), first).into());
    }
    wanted.sort_unstable();
    Ok(wanted.into_iter().map(|file| paths[file].clone()).collect())
}

/// Makes references of the labelled images, and allows `settings` to read them.
///
/// # Errors
/// Fails like [`labelled_images`].
pub(crate) fn images_to_score(
    folder: &DataFolder,
    options: &JoinOptions,
    settings: &mut Settings,
) -> anyhow::Result<ImagesToScore> {
    let paths = labelled_images(folder, options)?;
    let arguments: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let no_stdin = TempDir::new().context("a temporary folder")?;
    let resolved = resolve_references(&arguments, &no_stdin, settings)?;
    Ok(ImagesToScore { references: resolved.references, unreadable: resolved.failed })
}

/// Prints how many names there are, and the first of them.
fn report(problem: &str, names: &[String]) {
    if let Some(first) = names.first() {
        print_status(&format!("{} {problem}, such as {first}", names.len()));
    }
}

/// Scores the images, except those that `file` has already, and appends each event to it.
///
/// # Errors
/// Fails if the events in the file are of another engine or other settings, or if the file cannot
/// be written. An image that cannot be scored is counted.
pub(crate) async fn score_images(
    journey: &Journey,
    images: ImagesToScore,
    file: Option<(EventFile, Vec<QualityEvent>)>,
) -> anyhow::Result<ScoredImages> {
    let (mut file, saved) = match file {
        Some((file, saved)) => (Some(file), saved),
        None => (None, Vec::new()),
    };
    if saved.iter().any(|event| event.engine != *journey.provenance()) {
        bail!(
            "the events in the file of --save are of another engine or other settings; use those, \
             or name another file"
        );
    }
    let done: HashSet<&str> = saved.iter().map(|event| event.reference.uri.as_str()).collect();
    let total = images.references.len() as u64;
    let left = images.references.iter().filter(|it| !done.contains(it.uri.as_str()));
    let left: Vec<ImageReference> = left.cloned().collect();
    let progress = image_bar(total)?;
    progress.set_position(total - left.len() as u64);
    // Saved images took no time in this run, so they do not count for the rate.
    progress.reset_eta();

    let mut scored = ScoredImages { failed: images.unreadable, events: saved };
    let assess = |reference: ImageReference| async move {
        (reference.id.clone(), journey.assess(reference, None).await)
    };
    let mut results =
        std::pin::pin!(stream::iter(left).map(assess).buffer_unordered(IN_FLIGHT_MAX));
    while let Some((id, result)) = results.next().await {
        progress.inc(1);
        match result {
            Ok(event) => {
                if let Some(file) = &mut file {
                    file.append(&event)?;
                }
                scored.events.push(event);
            }
            Err(failure) => {
                scored.failed += 1;
                let text = format!("{}: {}", redact::id(&id), failure.with_code());
                progress.suspend(|| print_status(&text));
            }
        }
    }
    progress.finish_and_clear();
    // The order of the events must not depend on the order in which the images were finished.
    scored.events.sort_by(|a, b| a.reference.uri.cmp(&b.reference.uri));
    Ok(scored)
}
