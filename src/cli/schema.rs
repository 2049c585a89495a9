//! `dogiqa schema`: the wire contract, printed or written.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use crate::event::schema;

use super::Outcome;
use super::output::say;

/// What to print and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa schema quality-event.schema.json | jq .properties.score")]
pub(super) struct Args {
    /// One document by its file name; without it the names are listed
    name: Option<String>,
    /// Write all documents into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let documents = schema::documents();
    if let Some(folder) = &args.write {
        for (name, document) in &documents {
            let path = folder.join(name);
            let parent = path.parent().context("a document has a folder")?;
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            let text = serde_json::to_string_pretty(document)? + "\n";
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            say(&path.display().to_string())?;
        }
        return Ok(Outcome::Done);
    }
    let Some(wanted) = &args.name else {
        for (name, _) in &documents {
            say(name)?;
        }
        return Ok(Outcome::Done);
    };
    let found = documents.iter().find(|(name, _)| name == wanted);
    let (_, document) = found
        .with_context(|| format!("no document `{wanted}`\nhint: `dogiqa schema` lists them"))?;
    say(&serde_json::to_string_pretty(document)?)?;
    Ok(Outcome::Done)
}
