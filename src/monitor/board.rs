//! The state that the reading threads write and the pages read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde::Serialize;

use crate::monitor::aggregator::Aggregator;
use crate::monitor::answer_record::EventRecord;
use crate::monitor::filter::Filter;
use crate::monitor::limits::SNAPSHOTS_KEPT;
use crate::monitor::rejected_images::RejectedImage;
use crate::monitor::settings::Settings;
use crate::monitor::snapshot::Snapshot;

/// Time for which a snapshot serves all pages with the same filter.
const SNAPSHOT_KEPT: Duration = Duration::from_millis(500);

/// The aggregator, the connection to Kafka, and the latest snapshots.
#[derive(Debug)]
pub struct Board {
    settings: Settings,
    aggregator: Mutex<Aggregator>,
    connection: Mutex<Connection>,
    snapshots: Mutex<BTreeMap<Filter, (Instant, Arc<str>)>>,
}

/// The connection to Kafka as the page shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Connection {
    /// The topics of answers that are read.
    pub topics: Vec<String>,
    /// The topic of the shadow's events that is read, if there is one.
    pub shadow_topic: Option<String>,
    /// The reason why answers are not read, if they are not.
    pub problem: Option<Problem>,
    /// The reason why no broker answers, if none does. Reading continues once one does.
    pub brokers_away: Option<Problem>,
    /// The backlog of the workers' group.
    pub lag: Option<Lag>,
    /// The reason why the backlog is not known, if it is not.
    pub lag_problem: Option<Problem>,
    /// The latest interruption after which reading continued.
    pub interruption: Option<Interruption>,
    /// The workers' group.
    pub group: String,
}

/// A time in which answers were not read. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Interruption {
    /// Time of the first error.
    pub since_ms: i64,
    /// Time at which reading continued.
    pub until_ms: i64,
    /// True if a partition continued with new answers, so that some before `until_ms` are missing.
    pub is_skipped: bool,
}

impl Interruption {
    /// Returns an interruption that begins at a time.
    pub(crate) fn at(since_ms: i64) -> Self {
        Self { since_ms, until_ms: since_ms, is_skipped: false }
    }
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Time at which it began, in milliseconds since 1970.
    pub since_ms: i64,
    /// Description, with the remedy.
    pub text: String,
}

/// Records of the input topic that the workers' group has not committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Time of the measurement in milliseconds since 1970.
    pub at_ms: i64,
    /// Records in all partitions.
    pub records: u64,
    /// Records of each partition, from 0.
    pub partitions: Vec<u64>,
    /// False if the group has never committed an offset.
    pub is_committed: bool,
}

/// The JSON of `/api/state` and of each server-sent event.
#[derive(Serialize)]
struct State<'a> {
    kafka: &'a Connection,
    #[serde(flatten)]
    answers: &'a Snapshot,
}

impl Board {
    /// Creates a board without answers. It compares the engines if `connection` has a topic of
    /// shadow events.
    pub fn new(settings: &Settings, connection: Connection) -> Self {
        let aggregator = Aggregator::new(settings);
        let has_shadow = connection.shadow_topic.is_some();
        let aggregator = if has_shadow { aggregator.with_shadow() } else { aggregator };
        Self {
            settings: settings.clone(),
            aggregator: Mutex::new(aggregator),
            connection: Mutex::new(connection),
            snapshots: Mutex::new(BTreeMap::new()),
        }
    }

    /// Adds a record of the topic of events. `at_ms` is its time, in milliseconds since 1970;
    /// without one it counts as now.
    pub fn add_event(&self, payload: &[u8], at_ms: Option<i64>) {
        self.add_parsed(payload, at_ms, Aggregator::add_event_record);
    }

    /// Adds a record of the topic of the shadow's events, as [`Self::add_event`] does.
    pub fn add_shadow_event(&self, payload: &[u8], at_ms: Option<i64>) {
        self.add_parsed(payload, at_ms, Aggregator::add_shadow_record);
    }

    fn add_parsed(
        &self,
        payload: &[u8],
        at_ms: Option<i64>,
        add: impl FnOnce(&mut Aggregator, &EventRecord<'_>, i64, i64),
    ) {
        // Parsing needs no lock.
        let event = EventRecord::parse(payload);
        let now_ms = now_ms();
        let at_ms = at_ms.unwrap_or(now_ms);
        match event {
            Ok(event) => add(&mut self.aggregator(), &event, at_ms, now_ms),
            Err(error) => {
                tracing::debug!(%error, "a record of an output topic is not an event");
                self.aggregator().add_foreign(at_ms, now_ms);
            }
        }
    }

    /// Adds a dead letter.
    pub fn add_dead_letter(&self, code: &str, at_ms: Option<i64>) {
        let now_ms = now_ms();
        self.aggregator().add_dead_letter(code, at_ms.unwrap_or(now_ms), now_ms);
    }

    /// Counts a record that is no answer of this service.
    pub fn add_foreign(&self, at_ms: Option<i64>) {
        let now_ms = now_ms();
        self.aggregator().add_foreign(at_ms.unwrap_or(now_ms), now_ms);
    }

    /// Sets or clears the reason why answers are not read. Another reason keeps the time at which
    /// the first began. Returns true if it is another one than before.
    pub fn set_problem(&self, text: Option<String>) -> bool {
        let mut connection = self.connection();
        let problem = continued(connection.problem.as_ref(), text);
        let is_new = problem != connection.problem;
        connection.problem = problem;
        is_new
    }

    /// Sets or clears the reason why no broker answers. Returns true if it is another one than
    /// before.
    pub fn set_brokers_away(&self, text: Option<String>) -> bool {
        let mut connection = self.connection();
        let away = continued(connection.brokers_away.as_ref(), text);
        let is_new = away != connection.brokers_away;
        connection.brokers_away = away;
        is_new
    }

    /// Sets the latest interruption after which reading continued.
    pub fn set_interruption(&self, interruption: Interruption) {
        self.connection().interruption = Some(interruption);
    }

    /// Sets the backlog, or the reason why it is not known. The last known backlog stays.
    pub fn set_lag(&self, lag: Result<Lag, String>) {
        let mut connection = self.connection();
        match lag {
            Ok(lag) => {
                connection.lag = Some(lag);
                connection.lag_problem = None;
            }
            Err(text) => {
                connection.lag_problem = continued(connection.lag_problem.as_ref(), Some(text));
            }
        }
    }

    /// Returns the state for a filter as JSON on one line. Blocks for milliseconds.
    ///
    /// # Panics
    /// Never: the state is plain data.
    pub fn state(&self, filter: &Filter) -> Arc<str> {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        // The lock is held meanwhile, so that pages with the same filter share the work.
        if let Some((_, state)) =
            snapshots.get(filter).filter(|(since, _)| since.elapsed() < SNAPSHOT_KEPT)
        {
            return Arc::clone(state);
        }
        let answers = self.aggregator().snapshot(filter, now_ms());
        let kafka = self.connection().clone();
        let state = State { kafka: &kafka, answers: &answers };
        let state: Arc<str> = serde_json::to_string(&state).expect("it is plain data").into();
        snapshots.retain(|_, (since, _)| since.elapsed() < SNAPSHOT_KEPT);
        if snapshots.len() < SNAPSHOTS_KEPT {
            snapshots.insert(filter.clone(), (Instant::now(), Arc::clone(&state)));
        }
        state
    }

    /// Returns the settings of the page.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn rejected_image(&self, number: u64) -> Option<RejectedImage> {
        self.aggregator().rejected_image(number).cloned()
    }

    fn aggregator(&self) -> MutexGuard<'_, Aggregator> {
        self.aggregator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a problem with this text. It began when the one before it did, if there is one.
fn continued(before: Option<&Problem>, text: Option<String>) -> Option<Problem> {
    let since_ms = before.map_or_else(now_ms, |before| before.since_ms);
    text.map(|text| Problem { since_ms, text })
}

pub(crate) fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}
