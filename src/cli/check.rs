//! `dogiqa check`: everything the worker will need, tried before it goes live.

use std::io;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::storage::Stores;
use crate::stream::{TopicReport, probe};

use super::memory::MemoryPlan;
use super::output::say;
use super::{Outcome, build};

/// Fewer replicas can lose an acknowledged answer with one broker.
const REPLICAS_MIN: usize = 3;

/// Nothing beside the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa check --config dogiqa.toml")]
pub(super) struct Args {}

/// What was tried, and what came of it.
struct Finding {
    verdict: Verdict,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    Warning,
    Broken,
}

pub(super) async fn run(_args: Args, settings: Settings) -> anyhow::Result<Outcome> {
    let mut findings = vec![finding(Verdict::Fine, "configuration is well formed")];
    findings.extend(storage(&settings).await);
    findings.extend(engine(&settings).await);
    findings.extend(kafka(&settings).await?);
    for finding in &findings {
        tell(finding)?;
    }
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Broken);
    Ok(if broken { Outcome::Negative } else { Outcome::Done })
}

async fn storage(settings: &Settings) -> Vec<Finding> {
    let stores = match Stores::new(&settings.storage) {
        Ok(stores) => stores,
        Err(error) => return vec![finding(Verdict::Broken, format!("storage: {error}"))],
    };
    let places = stores.check().await;
    if places.is_empty() {
        let hint = "storage: nothing may be read; add storage.allow_buckets, allow_hosts or \
                    file_roots";
        return vec![finding(Verdict::Warning, hint)];
    }
    let judge = |place: crate::storage::Finding| match place.problem {
        None => finding(Verdict::Fine, format!("storage: {} answers", place.place)),
        Some(problem) => finding(Verdict::Broken, format!("storage: {}: {problem}", place.place)),
    };
    places.into_iter().map(judge).collect()
}

async fn engine(settings: &Settings) -> Vec<Finding> {
    let journey = match build::journey(settings).await {
        Ok(journey) => journey,
        Err(error) => return vec![finding(Verdict::Broken, format!("{error:#}"))],
    };
    let info = journey.engine().info();
    let engine = format!("engine: {} {} opens", info.name, info.version);
    let memory = MemoryPlan::of(&journey, settings);
    let memory = match memory.check() {
        Ok(()) => finding(Verdict::Fine, format!("memory: {}", memory.describe())),
        Err(error) => finding(Verdict::Broken, format!("memory: {error}")),
    };
    vec![finding(Verdict::Fine, engine), memory]
}

async fn kafka(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let kafka = settings.kafka.clone();
    if let Err(error) = kafka.validate() {
        return Ok(vec![finding(Verdict::Broken, format!("kafka: {error}"))]);
    }
    let create = kafka.create_topics;
    let probed = tokio::task::spawn_blocking(move || probe(&kafka, &CancellationToken::new()));
    let report = match probed.await? {
        Ok(report) => report,
        Err(error) => return Ok(vec![finding(Verdict::Broken, format!("kafka: {error}"))]),
    };
    let missing = report.missing.iter().map(|topic| {
        if create {
            finding(Verdict::Fine, format!("kafka: topic {topic} will be created"))
        } else {
            let text = format!("kafka: topic {topic} is missing; create it or set create_topics");
            finding(Verdict::Broken, text)
        }
    });
    Ok(report.topics.iter().map(judge_topic).chain(missing).collect())
}

fn judge_topic(topic: &TopicReport) -> Finding {
    let TopicReport { name, partitions, replicas } = topic;
    let text = format!("kafka: topic {name} has {partitions} partitions, {replicas} replicas");
    if *replicas < REPLICAS_MIN {
        let why = format!("{text}; below {REPLICAS_MIN} a lost broker can lose answers");
        return finding(Verdict::Warning, why);
    }
    finding(Verdict::Fine, text)
}

fn finding(verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding { verdict, text: text.into() }
}

fn tell(finding: &Finding) -> io::Result<()> {
    let verdict = match finding.verdict {
        Verdict::Fine => "ok",
        Verdict::Warning => "warning",
        Verdict::Broken => "broken",
    };
    say(&format!("{verdict:<8} {}", finding.text))
}
