//! The settings of topics that lose or refuse records, and a backlog that retention deletes.

use bytesize::ByteSize;

use crate::stream::{Backlog, Settings, TopicReport, TopicSettings};

/// With fewer replicas, the loss of one broker can lose acknowledged answers.
const REPLICAS_MIN: usize = 3;
/// With a lower `min.insync.replicas`, an acknowledged answer may be on one broker only.
const IN_SYNC_MIN: usize = 2;
/// Largest batch of a producer in bytes, before compression: `batch.size` of librdkafka.
const BATCH_BYTES: u64 = 1_000_000;

/// The part of a topic in the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicRole {
    /// References to read.
    Input,
    /// Events.
    Output,
    /// Records that could not be answered.
    DeadLetters,
}

impl TopicRole {
    pub(crate) fn of(topic: &str, kafka: &Settings) -> Self {
        if topic == kafka.input_topic {
            Self::Input
        } else if topic == kafka.dead_letter_topic {
            Self::DeadLetters
        } else {
            Self::Output
        }
    }
}

/// Returns what a topic loses or refuses, as clauses.
pub(crate) fn topic_problems(
    role: TopicRole,
    topic: &TopicReport,
    settings: &TopicSettings,
    of_input: &TopicSettings,
) -> Vec<String> {
    let durability = durability_problem(topic.replicas, settings.min_insync_replicas);
    let compaction = match role {
        _ if settings.is_compacted != Some(true) => None,
        TopicRole::Input => Some(
            "cleanup.policy = compact: a reference is removed unanswered if a newer one has its key",
        ),
        TopicRole::DeadLetters => Some(
            "cleanup.policy = compact: of several dead letters with one key, only the last is kept",
        ),
        // An output topic with the last event of each key may be intended.
        TopicRole::Output => None,
    };
    durability
        .into_iter()
        .chain(compaction.map(str::to_owned))
        .chain(size_problem(role, settings.batch_bytes_max, of_input.batch_bytes_max))
        .collect()
}

fn durability_problem(replicas: usize, min_insync_replicas: Option<usize>) -> Option<String> {
    match min_insync_replicas {
        Some(least) if least > replicas => {
            Some(format!("min.insync.replicas = {least} is more than that: nothing can be written"))
        }
        _ if replicas < REPLICAS_MIN => {
            Some(format!("below {REPLICAS_MIN} a lost broker can lose answers"))
        }
        Some(least) if least < IN_SYNC_MIN => Some(format!(
            "min.insync.replicas = {least}: a lost broker can lose answers; set {IN_SYNC_MIN}"
        )),
        _ => None,
    }
}

fn size_problem(role: TopicRole, own: Option<u64>, of_input: Option<u64>) -> Option<String> {
    let own = own?;
    let size = |bytes| ByteSize(bytes).display().si().to_string();
    match role {
        TopicRole::Input => None,
        TopicRole::DeadLetters if of_input.is_some_and(|of_input| own < of_input) => Some(format!(
            "max.message.bytes = {own} is less than that of the input topic: large references lose \
             their value"
        )),
        _ if own < BATCH_BYTES => Some(format!(
            "max.message.bytes = {own} is less than a batch of {}: full batches are sent again \
             record by record",
            size(BATCH_BYTES)
        )),
        _ => None,
    }
}

/// Returns what is lost of a backlog, as clauses.
pub(crate) fn backlog_problems(backlog: &Backlog) -> Vec<String> {
    let mut problems = Vec::new();
    if backlog.deleted > 0 {
        problems.push(format!(
            "retention has deleted {} of its records unanswered; raise retention.ms of the input \
             topic or add workers",
            backlog.deleted
        ));
    }
    if backlog.is_nearly_deleted {
        problems.push(
            "its oldest record is older than four fifths of retention.ms, and is deleted \
             unanswered soon; raise it or add workers"
                .to_owned(),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(role: TopicRole, replicas: usize, settings: TopicSettings) -> String {
        let topic = TopicReport { name: "t".to_owned(), partitions: 6, replicas };
        let of_input =
            TopicSettings { batch_bytes_max: Some(2_000_000), ..TopicSettings::default() };
        topic_problems(role, &topic, &settings, &of_input).join("; ")
    }

    #[test]
    fn a_topic_that_can_lose_or_refuse_answers_gets_a_warning() {
        for (replicas, min_insync_replicas, expected) in [
            (3, Some(2), ""),
            (3, Some(3), ""),
            (3, None, ""),
            (3, Some(1), "min.insync.replicas = 1"),
            (3, Some(4), "nothing can be written"),
            (1, Some(2), "nothing can be written"),
            (2, Some(2), "below 3"),
            (1, None, "below 3"),
        ] {
            let settings = TopicSettings { min_insync_replicas, ..TopicSettings::default() };
            let found = problems(TopicRole::Output, replicas, settings);
            assert!(found.contains(expected), "{found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
        }
    }

    #[test]
    fn compaction_and_small_limits_are_problems_where_they_lose_something() {
        let compacted = TopicSettings { is_compacted: Some(true), ..TopicSettings::default() };
        assert!(problems(TopicRole::Input, 3, compacted).contains("removed unanswered"));
        assert!(problems(TopicRole::DeadLetters, 3, compacted).contains("only the last"));
        assert_eq!(problems(TopicRole::Output, 3, compacted), "");
        let limit = |bytes| TopicSettings { batch_bytes_max: Some(bytes), ..Default::default() };
        assert!(problems(TopicRole::DeadLetters, 3, limit(1_500_000)).contains("lose their value"));
        assert_eq!(problems(TopicRole::DeadLetters, 3, limit(2_000_000)), "");
        assert!(problems(TopicRole::Output, 3, limit(20_000)).contains("record by record"));
        assert_eq!(problems(TopicRole::Output, 3, limit(1_048_588)), "");
        assert_eq!(problems(TopicRole::Input, 3, limit(20_000)), "");
    }

    #[test]
    fn a_backlog_that_retention_deletes_is_a_problem() {
        assert!(backlog_problems(&Backlog { records: 9, ..Backlog::default() }).is_empty());
        let lost = Backlog { records: 9, deleted: 7, is_nearly_deleted: true };
        let found = backlog_problems(&lost).join("; ");
        assert!(found.contains("deleted 7") && found.contains("four fifths"), "{found}");
    }
}
