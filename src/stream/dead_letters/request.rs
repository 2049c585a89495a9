//! The options of a replay.

use std::fmt;
use std::time::Duration;

use crate::stream::broker::topic_reader::Start;
use crate::stream::dead_letters::record::DeadLetter;

/// Selects the dead letters to replay, their destination and the rate.
pub struct ReplayRequest {
    /// The position from which the dead-letter topic is read.
    pub start: Start,
    /// Returns true for dead letters to replay.
    pub matches: Box<dyn Fn(&DeadLetter) -> bool + Send>,
    /// The topic to send to; `None` for the original topic of each record.
    pub to_topic: Option<String>,
    /// Replays dead letters even if they were replayed before.
    pub include_replayed: bool,
    /// Maximum number of dead letters to replay.
    pub dead_letters_max: u64,
    /// Minimum time between two dead letters; `None` for no limit.
    pub gap: Option<Duration>,
}

impl fmt::Debug for ReplayRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, to_topic, include_replayed, dead_letters_max, gap, .. } = self;
        formatter
            .debug_struct("ReplayRequest")
            .field("start", start)
            .field("to_topic", to_topic)
            .field("include_replayed", include_replayed)
            .field("dead_letters_max", dead_letters_max)
            .field("gap", gap)
            .finish_non_exhaustive()
    }
}
