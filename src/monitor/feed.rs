//! The threads that read Kafka: one the answers, one the backlog of the workers' group.
//!
//! Neither ends on an error. The page shows the error, and the thread tries again. It continues at
//! the time of the newest answer, so answers of partitions that were read less far are missing. If
//! the record there cannot be read, it continues with new answers. The page shows both.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::DateTime;
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

/// The position from which the next connection reads answers.
#[derive(Debug)]
struct ReadPosition {
    start: Start,
    /// Time of the newest answer that the connection has read.
    newest_ms: Option<i64>,
    /// Time of the first error since an answer was read.
    interrupted_ms: Option<i64>,
}

impl ReadPosition {
    fn new(start: Start) -> Self {
        Self { start, newest_ms: None, interrupted_ms: None }
    }

    /// Returns the interruption that ends with this connection, if it is not the first one.
    fn interruption(&self, now_ms: i64) -> Option<Interruption> {
        let is_skipped = self.start == Start::Now;
        let interruption = |since_ms| Interruption { since_ms, until_ms: now_ms, is_skipped };
        self.interrupted_ms.map(interruption)
    }

    /// Notes that an answer was read. A time in the future counts as now.
    fn advance(&mut self, at_ms: Option<i64>, now_ms: i64) {
        self.interrupted_ms = None;
        self.newest_ms = self.newest_ms.max(Some(at_ms.unwrap_or(now_ms).min(now_ms)));
    }

    /// Sets the next position after an error of a connection. A record that cannot be read would
    /// fail again, so the second error in a row skips it.
    fn fail(&mut self, error: &StreamError, now_ms: i64) {
        self.interrupted_ms.get_or_insert(now_ms);
        let is_unreadable = matches!(error, StreamError::Unreadable { .. });
        let newest = self.newest_ms.take().and_then(|at_ms| {
            // Answers that were read must not be counted again.
            DateTime::from_timestamp_millis(at_ms.saturating_add(1))
        });
        self.start = match newest {
            Some(newest) => Start::At(newest),
            None if is_unreadable => Start::Now,
            None => self.start,
        };
    }
}

fn read_answers(board: &Board, kafka: &Settings, start: Start, stop: &CancellationToken) {
    let mut position = ReadPosition::new(start);
    while !stop.is_cancelled() {
        let result = OutputReader::connect(kafka, position.start).and_then(|mut reader| {
            if let Some(interruption) = position.interruption(now_ms()) {
                board.set_interruption(interruption);
            }
            set_problem(board, None);
            read_until_error(board, &mut reader, &mut position, stop)
                .inspect_err(|error| position.fail(error, now_ms()))
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
    position: &mut ReadPosition,
    stop: &CancellationToken,
) -> Result<(), StreamError> {
    while !stop.is_cancelled() {
        let Some(record) = reader.next(STOP_CHECK)? else { continue };
        let timestamp_ms = match record {
            OutputRecord::Event { payload, timestamp_ms } => {
                board.add_event(&payload, timestamp_ms);
                timestamp_ms
            }
            OutputRecord::ShadowEvent { payload, timestamp_ms } => {
                board.add_shadow_event(&payload, timestamp_ms);
                timestamp_ms
            }
            OutputRecord::DeadLetter { code, timestamp_ms } => {
                board.add_dead_letter(&code, timestamp_ms);
                timestamp_ms
            }
            OutputRecord::Foreign { timestamp_ms } => {
                board.add_foreign(timestamp_ms);
                timestamp_ms
            }
        };
        position.advance(timestamp_ms, now_ms());
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

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    fn unreadable() -> StreamError {
        let reason = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
        StreamError::Unreadable { topic: "image-quality".to_owned(), reason }
    }

    fn forbidden() -> StreamError {
        let code = RDKafkaErrorCode::TopicAuthorizationFailed;
        StreamError::Forbidden { action: "read topic image-quality".to_owned(), code }
    }

    fn at(time_ms: i64) -> Start {
        Start::At(DateTime::from_timestamp_millis(time_ms).unwrap())
    }

    #[test]
    fn reading_continues_after_the_newest_answer_and_skips_a_record_that_fails_again() {
        let mut position = ReadPosition::new(Start::Now);
        assert_eq!(position.interruption(1_000), None, "the first connection");
        for (at_ms, now_ms) in [(Some(5_000), 5_100), (Some(4_000), 5_200), (None, 5_300)] {
            position.advance(at_ms, now_ms);
        }
        position.advance(Some(i64::MAX), 5_400);
        position.fail(&unreadable(), 6_000);
        assert_eq!(position.start, at(5_401), "a time in the future counts as now");
        let resumed = Interruption { since_ms: 6_000, until_ms: 8_000, is_skipped: false };
        assert_eq!(position.interruption(8_000), Some(resumed));
        position.fail(&unreadable(), 8_100);
        assert_eq!(position.start, Start::Now);
        let skipped = Interruption { since_ms: 6_000, until_ms: 10_000, is_skipped: true };
        assert_eq!(position.interruption(10_000), Some(skipped));
        position.advance(Some(11_000), 11_000);
        assert_eq!(position.interruption(12_000), None, "an answer ends the interruption");
    }

    #[test]
    fn a_missing_permission_skips_nothing() {
        let mut position = ReadPosition::new(at(3_000));
        for now_ms in [9_000, 11_000] {
            position.fail(&forbidden(), now_ms);
            assert_eq!(position.start, at(3_000));
        }
        let interruption = Interruption { since_ms: 9_000, until_ms: 12_000, is_skipped: false };
        assert_eq!(position.interruption(12_000), Some(interruption));
    }
}
