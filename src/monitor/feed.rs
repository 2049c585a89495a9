//! The threads that read Kafka: one the answers, one the backlog of the workers' group.
//!
//! Neither ends on an error. The page shows the error, and the thread tries again. Each partition
//! continues with its next record. If a record fails again, its partition continues with new
//! records. The page shows both.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::monitor::board::{Board, Connection, Interruption, Lag, now_ms};
use crate::stream::{GroupLag, OutputReader, OutputRecord, Settings, Start, StreamError};

/// Time between attempts to connect.
const RETRY_WAIT: Duration = Duration::from_secs(2);
/// Time within which a thread notices that it must stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// The threads. They end once `stop` is cancelled.
#[derive(Debug)]
pub struct Feed {
    threads: Vec<JoinHandle<()>>,
}

/// Returns the connection before anything was read.
pub fn connection(kafka: &Settings) -> Connection {
    let [_, events, dead_letters] = kafka.topics();
    let (shadow_topic, group) = (kafka.shadow_topic.clone(), kafka.group_id.clone());
    let topics = vec![events, dead_letters];
    Connection { topics, shadow_topic, group, ..Connection::default() }
}

impl Feed {
    /// Starts to read answers from `start` on, and the backlog every `lag_interval` of the
    /// settings of the board.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub fn start(
        board: &Arc<Board>,
        kafka: &Settings,
        start: Start,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        board.set_problem(Some(format!("connecting to {}", kafka.bootstrap_servers)));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let parts = || (Arc::clone(board), kafka.clone(), stop.clone());
        let (board_of_answers, kafka_of_answers, stop_of_answers) = parts();
        let answers =
            move || read_answers(&board_of_answers, &kafka_of_answers, start, &stop_of_answers);
        let (board_of_lag, kafka_of_lag, stop_of_lag) = parts();
        let lag = move || read_lag(&board_of_lag, &kafka_of_lag, &stop_of_lag);
        let threads =
            vec![spawn("dogiqa-answers", Box::new(answers))?, spawn("dogiqa-lag", Box::new(lag))?];
        Ok(Self { threads })
    }

    /// Waits until the threads have ended. Blocks, after `stop` for a request to Kafka at most.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread that reads Kafka panicked");
            }
        }
    }
}

fn read_answers(board: &Board, kafka: &Settings, start: Start, stop: &CancellationToken) {
    let mut reader = OutputReader::new(kafka, start);
    // Begins with the first error since an answer was read.
    let mut interruption: Option<Interruption> = None;
    while !stop.is_cancelled() {
        let result = reader.connect().and_then(|is_skipped| {
            if let Some(interruption) = &mut interruption {
                interruption.until_ms = now_ms();
                interruption.is_skipped |= is_skipped;
                board.set_interruption(*interruption);
            }
            set_problem(board, None);
            read_until_error(board, &mut reader, &mut interruption, stop)
        });
        match result {
            Ok(()) => return,
            Err(error) => set_problem(board, Some(error.to_string())),
        }
        wait(RETRY_WAIT, stop);
    }
}

fn read_until_error(
    board: &Board,
    reader: &mut OutputReader,
    interruption: &mut Option<Interruption>,
    stop: &CancellationToken,
) -> Result<(), StreamError> {
    while !stop.is_cancelled() {
        let read = reader.next(STOP_CHECK).inspect_err(|_| {
            interruption.get_or_insert_with(|| Interruption::at(now_ms()));
        });
        let Some(record) = read? else { continue };
        match record {
            OutputRecord::Event { payload, timestamp_ms } => {
                board.add_event(&payload, timestamp_ms);
            }
            OutputRecord::ShadowEvent { payload, timestamp_ms } => {
                board.add_shadow_event(&payload, timestamp_ms);
            }
            OutputRecord::DeadLetter { code, timestamp_ms } => {
                board.add_dead_letter(&code, timestamp_ms);
            }
            OutputRecord::Foreign { timestamp_ms } => board.add_foreign(timestamp_ms),
        }
        *interruption = None;
    }
    Ok(())
}

/// Shows a problem on the page, and logs it if it is new.
fn set_problem(board: &Board, text: Option<String>) {
    if board.set_problem(text.clone()) {
        if let Some(problem) = text {
            tracing::warn!(problem, "answers are not read");
        } else {
            tracing::info!("answers are read");
        }
    }
}

fn read_lag(board: &Board, kafka: &Settings, stop: &CancellationToken) {
    let mut group = None;
    while !stop.is_cancelled() {
        let lag = read_group(&mut group, kafka);
        // An error other than this one is the answer of a broker.
        let away = match &lag {
            Err(error @ StreamError::Unreachable { .. }) => Some(error.to_string()),
            _ => None,
        };
        if board.set_brokers_away(away.clone()) {
            if let Some(problem) = away {
                tracing::warn!(problem, "no broker answers");
            } else {
                tracing::info!("a broker answers again");
            }
        }
        board.set_lag(lag.map_err(|error| error.to_string()));
        wait(board.settings().lag_interval, stop);
    }
}

fn read_group(group: &mut Option<GroupLag>, kafka: &Settings) -> Result<Lag, StreamError> {
    let client = match group {
        Some(client) => client,
        None => group.insert(GroupLag::connect(kafka)?),
    };
    let report = client.read()?;
    Ok(Lag {
        at_ms: now_ms(),
        records: report.partitions.iter().sum(),
        partitions: report.partitions,
        is_committed: report.is_committed,
    })
}

/// Waits for a time, or until `stop`.
fn wait(time: Duration, stop: &CancellationToken) {
    let deadline = Instant::now() + time;
    while !stop.is_cancelled() && Instant::now() < deadline {
        thread::sleep(STOP_CHECK);
    }
}
