//! `dogiqa check`: checks everything that the worker needs before it goes live.

use std::io;

use tokio_util::sync::CancellationToken;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::journey_setup::open_journey;
use crate::cli::memory_plan::MemoryPlan;
use crate::cli::terminal::print_result;
use crate::config::Settings;
use crate::storage::Stores;
use crate::stream::{TopicReport, min_insync_replicas, probe};

/// With fewer replicas, the loss of one broker can lose acknowledged answers.
const REPLICAS_MIN: usize = 3;
/// With a lower `min.insync.replicas`, an acknowledged answer may be on one broker only.
const IN_SYNC_MIN: usize = 2;

/// Takes no arguments; everything comes from the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa check --config dogiqa.toml\n\n\
    Exit codes: 0 no check failed (there may be warnings); 1 a check failed; 2 wrong usage.")]
pub(crate) struct Args {}

struct CheckResult {
    status: CheckStatus,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckStatus {
    Fine,
    Warning,
    Broken,
}

impl CheckResult {
    fn new(status: CheckStatus, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

pub(crate) async fn run(_args: Args, settings: Settings) -> anyhow::Result<CommandOutcome> {
    let mut results = vec![CheckResult::new(CheckStatus::Fine, "configuration is well formed")];
    results.extend(storage(&settings).await);
    results.extend(engine(&settings).await);
    results.extend(kafka(&settings).await?);
    for result in &results {
        print_check_result(result)?;
    }
    let is_broken = results.iter().any(|result| result.status == CheckStatus::Broken);
    Ok(CommandOutcome::negative_if(is_broken))
}

async fn storage(settings: &Settings) -> Vec<CheckResult> {
    let stores = match Stores::new(&settings.storage) {
        Ok(stores) => stores,
        Err(error) => {
            return vec![CheckResult::new(CheckStatus::Broken, format!("storage: {error}"))];
        }
    };
    let findings = stores.check().await;
    if findings.is_empty() {
        let hint = "storage: nothing may be read; add storage.allow_buckets, allow_hosts or \
                    file_roots";
        return vec![CheckResult::new(CheckStatus::Warning, hint)];
    }
    findings
        .into_iter()
        .map(|finding| match finding.problem {
            None => CheckResult::new(
                CheckStatus::Fine,
                format!("storage: {} answers", finding.location),
            ),
            Some(problem) => CheckResult::new(
                CheckStatus::Broken,
                format!("storage: {}: {problem}", finding.location),
            ),
        })
        .collect()
}

async fn engine(settings: &Settings) -> Vec<CheckResult> {
    let journey = match open_journey(settings).await {
        Ok(journey) => journey,
        Err(error) => return vec![CheckResult::new(CheckStatus::Broken, format!("{error:#}"))],
    };
    let info = journey.engine().info();
    let engine = format!("engine: {} {} opens", info.name, info.version);
    let plan = MemoryPlan::of(&journey, settings);
    let memory = match plan.check() {
        Ok(()) => CheckResult::new(CheckStatus::Fine, format!("memory: {}", plan.describe())),
        Err(error) => CheckResult::new(CheckStatus::Broken, format!("memory: {error}")),
    };
    vec![CheckResult::new(CheckStatus::Fine, engine), memory]
}

async fn kafka(settings: &Settings) -> anyhow::Result<Vec<CheckResult>> {
    let kafka = settings.kafka.clone();
    if let Err(error) = kafka.validate() {
        return Ok(vec![CheckResult::new(CheckStatus::Broken, format!("kafka: {error}"))]);
    }
    let create = kafka.create_topics;
    let probe_settings = kafka.clone();
    let run_probe = move || probe(&probe_settings, &CancellationToken::new());
    let report = match tokio::task::spawn_blocking(run_probe).await? {
        Ok(report) => report,
        Err(error) => {
            return Ok(vec![CheckResult::new(CheckStatus::Broken, format!("kafka: {error}"))]);
        }
    };
    let missing = report.missing.iter().map(|topic| {
        if create {
            CheckResult::new(CheckStatus::Fine, format!("kafka: topic {topic} will be created"))
        } else {
            let text = format!("kafka: topic {topic} is missing; create it or set create_topics");
            CheckResult::new(CheckStatus::Broken, text)
        }
    });
    let mut results: Vec<_> = missing.collect();
    for topic in &report.topics {
        results.push(check_topic(topic, min_insync_replicas(&kafka, &topic.name).await?));
    }
    Ok(results)
}

/// Checks the durability of a topic. `min_insync_replicas` is its `min.insync.replicas`, or `None`
/// if the brokers do not report it.
fn check_topic(topic: &TopicReport, min_insync_replicas: Option<usize>) -> CheckResult {
    let TopicReport { name, partitions, replicas } = topic;
    let text = format!("kafka: topic {name} has {partitions} partitions, {replicas} replicas");
    let problem = match min_insync_replicas {
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
        _ => return CheckResult::new(CheckStatus::Fine, text),
    };
    CheckResult::new(CheckStatus::Warning, format!("{text}; {problem}"))
}

fn print_check_result(result: &CheckResult) -> io::Result<()> {
    let status = match result.status {
        CheckStatus::Fine => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Broken => "broken",
    };
    print_result(&format!("{status:<8} {}", result.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_can_lose_or_refuse_answers_gets_a_warning() {
        let check = |replicas, min_insync_replicas, expected: Option<&str>| {
            let topic = TopicReport { name: "t".to_owned(), partitions: 6, replicas };
            let result = check_topic(&topic, min_insync_replicas);
            match expected {
                None => assert!(result.status == CheckStatus::Fine, "{}", result.text),
                Some(part) => {
                    assert!(result.status == CheckStatus::Warning, "{}", result.text);
                    assert!(result.text.contains(part), "{}", result.text);
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
