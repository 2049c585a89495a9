//! Compares the answers in the output topics with the references that were published.

use std::collections::{BTreeMap, BTreeSet};

use crate::bucket;
use crate::images::Sample;
use crate::service_fixture::ServiceFixture;
use crate::services::announce;
use crate::topic_reader::{Answer, TopicReader};

/// The answers that a run must produce.
pub(crate) struct Expected {
    /// Number of references from [`ServiceFixture::publish_references`]. Each becomes an event.
    pub(crate) references: usize,
    /// Keys of further records, each with the code of the dead letter that it becomes.
    pub(crate) dead_letters: BTreeMap<String, &'static str>,
}

impl Expected {
    pub(crate) fn events(references: usize) -> Self {
        Self { references, dead_letters: BTreeMap::new() }
    }

    pub(crate) fn answers(&self) -> usize {
        self.references + self.dead_letters.len()
    }
}

/// Counts of lost, repeated and wrong answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AnswerComparison {
    /// References without an answer.
    pub(crate) lost: usize,
    /// Answers beyond one for each reference.
    pub(crate) twice: usize,
    /// Answers with other content than expected.
    pub(crate) wrong: usize,
}

impl AnswerComparison {
    /// Reads both topics to their ends and counts. Asserts that all offsets are committed.
    ///
    /// An answer is correct if it has the expected kind, the image of its reference and the key of
    /// its record. Repeated answers must have the same event id, and all answers to one image the
    /// same score. Prints the first three wrong answers.
    pub(crate) fn of(
        fixture: &ServiceFixture,
        reader: &mut TopicReader,
        expected: &Expected,
    ) -> Self {
        reader.read_to_end();
        fixture.assert_everything_is_committed();
        let mut counts = Self::default();
        let mut answered = BTreeSet::new();
        let samples = bucket::fifty_images(fixture.services);
        let mut known = KnownAnswers { samples, scores: BTreeMap::new() };
        for (id, events) in &reader.events {
            answered.insert(id.clone());
            counts.twice += events.len() - 1;
            for event in events {
                let fault = known.fault_of_event(id, event, &events[0], expected.references);
                counts.count_fault(id, fault);
            }
        }
        for letter in &reader.dead_letters {
            let key = String::from_utf8_lossy(letter.key.as_deref().unwrap_or_default());
            counts.twice += usize::from(!answered.insert(key.clone().into_owned()));
            let (code, expected_code) =
                (letter.header("dogiqa.error.code"), expected.dead_letters.get(&*key).copied());
            let fault = (code != expected_code)
                .then(|| format!("a dead letter {code:?}, not {expected_code:?}"));
            counts.count_fault(&key, fault);
        }
        let numbers = (0..expected.references).map(|number| number.to_string());
        let expected_ids = numbers.chain(expected.dead_letters.keys().cloned());
        counts.lost = expected_ids.filter(|id| !answered.contains(id)).count();
        counts
    }

    fn count_fault(&mut self, id: &str, fault: Option<String>) {
        let Some(fault) = fault else { return };
        if self.wrong < 3 {
            announce(&format!("the answer to {id}: {fault}"));
        }
        self.wrong += 1;
    }
}

/// The images, and the first score of each.
struct KnownAnswers<'a> {
    samples: &'a [Sample],
    scores: BTreeMap<usize, f64>,
}

impl KnownAnswers<'_> {
    fn fault_of_event(
        &mut self,
        id: &str,
        answer: &Answer,
        first: &Answer,
        references: usize,
    ) -> Option<String> {
        let Some(number) = id.parse().ok().filter(|number: &usize| *number < references) else {
            return Some("an event without a reference".to_owned());
        };
        let (event, first) = (answer.json(), first.json());
        if event["event_id"] != first["event_id"] {
            return Some(format!("two event ids, {} and {}", first["event_id"], event["event_id"]));
        }
        if answer.key.as_deref() != Some(id.as_bytes()) {
            return Some(format!("another key, {:?}", answer.key));
        }
        let image = number % self.samples.len();
        if event["image"]["sha256"] != self.samples[image].sha256() {
            return Some(format!("another image, {}", event["image"]["sha256"]));
        }
        let score = event["score"].as_f64().unwrap();
        let known = *self.scores.entry(image).or_insert(score);
        ((known - score).abs() > 1e-9).then(|| format!("the scores {known} and {score}"))
    }
}
