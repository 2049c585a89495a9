//! The latest event of each object that notifications named lately.
//!
//! Stores may deliver the events of an object in any order, and an object may be overwritten before
//! its event is read. If a later event of the object was received, its absence is no error.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::event::notification::{Entry, Sequencer};

/// Maximum number of objects that are remembered. The oldest are forgotten first.
const OBJECTS_MAX: usize = 20_000;

/// The latest sequencer by object.
#[derive(Debug, Default)]
pub(crate) struct LatestEvents {
    /// URIs are hashed, because they may be long.
    hasher: RandomState,
    latest: HashMap<u64, Sequencer>,
    /// Objects in the order of their first event.
    order: VecDeque<u64>,
}

impl LatestEvents {
    /// Records the event of an entry, if it has a sequencer.
    pub(crate) fn observe(&mut self, entry: &Entry) {
        let (uri, sequencer) = match entry {
            Entry::Object(object) => (&object.reference.uri, object.sequencer.as_ref()),
            Entry::Skipped { removed: Some((uri, sequencer)), .. } => (uri, Some(sequencer)),
            _ => return,
        };
        let Some(sequencer) = sequencer else { return };
        let object = self.hasher.hash_one(uri);
        match self.latest.get_mut(&object) {
            Some(latest) if *latest >= *sequencer => {}
            Some(latest) => *latest = sequencer.clone(),
            None => {
                self.latest.insert(object, sequencer.clone());
                self.order.push_back(object);
                if self.order.len() > OBJECTS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.latest.remove(&oldest);
                }
            }
        }
    }

    /// Returns true if a later event of the object was received.
    pub(crate) fn is_superseded(&self, uri: &str, sequencer: &Sequencer) -> bool {
        let latest = self.latest.get(&self.hasher.hash_one(uri));
        latest.is_some_and(|latest| latest > sequencer)
    }
}

#[cfg(test)]
mod tests {
    use crate::event::Headers;
    use crate::event::notification::{self, InputFormat};

    use super::*;

    fn entry(name: &str, key: &str, sequencer: &str) -> Entry {
        let record = serde_json::json!({"Records": [{"eventName": name, "s3": {
            "bucket": {"name": "photos"}, "object": {"key": key, "sequencer": sequencer}}}]});
        let payload = record.to_string();
        let parsed =
            notification::parse(&Headers::default(), payload.as_bytes(), InputFormat::Auto);
        parsed.unwrap().remove(0).entry
    }

    fn is_superseded(latest: &LatestEvents, entry: &Entry) -> bool {
        let Entry::Object(object) = entry else { panic!("{entry:?}") };
        latest.is_superseded(&object.reference.uri, object.sequencer.as_ref().unwrap())
    }

    #[test]
    fn an_older_event_of_the_same_object_is_superseded() {
        let mut latest = LatestEvents::default();
        let created = |key, sequencer| entry("ObjectCreated:Put", key, sequencer);
        latest.observe(&created("a", "05"));
        latest.observe(&created("a", "03"));
        assert!(is_superseded(&latest, &created("a", "03")));
        assert!(!is_superseded(&latest, &created("a", "05")));
        assert!(!is_superseded(&latest, &created("a", "07")));
        assert!(!is_superseded(&latest, &created("b", "03")));
        latest.observe(&entry("ObjectRemoved:Delete", "b", "04"));
        assert!(is_superseded(&latest, &created("b", "03")));
    }

    #[test]
    fn the_oldest_objects_are_forgotten() {
        let mut latest = LatestEvents::default();
        for number in 0..=OBJECTS_MAX {
            latest.observe(&entry("ObjectCreated:Put", &format!("{number}"), "05"));
        }
        assert_eq!((latest.latest.len(), latest.order.len()), (OBJECTS_MAX, OBJECTS_MAX));
        assert!(!is_superseded(&latest, &entry("ObjectCreated:Put", "0", "03")));
        assert!(is_superseded(&latest, &entry("ObjectCreated:Put", "1", "03")));
    }
}
