//! `dogiqa check`: everything the worker will need, tried before it goes live.

use std::io;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::storage::Stores;
use crate::stream::{TopicReport, min_insync_replicas, probe};

use super::memory::MemoryPlan;
use super::output::say;
use super::{Outcome, build};

/// Fewer replicas can lose an acknowledged answer with one broker.
const REPLICAS_MIN: usize = 3;
/// Fewer that must have an answer, and it can be lost with the one broker that has it.
const IN_SYNC_MIN: usize = 2;

/// Nothing beside the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa check --config dogiqa.toml\n\n\
    Exit codes: 0 nothing is broken, warnings or not; 1 something is; 2 usage.")]
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
    let asked = kafka.clone();
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
    let mut findings: Vec<_> = missing.collect();
    for topic in &report.topics {
        findings.push(judge_topic(topic, min_insync_replicas(&asked, &topic.name).await?));
    }
    Ok(findings)
}

/// `in_sync` is the topic's `min.insync.replicas`, where the brokers tell it.
fn judge_topic(topic: &TopicReport, in_sync: Option<usize>) -> Finding {
    let TopicReport { name, partitions, replicas } = topic;
    let text = format!("kafka: topic {name} has {partitions} partitions, {replicas} replicas");
    let why = match in_sync {
        Some(least) if least > *replicas => {
            format!("min.insync.replicas = {least} is more than that: nothing can be written")
        }
        _ if *replicas < REPLICAS_MIN => {
            format!("below {REPLICAS_MIN} a lost broker can lose answers")
        }
        Some(least) if least < IN_SYNC_MIN => {
            format!(
                "min.insync.replicas = {least}: a lost broker can lose answers; set {IN_SYNC_MIN}"
            )
        }
        _ => return finding(Verdict::Fine, text),
    };
    finding(Verdict::Warning, format!("{text}; {why}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_can_lose_answers_or_take_none_is_warned_of() {
        let check = |replicas, in_sync, expected: Option<&str>| {
            let topic = TopicReport { name: "t".to_owned(), partitions: 6, replicas };
            let found = judge_topic(&topic, in_sync);
            match expected {
                None => assert!(found.verdict == Verdict::Fine, "{}", found.text),
                Some(part) => {
                    assert!(found.verdict == Verdict::Warning, "{}", found.text);
                    assert!(found.text.contains(part), "{}", found.text);
                }
            }
        };
        check(3, Some(2), None);
        check(3, Some(3), None);
        check(3, None, None);
        check(3, Some(1), Some("min.insync.replicas = 1"));
        check(3, Some(4), Some("nothing can be written"));
        check(1, Some(2), Some("nothing can be written"));
        check(2, Some(2), Some("below 3"));
        check(1, None, Some("below 3"));
    }
}
