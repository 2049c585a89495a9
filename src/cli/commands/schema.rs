//! `dogiqa schema`: prints or writes the wire contract.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::terminal::print_result;
use crate::event::schema;
use crate::serve::openapi;

const EXAMPLES: &str = "Examples:\n  \
    dogiqa schema quality-event.schema.json | jq .properties.score\n  dogiqa schema --write schemas/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// File name of the document to print. Without it, the names of all documents are listed
    name: Option<String>,
    /// Write all documents into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let openapi = ("openapi.json".to_owned(), openapi());
    let documents: Vec<_> = schema::documents().into_iter().chain([openapi]).collect();
    if let Some(folder) = &args.write {
        for (name, document) in &documents {
            let path = folder.join(name);
            let parent = path.parent().context("a document has a folder")?;
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            let text = serde_json::to_string_pretty(document)? + "\n";
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            print_result(&path.display().to_string())?;
        }
        return Ok(CommandOutcome::Success);
    }
    let Some(wanted) = &args.name else {
        for (name, _) in &documents {
            print_result(name)?;
        }
        return Ok(CommandOutcome::Success);
    };
    let found = documents.iter().find(|(name, _)| name == wanted);
    let (_, document) = found
        .with_context(|| format!("no document `{wanted}`\nhint: `dogiqa schema` lists them"))?;
    print_result(&serde_json::to_string_pretty(document)?)?;
    Ok(CommandOutcome::Success)
}
