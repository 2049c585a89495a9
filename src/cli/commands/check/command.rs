//! The checks of `dogiqa check` and their results.

use std::io;

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::cache::check_disk;
use crate::checkpoints::metrics::{LoadedParameters, MetricFilesError, load_parameters};
use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::check::topic_problems::{TopicRole, backlog_problems, topic_problems};
use crate::cli::journey_setup::{open_journey_with_measures, open_shadow};
use crate::cli::memory_plan::MemoryPlan;
use crate::cli::terminal::{print_result, with_causes};
use crate::config::Settings;
use crate::engine::{Engine, HttpScorer, ScorerShare};
use crate::method::ServedBy;
use crate::metrics::Metric;
use crate::pipeline::Journey;
use crate::serve;
use crate::storage::Stores;
use crate::stream::{self, TopicReport, TopicSettings, backlog, probe, topic_settings};
use crate::telemetry::MemoryPart;

/// Share of the probability on levels below which a model hardly answers the question.
const ON_LEVELS_MIN: f64 = 0.5;

/// Everything else comes from the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: dogiqa check --config dogiqa.toml\n         \
    dogiqa check --for serve --config dogiqa.toml\n\n\
    Exit codes: 0 no check failed (there may be warnings); 1 a check failed; 2 wrong usage.")]
pub(crate) struct Args {
    /// Command that the configuration is for
    #[arg(long = "for", value_name = "COMMAND", value_enum, default_value_t)]
    command: CheckedCommand,
}

/// A command whose configuration is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum CheckedCommand {
    /// The worker, alone and with `--serve`
    #[default]
    Run,
    /// The HTTP API alone: connects to no broker, and tests neither `engine.shadow` nor `monitor`
    Serve,
}

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

    /// A warning with these problems, or none if there are none.
    fn with_problems(text: String, problems: &[String]) -> Self {
        if problems.is_empty() {
            return Self::new(CheckStatus::Fine, text);
        }
        Self::new(CheckStatus::Warning, format!("{text}; {}", problems.join("; ")))
    }
}

pub(crate) async fn run(args: Args, mut settings: Settings) -> anyhow::Result<CommandOutcome> {
    let mut results = vec![CheckResult::new(CheckStatus::Fine, "configuration is well formed")];
    if args.command == CheckedCommand::Run {
        results.extend(monitor(&settings));
    }
    results.extend(storage(&settings).await);
    let measures = measures(&settings).await?;
    results.extend(measures.iter().map(|(metric, loaded)| measure_result(*metric, loaded)));
    // Missing parameters must not hide problems of the engine.
    let measures: Vec<LoadedParameters> =
        measures.into_iter().filter_map(|(_, loaded)| loaded.ok()).collect();
    settings.pipeline.measures = measures.iter().map(LoadedParameters::metric).collect();
    results.extend(match open_journey_with_measures(&settings, measures).await {
        Err(error) => vec![CheckResult::new(CheckStatus::Broken, with_causes(&error))],
        Ok(journey) => match args.command {
            CheckedCommand::Run => engines_of_run(&settings, &journey).await,
            CheckedCommand::Serve => engine_of_serve(&settings, &journey).await,
        },
    });
    results.push(serve(&settings.serve).await?);
    results.extend(cache(&settings));
    match args.command {
        CheckedCommand::Run => results.extend(kafka(&settings).await?),
        CheckedCommand::Serve => {
            let text = "kafka: not tested, because `dogiqa serve` does not use it";
            results.push(CheckResult::new(CheckStatus::Fine, text));
        }
    }
    for result in &results {
        print_check_result(result)?;
    }
    let is_broken = results.iter().any(|result| result.status == CheckStatus::Broken);
    Ok(CommandOutcome::negative_if(is_broken))
}

/// Returns the fault of the settings of the page, if there is one.
fn monitor(settings: &Settings) -> Option<CheckResult> {
    let error = settings.monitor.validate().err()?;
    Some(CheckResult::new(CheckStatus::Broken, error.to_string()))
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

/// Loads the metrics of `pipeline.measures`.
async fn measures(
    settings: &Settings,
) -> anyhow::Result<Vec<(Metric, Result<LoadedParameters, MetricFilesError>)>> {
    let pipeline = settings.pipeline.clone();
    let load = move || {
        let folder = pipeline.measure_parameters.as_deref();
        let metrics = pipeline.measures.iter();
        metrics.map(|metric| (*metric, load_parameters(*metric, folder))).collect()
    };
    Ok(tokio::task::spawn_blocking(load).await?)
}

fn measure_result(
    metric: Metric,
    loaded: &Result<LoadedParameters, MetricFilesError>,
) -> CheckResult {
    match loaded {
        Ok(loaded) => {
            let text = format!("measure: {metric} {} loads", loaded.version());
            CheckResult::new(CheckStatus::Fine, text)
        }
        Err(error) => CheckResult::new(CheckStatus::Broken, format!("measure: {error}")),
    }
}

/// Tests the engine and the memory of `dogiqa serve`.
async fn engine_of_serve(settings: &Settings, journey: &Journey) -> Vec<CheckResult> {
    let mut results = opened_engine("engine", journey.engine()).await;
    results.push(memory(&MemoryPlan::new(journey, settings, [settings.serve.memory()])));
    results
}

/// Tests the engines and the memory of `dogiqa run`.
async fn engines_of_run(settings: &Settings, journey: &Journey) -> Vec<CheckResult> {
    let shadow = match open_shadow(settings, journey).await {
        Ok(shadow) => shadow,
        Err(error) => return vec![CheckResult::new(CheckStatus::Broken, with_causes(&error))],
    };
    let of_shadow = shadow.as_ref().map(|shadow| shadow.memory(&settings.kafka));
    let stream = settings.kafka.memory().into_iter();
    let parts: Vec<_> = stream.chain(of_shadow.into_iter().flatten()).collect();
    let plan = MemoryPlan::new(journey, settings, parts.iter().copied());
    let mut results = opened_engine("engine", journey.engine()).await;
    if let Some(shadow) = &shadow {
        results.extend(opened_engine("shadow engine", shadow.journey.engine()).await);
    }
    results.push(memory(&plan));
    if plan.check().is_ok() {
        results.push(memory_with_serve(journey, settings, parts));
    }
    results
}

/// Compares the memory of a command with that of the machine.
fn memory(plan: &MemoryPlan) -> CheckResult {
    match plan.check() {
        Ok(()) => CheckResult::new(CheckStatus::Fine, format!("memory: {}", plan.describe())),
        Err(error) => CheckResult::new(CheckStatus::Broken, format!("memory: {error}")),
    }
}

/// Names an engine and its scorers, and asks its server if it has one.
async fn opened_engine(name: &str, engine: &Engine) -> Vec<CheckResult> {
    let info = engine.info();
    let text = format!("{name}: {} {} opens", info.name, info.version);
    let mut results = vec![CheckResult::new(CheckStatus::Fine, text)];
    results.extend(info.scorers.iter().map(scorer_result));
    if let Some(server) = engine.server() {
        results.push(server_result(server).await);
    } else if info.scorers.is_empty() {
        let text = format!("scorer: {}/{} opens", info.scorer.name, info.scorer.version);
        results.push(CheckResult::new(CheckStatus::Fine, text));
    }
    results
}

/// Compares the memory of `dogiqa run --serve` with that of the machine. `parts` are those of the
/// worker.
fn memory_with_serve(
    journey: &Journey,
    settings: &Settings,
    parts: Vec<MemoryPart>,
) -> CheckResult {
    let parts = parts.into_iter().chain([settings.serve.memory()]);
    let plan = MemoryPlan::new(journey, settings, parts);
    match plan.check() {
        Ok(()) => {
            let total = ByteSize(plan.total());
            CheckResult::new(CheckStatus::Fine, format!("memory: at most {total} with --serve"))
        }
        Err(error) => {
            let text = format!("memory: with --serve: {error}");
            CheckResult::new(CheckStatus::Warning, text)
        }
    }
}

/// Tells who may use the HTTP API. Reads the keys.
async fn serve(settings: &serve::Settings) -> anyhow::Result<CheckResult> {
    let (settings, listen) = (settings.clone(), settings.listen);
    let tested = move || -> Result<_, serve::ServeError> {
        let access = settings.access()?;
        Ok((access, settings.api_keys()?))
    };
    Ok(match tokio::task::spawn_blocking(tested).await? {
        Err(error) => CheckResult::new(CheckStatus::Broken, format!("serve: {error}")),
        Ok((_, Some(keys))) => {
            let text = format!("serve: {listen} accepts {} API keys", keys.len());
            CheckResult::new(CheckStatus::Fine, text)
        }
        Ok((serve::Access::Everyone, None)) => {
            let text = format!("serve: everyone that reaches {listen} may use the API");
            CheckResult::with_problems(text, &["serve.allow_anonymous is set".to_owned()])
        }
        Ok((_, None)) => {
            let text =
                format!("serve: only this machine may use the API at {listen}, without keys");
            CheckResult::new(CheckStatus::Fine, text)
        }
    })
}

/// Checks the disk of the cache, without the file that a worker may have open.
fn cache(settings: &Settings) -> Option<CheckResult> {
    let path = settings.cache.file()?.display();
    Some(match check_disk(&settings.cache) {
        Err(error) => CheckResult::new(CheckStatus::Broken, format!("cache: {error}")),
        Ok(missing) => {
            let problem = format!(
                "its disk lacks {} for cache.bytes_max, and a full disk switches the cache off",
                ByteSize(missing)
            );
            let problems = if missing == 0 { Vec::new() } else { vec![problem] };
            CheckResult::with_problems(format!("cache: {path} can be written"), &problems)
        }
    })
}

/// Names one of several scorers and its part in the ratings.
fn scorer_result(share: &ScorerShare) -> CheckResult {
    let ScorerShare { model, global, objects } = share;
    let weights = format!("weight {global} for the whole image, {objects} for objects");
    let text = format!("scorer: {}/{} opens; {weights}", model.name, model.version);
    CheckResult::new(CheckStatus::Fine, text)
}

/// Sends the scoring server a small picture.
async fn server_result(server: &HttpScorer) -> CheckResult {
    let address = server.server();
    let report = match server.test().await {
        Ok(report) => report,
        Err(error) => {
            return CheckResult::new(CheckStatus::Broken, format!("scorer: {address}: {error}"));
        }
    };
    let ServedBy { model, system_fingerprint } = report.served_by;
    let model = model.unwrap_or_else(|| "a model without a name".to_owned());
    let fingerprint = system_fingerprint.map(|text| format!(" ({text})")).unwrap_or_default();
    let latency_ms = report.latency.as_millis();
    let text = format!("scorer: {address} rates by {model}{fingerprint} in {latency_ms} ms");
    let (Some(tokens), Some(share)) = (report.tokens, report.on_levels) else {
        let problem = "it reports no probabilities, so a rating is its level alone";
        return CheckResult::with_problems(text, &[problem.to_owned()]);
    };
    let percent = 100.0 * share;
    let text = format!("{text}; it reports {tokens} tokens, {percent:.1} % are on levels");
    let problem = "the model hardly answers with a level: check it and engine.dog_iqa.http.body";
    let problems = if share < ON_LEVELS_MIN { vec![problem.to_owned()] } else { Vec::new() };
    CheckResult::with_problems(text, &problems)
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
    results.extend(topics(&kafka, report.topics).await?);
    Ok(results)
}

/// Checks the settings of the topics, and the backlog of the input topic.
async fn topics(
    kafka: &stream::Settings,
    topics: Vec<TopicReport>,
) -> anyhow::Result<Vec<CheckResult>> {
    let mut described = Vec::new();
    for topic in topics {
        let settings = topic_settings(kafka, &topic.name).await?;
        described.push((topic, settings));
    }
    let input = described.iter().find(|(topic, _)| topic.name == kafka.input_topic);
    let (partitions, of_input) =
        input.map_or((0, TopicSettings::default()), |(topic, it)| (topic.partitions, *it));
    let mut results: Vec<CheckResult> = described
        .iter()
        .map(|(topic, settings)| {
            let role = TopicRole::of(&topic.name, kafka);
            let TopicReport { name, partitions, replicas } = topic;
            let text =
                format!("kafka: topic {name} has {partitions} partitions, {replicas} replicas");
            CheckResult::with_problems(text, &topic_problems(role, topic, settings, &of_input))
        })
        .collect();
    let settings = kafka.clone();
    let read = move || backlog(&settings, partitions, of_input.retention);
    if let Some(backlog) = tokio::task::spawn_blocking(read).await?? {
        let text =
            format!("kafka: group {} has a backlog of {} records", kafka.group_id, backlog.records);
        results.push(CheckResult::with_problems(text, &backlog_problems(&backlog)));
    }
    Ok(results)
}

fn print_check_result(result: &CheckResult) -> io::Result<()> {
    let status = match result.status {
        CheckStatus::Fine => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Broken => "broken",
    };
    print_result(&format!("{status:<8} {}", result.text))
}
