//! Facts that librdkafka states only in the text of a log line or an error.
//!
//! The Rust interface exposes neither the id of a topic, nor the reset of an offset, nor the offset
//! of an error. The texts are those of librdkafka 2.12; the tests in `tests/services` fail if a
//! later version words them differently.

/// The id of a topic that has none, or whose metadata is not known yet, as librdkafka prints it.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A fact about the consumed topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The topic has this id. Either it is the first one, or the topic was deleted and created
    /// again, or a broker has not heard of that yet and returned the old id once more.
    TopicId { topic: String, id: String },
    /// The brokers do not have the offset from which the consumer wanted to read.
    OffsetReset {
        topic: String,
        partition: i32,
        /// The offset that does not exist.
        offset: i64,
    },
}

impl Notice {
    /// Reads a log line. Returns `None` for all others.
    pub(crate) fn parse(facility: &str, line: &str) -> Option<Self> {
        match facility {
            "METADATA" => topic_id(line),
            "OFFSET" => offset_reset(line),
            _ => None,
        }
    }
}

/// Returns the offset in the text of a consumer error, or `None` if it names none.
pub(crate) fn offset_of_error(reason: &str) -> Option<i64> {
    ["message at offset ", "MessageSet at offset ", "message at ", "at offset "]
        .iter()
        .find_map(|before| number_after(reason, before))
}

/// Returns the text without the name of librdkafka's thread.
fn without_thread(line: &str) -> &str {
    match line.strip_prefix("[thrd:") {
        Some(rest) => rest.split_once("]: ").map_or(line, |(_, text)| text),
        None => line,
    }
}

/// `Topic photos changed id from 1dF… to Xq0…`
fn topic_id(line: &str) -> Option<Notice> {
    let text = without_thread(line).strip_prefix("Topic ")?;
    let (topic, ids) = text.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    // A broker that is older than topic ids sends none.
    let is_known = id.trim_end_matches('=') != NO_ID;
    is_known.then(|| Notice::TopicId { topic: topic.to_owned(), id: id.to_owned() })
}

/// `photos [3]: offset reset (at offset 40 (leader epoch 0), broker 1) to …`
fn offset_reset(line: &str) -> Option<Notice> {
    let (position, rest) = without_thread(line).split_once("]: offset reset (at ")?;
    let (topic, partition) = position.rsplit_once(" [")?;
    let offset = number_after(rest, "offset ")?;
    Some(Notice::OffsetReset {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
        offset,
    })
}

fn number_after(text: &str, before: &str) -> Option<i64> {
    let (_, rest) = text.split_once(before)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_topic_is_noticed_unless_the_broker_sends_none() {
        let line = |old: &str| {
            format!("[thrd:main]: Topic photos changed id from {old} to 5WGfxdMbQhGlFYpTW8B9fg")
        };
        let noticed = Some(Notice::TopicId {
            topic: "photos".to_owned(),
            id: "5WGfxdMbQhGlFYpTW8B9fg".to_owned(),
        });
        assert_eq!(Notice::parse("METADATA", &line("HUbsPpK1TX+6tA0mDLCnIw")), noticed);
        assert_eq!(Notice::parse("METADATA", &line(NO_ID)), noticed);
        let downgraded = format!("Topic photos changed id from HUbsPpK1TX+6tA0mDLCnIw to {NO_ID}");
        assert_eq!(Notice::parse("METADATA", &downgraded), None);
        assert_eq!(Notice::parse("METADATA", "Topic photos partition 0 Leader 1 Epoch 0"), None);
        assert_eq!(Notice::parse("TOPIC", &line("HUbsPpK1TX+6tA0mDLCnIw")), None);
    }

    #[test]
    fn a_reset_names_the_partition_and_the_missing_offset() {
        let line = "[thrd:main]: photos [3]: offset reset (at offset 40 (leader epoch 0), broker \
                    1) to cached BEGINNING offset 60 (leader epoch -1): fetch failed due to \
                    requested offset not available on the broker: Broker: Offset out of range";
        let reset = Notice::OffsetReset { topic: "photos".to_owned(), partition: 3, offset: 40 };
        assert_eq!(Notice::parse("OFFSET", line), Some(reset));
        let first = "photos [3]: offset reset (at BEGINNING, broker 1) to BEGINNING: no offset";
        assert_eq!(Notice::parse("OFFSET", first), None, "a new group has no offset");
    }

    #[test]
    fn the_offset_of_an_error_is_read_from_its_text() {
        for (reason, offset) in [
            ("Decompression (codec 0x4) of message at 123 of 3700 bytes failed: Local", Some(123)),
            ("MessageSet at offset 7 (99 bytes) failed CRC32C check", Some(7)),
            (
                "Fetch from broker 1 reached end of partition at offset 12 (HighwaterMark 13)",
                Some(12),
            ),
            ("Fetch from broker 2 failed at offset 5 (leader epoch 1): Broker: x", Some(5)),
            ("1/1 brokers are down", None),
        ] {
            assert_eq!(offset_of_error(reason), offset, "{reason}");
        }
    }
}
