//! `dogiqa enqueue`: references into the input topic, from a folder, a list, or a prefix of a bucket.
//!
//! ```text
//!  source ─► check ─► rate ─► send, at most IN_FLIGHT unacknowledged ─► note, in the order of the source
//! ```

mod check;
mod source;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use futures::stream::{self, Stream, StreamExt};
use indicatif::ProgressBar;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::event::ImageReference;
use crate::storage::Stores;
use crate::stream::{PublishError, ReferenceWriter, probe_input};

use super::Outcome;
use super::output::{complain, say, sent_so_far};
use super::run::Signals;
use super::when::Rate;
use check::{Check, Refusal};
use source::{Found, Source, Things, What};
use state::{Identity, Position, Progress};

/// References that are sent and not acknowledged.
const IN_FLIGHT: usize = 500;
/// Things that are done with and not in the state file; with those in flight, what a crash repeats.
const UNNOTED_MAX: u64 = 500;
/// Longest time between two states.
const NOTE_AFTER: Duration = Duration::from_secs(1);
/// How far a rate may catch up after a pause.
const CATCH_UP: Duration = Duration::from_millis(100);

const HELP: &str = "Examples:\n  dogiqa enqueue photos/ --policy gallery\n  \
    dogiqa enqueue s3://user-uploads/2026/11/ --rate 200/s --state november.json\n  \
    jq -c '{uri: .url, id: .sku}' catalogue.jsonl | dogiqa enqueue - --metadata batch=7\n\n\
    With --state the same command goes on where it was interrupted, whatever interrupted it: at most \
    1000 references are sent twice after a crash, none after a signal. Each keeps its id, so answers \
    can be told apart by reference.id.\n\n\
    Exit codes: 0 everything was sent; 1 something was refused, or it ended early; 2 usage.";

/// What to send, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// A folder of images; a list, as a file or `-`, with a URI or a reference as JSON on each line; or a prefix
    /// of a bucket that ends in a slash
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Policy of references that name none
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Most references in a second, minute or hour
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Send no more than this, earlier runs with the same state included
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print what would be sent, as JSON lines, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// What becomes the record's key, which decides its partition
    #[arg(long, value_enum, default_value_t = Key::Id)]
    key: Key,
    /// Metadata of references that do not have it themselves; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// File that remembers how far this command has come
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Do not hold references to the allow-lists and policies of this configuration
    #[arg(long)]
    unchecked: bool,
}

/// What the record's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Key {
    Id,
    Uri,
}

/// What is to be done about one thing of the source.
enum Step {
    Send(Box<ImageReference>),
    Refuse(Refusal),
    Skip,
}

/// What was done.
enum Done {
    Sent,
    Refused(Refusal),
    Skipped,
}

pub(super) async fn run(args: Args, settings: Settings) -> anyhow::Result<Outcome> {
    settings.kafka.validate()?;
    let mut signals = Signals::listen()?;
    let source = Source::new(&args.source)?;
    if source == Source::StandardInput && args.state.is_some() {
        bail!("--state needs a list that can be read again; name a file instead of `-`");
    }
    let metadata: BTreeMap<_, _> = args.metadata.iter().cloned().collect();
    let command = Identity {
        source: source.name(),
        brokers: settings.kafka.bootstrap_servers.clone(),
        topic: settings.kafka.input_topic.clone(),
        key: args.key.name().to_owned(),
        policy: args.policy.clone(),
        metadata: metadata.clone(),
    };
    let progress = match &args.state {
        Some(path) => Progress::open(path, command)?,
        None => Progress::begin(command),
    };
    let stores = Stores::new(&settings.storage)?;
    let things = source.open(&stores, progress.after.clone())?;
    let policies = settings.method.policies;
    let check =
        Check { policy: args.policy, metadata, policies, stores, unchecked: args.unchecked };
    let writer = if args.dry_run {
        None
    } else {
        let kafka = settings.kafka.clone();
        let probe = tokio::task::spawn_blocking(move || probe_input(&kafka));
        tokio::select! {
            biased;
            probed = probe => probed??,
            name = signals.next() => bail!("{name}: nothing was sent"),
        }
        Some(ReferenceWriter::connect(&settings.kafka)?)
    };
    let room = args.limit.map_or(u64::MAX, |limit| limit.saturating_sub(progress.counts.sent));
    let steps = paced(steps(things, check, room), args.rate);
    let road = Road { writer, key: args.key };
    let book = Book::open(progress, args.state.filter(|_| !args.dry_run))?;
    send(steps, (road, book), signals, settings.kafka.drain_timeout).await
}

/// Sends until the source or a signal ends it.
async fn send(
    steps: impl Stream<Item = anyhow::Result<(Position, Step)>>,
    (road, mut book): (Road, Book),
    mut signals: Signals,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    let stop = CancellationToken::new();
    let mut deadline = None;
    let sent = steps
        .take_until(stop.clone().cancelled_owned())
        .map(|step| road.settle(step))
        .buffered(IN_FLIGHT);
    let mut sent = pin!(sent);
    loop {
        // A signal comes before whatever else there is.
        let done = tokio::select! {
            biased;
            name = signals.next() => {
                if deadline.is_some() {
                    book.note()?;
                    bail!("ended at once by a second {name}; what was not acknowledged may have been sent");
                }
                book.bar.suspend(|| complain(&format!("{name}: waiting for what is sent, a second one ends at once")));
                deadline = Some(Instant::now() + patience);
                stop.cancel();
                continue;
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                book.note()?;
                bail!("the brokers did not acknowledge everything in time; it may have been sent");
            }
            done = sent.next() => done,
        };
        match done {
            Some(Ok((position, done))) => book.enter(position, done)?,
            Some(Err(error)) => {
                book.note()?;
                return Err(error);
            }
            None => break,
        }
    }
    book.close(deadline.is_some())
}

/// Checks the things of a source, up to so many that can be sent.
fn steps(
    things: Things,
    check: Check,
    room: u64,
) -> impl Stream<Item = anyhow::Result<(Position, Step)>> {
    let step = move |found: Found| {
        let step = match found.what {
            What::Skipped => Step::Skip,
            What::Refused(refusal) => Step::Refuse(refusal),
            What::Reference(reference) => match check.complete(*reference) {
                Ok(reference) => Step::Send(Box::new(reference)),
                Err(refusal) => Step::Refuse(refusal),
            },
        };
        (found.position, step)
    };
    let steps = things.map(move |found| found.map(&step));
    // It ends behind what takes the last place, and does not wait for what comes after it.
    stream::unfold((steps.boxed(), room), |(mut steps, room)| async move {
        if room == 0 {
            return None;
        }
        let step = steps.next().await?;
        let taken = u64::from(matches!(step, Ok((_, Step::Send(_)))));
        Some((step, (steps, room - taken)))
    })
}

/// Lets through what is to be sent at the rate, and everything else at once.
fn paced(
    steps: impl Stream<Item = anyhow::Result<(Position, Step)>>,
    rate: Option<Rate>,
) -> impl Stream<Item = anyhow::Result<(Position, Step)>> {
    let mut next = Instant::now();
    steps.then(move |step| {
        let gap = rate.filter(|_| matches!(step, Ok((_, Step::Send(_))))).map(|rate| rate.gap);
        let turn = gap.map(|gap| {
            let turn = next.max(Instant::now().checked_sub(CATCH_UP).unwrap_or(next));
            next = turn + gap;
            turn
        });
        async move {
            if let Some(turn) = turn {
                sleep_until(turn).await;
            }
            step
        }
    })
}

/// How references leave: to the brokers, or to standard output.
struct Road {
    writer: Option<ReferenceWriter>,
    key: Key,
}

impl Road {
    async fn settle(
        &self,
        step: anyhow::Result<(Position, Step)>,
    ) -> anyhow::Result<(Position, Done)> {
        let (position, step) = step?;
        let reference = match step {
            Step::Send(reference) => reference,
            Step::Refuse(refusal) => return Ok((position, Done::Refused(refusal))),
            Step::Skip => return Ok((position, Done::Skipped)),
        };
        let Some(writer) = &self.writer else {
            say(&serde_json::to_string(&reference)?)?;
            return Ok((position, Done::Sent));
        };
        let key = match self.key {
            Key::Id => &reference.id,
            Key::Uri => &reference.uri,
        };
        match writer.write_with_key(key, &reference).await {
            Ok(()) => Ok((position, Done::Sent)),
            Err(error @ PublishError::TooLarge { .. }) => {
                let refusal = Refusal { code: "publish.too_large", message: error.to_string() };
                Ok((position, Done::Refused(refusal)))
            }
            Err(PublishError::Permanent(error)) => Err(error.into()),
        }
    }
}

/// What was done, on the terminal and in the state file.
struct Book {
    progress: Progress,
    file: Option<PathBuf>,
    unnoted: u64,
    noted_at: Instant,
    bar: ProgressBar,
}

impl Book {
    fn open(progress: Progress, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let bar = sent_so_far()?;
        bar.set_position(progress.counts.sent);
        bar.reset_eta();
        let book = Self { progress, file, unnoted: 0, noted_at: Instant::now(), bar };
        // A file that cannot be written is told before anything is sent.
        book.save()?;
        Ok(book)
    }

    /// The next thing of the source is done with, and everything before it.
    fn enter(&mut self, position: Position, done: Done) -> anyhow::Result<()> {
        let counts = &mut self.progress.counts;
        match done {
            Done::Sent => {
                counts.sent += 1;
                self.bar.inc(1);
            }
            Done::Skipped => counts.skipped += 1,
            Done::Refused(Refusal { code, message }) => {
                counts.refused += 1;
                self.bar.suspend(|| complain(&format!("{position}: {message} [{code}]")));
            }
        }
        self.progress.after = Some(position);
        self.unnoted += 1;
        if self.unnoted >= UNNOTED_MAX || self.noted_at.elapsed() >= NOTE_AFTER {
            self.note()?;
        }
        Ok(())
    }

    fn note(&mut self) -> anyhow::Result<()> {
        self.unnoted = 0;
        self.noted_at = Instant::now();
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        self.file.as_deref().map_or(Ok(()), |file| self.progress.save(file))
    }

    fn close(mut self, is_early: bool) -> anyhow::Result<Outcome> {
        self.note()?;
        self.bar.finish_and_clear();
        let counts = self.progress.counts;
        complain(&format!(
            "{} sent, {} skipped, {} refused",
            counts.sent, counts.skipped, counts.refused
        ));
        if is_early {
            complain("stopped before the end; the same command with its --state goes on");
        }
        Ok(if is_early || counts.refused > 0 { Outcome::Negative } else { Outcome::Done })
    }
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Uri => "uri",
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage;

    fn check() -> Check {
        let stores = Stores::new(&storage::Settings::default()).unwrap();
        let (policy, metadata) = (None, BTreeMap::new());
        Check {
            policy,
            metadata,
            policies: crate::method::Policies::default(),
            stores,
            unchecked: true,
        }
    }

    #[tokio::test]
    async fn a_limit_counts_what_can_be_sent_and_keeps_the_order() {
        let things = (1..=5).map(|number| {
            let what = if number == 2 {
                What::Skipped
            } else {
                What::Reference(Box::new(ImageReference::new(format!("s3://b/{number}"))))
            };
            Ok(Found { position: Position::Line(number), what })
        });
        let steps = steps(stream::iter(things).boxed(), check(), 3);
        let positions = steps.map(|step| step.unwrap().0).collect::<Vec<_>>().await;
        assert_eq!(positions, [1, 2, 3, 4].map(Position::Line));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_back_what_is_sent_and_nothing_else() {
        let things = (0..30).map(|number| {
            let what = if number % 3 == 0 {
                What::Reference(Box::new(ImageReference::new("s3://b/k")))
            } else {
                What::Skipped
            };
            Ok(Found { position: Position::Line(number), what })
        });
        let steps = steps(stream::iter(things).boxed(), check(), u64::MAX);
        let started = Instant::now();
        let count = paced(steps, Some("2/s".parse().unwrap())).count().await;
        assert_eq!(count, 30);
        let seconds = started.elapsed().as_secs_f64();
        assert!((4.4..4.6).contains(&seconds), "ten at two a second took {seconds} s");
    }
}
