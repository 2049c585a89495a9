//! `dogiqa models list`: prints presets, bundles, and what else is in the cache.

use bytesize::ByteSize;
use clap::ValueEnum;
use serde_json::json;

use crate::checkpoints::hub::{
    BUNDLES, CachedModel, HubError, HubModel, ModelPreset, PRESETS, cached_models, snapshot,
};
use crate::checkpoints::metrics::{
    MetricFilesError, PUBLISHED_PARAMETERS, PublishedParameters, parameter_files,
};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::terminal::print_result;

/// Hexadecimal digits of a commit in the table.
const COMMIT_DIGITS: usize = 12;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dogiqa models list\n  \
                  dogiqa models list --format json | jq '.cached[].repo'")]
pub(crate) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// Aligned lines, for people
    Table,
    /// One JSON document with the presets, the bundles and every commit in the cache
    Json,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    match args.format {
        ListFormat::Table => print_table()?,
        ListFormat::Json => print_result(&document().to_string())?,
    }
    Ok(CommandOutcome::Success)
}

fn print_table() -> anyhow::Result<()> {
    print_result(&row(["preset", "about", "licence", "here", "repository"]))?;
    for preset in &PRESETS {
        let size = preset.bytes.map_or_else(|| "-".to_owned(), size);
        let alias = preset.alias.map(|alias| format!(" (or {alias})")).unwrap_or_default();
        print_result(&row([
            preset.name,
            &size,
            preset.licence,
            presence(preset),
            &format!("{}{alias}", preset.repo),
        ]))?;
    }
    print_result("")?;
    for bundle in BUNDLES {
        print_result(&format!(
            "{:<11} {}: {}",
            bundle.name,
            bundle.models.join(" + "),
            bundle.purpose
        ))?;
    }
    print_result("\nparameters of metrics")?;
    for published in &PUBLISHED_PARAMETERS {
        print_result(&row([
            published.metric.name(),
            &size(published.bytes()),
            published.licence,
            presence_of_parameters(published),
            &format!("https://github.com/{}", published.repo),
        ]))?;
    }
    let is_preset = |model: &CachedModel| PRESETS.iter().any(|preset| preset.repo == model.repo);
    let others: Vec<_> = cached_models().into_iter().filter(|model| !is_preset(model)).collect();
    if !others.is_empty() {
        print_result("\nother models in the cache")?;
    }
    for model in others {
        let commit: String = model.commit.chars().take(COMMIT_DIGITS).collect();
        let revision = model.revisions.join(", ");
        print_result(&format!(
            "{:<40} {:>8}  {commit}  {revision}",
            model.repo,
            size(model.bytes)
        ))?;
    }
    Ok(())
}

fn document() -> serde_json::Value {
    let presets = PRESETS.iter().map(|preset| {
        json!({
            "name": preset.name,
            "alias": preset.alias,
            "repo": preset.repo,
            "bytes": preset.bytes,
            "licence": preset.licence,
            "here": presence(preset),
        })
    });
    let bundles = BUNDLES.iter().map(
        |bundle| json!({"name": bundle.name, "models": bundle.models, "purpose": bundle.purpose}),
    );
    let cached = cached_models().into_iter().map(|model| {
        json!({
            "repo": model.repo,
            "revisions": model.revisions,
            "commit": model.commit,
            "bytes": model.bytes,
            "folder": model.folder,
        })
    });
    let metrics = PUBLISHED_PARAMETERS.iter().map(|published| {
        json!({
            "name": published.metric.name(),
            "repo": published.repo,
            "commit": published.commit,
            "bytes": published.bytes(),
            "licence": published.licence,
            "here": presence_of_parameters(published),
        })
    });
    json!({
        "metrics": metrics.collect::<Vec<_>>(),
        "presets": presets.collect::<Vec<_>>(),
        "bundles": bundles.collect::<Vec<_>>(),
        "cached": cached.collect::<Vec<_>>(),
    })
}

/// Says if a preset is in the cache.
fn presence(preset: &ModelPreset) -> &'static str {
    let model = HubModel::new(preset.name).expect("a preset has a repository");
    match snapshot(&model) {
        Ok(_) => "yes",
        Err(HubError::Partial { .. }) => "partly",
        Err(HubError::Absent { .. }) => "no",
        Err(_) => "broken",
    }
}

/// Says if the parameters of a metric are in the cache.
fn presence_of_parameters(published: &PublishedParameters) -> &'static str {
    match parameter_files(published) {
        Ok(files) if files.iter().all(|file| file.is_published) => "yes",
        Err(MetricFilesError::Absent { .. }) => "no",
        _ => "broken",
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

fn row([name, size, licence, here, repo]: [&str; 5]) -> String {
    format!("{name:<21} {size:>8}  {licence:<14}  {here:<6}  {repo}")
}
