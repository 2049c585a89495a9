//! librdkafka's statistics: connected brokers, and the positions and ends of partitions.

use std::collections::HashMap;

use serde::Deserialize;

/// librdkafka's value for an unknown number.
const UNKNOWN: i64 = -1;

/// The part of the statistics that the worker uses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Statistics {
    brokers: HashMap<String, Broker>,
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Broker {
    state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Partition {
    #[serde(rename = "partition")]
    number: i32,
    fetchq_cnt: i64,
    next_offset: i64,
    committed_offset: i64,
    lo_offset: i64,
    ls_offset: i64,
    hi_offset: i64,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            number: -1,
            fetchq_cnt: 0,
            next_offset: UNKNOWN,
            committed_offset: UNKNOWN,
            lo_offset: UNKNOWN,
            ls_offset: UNKNOWN,
            hi_offset: UNKNOWN,
        }
    }
}

/// The ends of a partition, and the group's position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LagExtent {
    pub(crate) partition: i32,
    /// One past the last record that readers of committed records receive.
    pub(crate) end: i64,
    /// One past the last record, those of open transactions included. At least `end`.
    pub(crate) high: i64,
    /// The committed offset of the group; `None` if there is none or librdkafka does not know it.
    pub(crate) committed: Option<i64>,
    /// Offset of the first record of the log.
    pub(crate) start: i64,
    /// True if librdkafka has fetched no record although there are more.
    pub(crate) is_behind: bool,
}

impl Statistics {
    /// Parses librdkafka's JSON.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Returns true if a connection to any broker is up.
    pub(crate) fn is_any_broker_up(&self) -> bool {
        self.brokers.values().any(|broker| matches!(broker.state.as_str(), "UP" | "UPDATE"))
    }

    /// Returns the partitions of a topic whose end is known.
    pub(crate) fn extents(&self, topic: &str) -> Vec<LagExtent> {
        let partitions = self.topics.get(topic).into_iter().flat_map(|t| t.partitions.values());
        // Partition -1 holds records that have no partition yet.
        let known = partitions.filter(|p| p.number >= 0 && p.ls_offset >= 0);
        known
            .map(|p| LagExtent {
                partition: p.number,
                end: p.ls_offset,
                high: p.hi_offset.max(p.ls_offset),
                committed: Some(p.committed_offset).filter(|offset| *offset >= 0),
                start: p.lo_offset.max(0),
                is_behind: p.next_offset >= 0 && p.next_offset < p.ls_offset && p.fetchq_cnt == 0,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "name": "dogiqa#consumer-1", "replyq": 0,
        "brokers": {
            "127.0.0.1:9092/1": {"nodeid": 1, "state": "UP", "rtt": {"p99": 412}},
            "GroupCoordinator": {"nodeid": 1, "state": "DOWN"}
        },
        "topics": {"image-references": {"topic": "image-references", "partitions": {
            "0": {"partition": 0, "fetchq_cnt": 0, "next_offset": 40, "committed_offset": 35,
                  "lo_offset": 0, "hi_offset": 52, "ls_offset": 50},
            "1": {"partition": 1, "fetchq_cnt": 7, "next_offset": 10, "committed_offset": -1001,
                  "lo_offset": 3, "hi_offset": 20, "ls_offset": 20},
            "2": {"partition": 2, "next_offset": -1001, "ls_offset": -1001},
            "-1": {"partition": -1, "ls_offset": 9}
        }}},
        "cgrp": {"state": "up", "rebalance_cnt": 1}
    }"#;

    #[test]
    fn partitions_with_unknown_end_are_skipped() {
        let statistics = Statistics::parse(JSON.as_bytes()).unwrap();
        assert!(statistics.is_any_broker_up());
        let mut extents = statistics.extents("image-references");
        extents.sort_by_key(|extent| extent.partition);
        let [first, second] = extents[..] else { panic!("{extents:?}") };
        assert_eq!(
            first,
            LagExtent {
                partition: 0,
                end: 50,
                high: 52,
                committed: Some(35),
                start: 0,
                is_behind: true
            }
        );
        assert_eq!(
            second,
            LagExtent {
                partition: 1,
                end: 20,
                high: 20,
                committed: None,
                start: 3,
                is_behind: false
            }
        );
        assert!(statistics.extents("another").is_empty());
    }

    #[test]
    fn a_broker_that_is_being_connected_is_not_up() {
        let json = r#"{"brokers": {"a:1/bootstrap": {"state": "TRY_CONNECT"}}}"#;
        assert!(!Statistics::parse(json.as_bytes()).unwrap().is_any_broker_up());
    }
}
