//! `dogiqa evaluate --engines`: two engines compared by their events, without labels.

use anyhow::bail;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::evaluate::arguments::Args;
use crate::cli::document::{Section, print_document};
use crate::cli::saved_events::read_events;
use crate::evaluation::{EngineNames, EnginePairs};

pub(crate) fn compare_engines(args: &Args) -> anyhow::Result<CommandOutcome> {
    let [first, second] = args.engines.as_slice() else {
        bail!("--engines compares two files; give it once");
    };
    let (first_events, second_events) = (read_events(first)?, read_events(second)?);
    let pairs = EnginePairs::of(&first_events, &second_events, args.value)?;
    print_document(args.format, &[section(&pairs)], &pairs)?;
    Ok(CommandOutcome::Success)
}

fn section(pairs: &EnginePairs) -> Section {
    let EngineNames { first, second } = &pairs.engines;
    let title = format!("{second} against {first}: {} images", pairs.images);
    let mut section = Section::new(title, &["figure", "value"]);
    let mut add = |name: &str, value: Option<f64>| {
        let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        section.rows.push(vec![name.to_owned(), value]);
    };
    add("SRCC", Some(pairs.srcc));
    add("PLCC", Some(pairs.plcc));
    add("mean difference", Some(pairs.mean_difference));
    add("changed verdicts", pairs.changed_verdicts_share);
    section.notes.push(format!(
        "`mean difference`: second minus first. `changed verdicts`: share of {} images with both.",
        pairs.verdicts
    ));
    for (file, count) in [("first", pairs.only_first), ("second", pairs.only_second)] {
        if count > 0 {
            section.notes.push(format!("{count} images are only in the {file} file."));
        }
    }
    section
}
