//! What the answers so far come to, in memory that does not grow with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use humantime::format_duration;

use crate::cli::codes::CodeCounts;
use crate::event::QualityEvent;
use crate::redact::printable;

/// Scores are counted in hundredths, which is what is shown of them; none that a standard gives is larger.
const SCORE_MAX: f64 = 100.0;

/// Counts since the start.
#[derive(Debug)]
pub(super) struct Statistics {
    start: Instant,
    events: u64,
    sum: f64,
    /// Events by their score in hundredths.
    scores: BTreeMap<u16, u64>,
    /// Events by the level of the whole image, with its word.
    levels: BTreeMap<u8, (String, u64)>,
    dead_letters: u64,
    codes: CodeCounts,
    foreign: u64,
}

impl Statistics {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            events: 0,
            sum: 0.0,
            scores: BTreeMap::new(),
            levels: BTreeMap::new(),
            dead_letters: 0,
            codes: CodeCounts::default(),
            foreign: 0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is clamped to what fits, and what is no number becomes 0"
    )]
    pub(super) fn add_event(&mut self, event: &QualityEvent) {
        let score = event.score.clamp(0.0, SCORE_MAX);
        self.events += 1;
        self.sum += score;
        *self.scores.entry((score * 100.0).round() as u16).or_default() += 1;
        let word = || printable(&event.global.word).chars().take(24).collect();
        let (_, count) = self.levels.entry(event.global.level).or_insert_with(|| (word(), 0));
        *count += 1;
    }

    pub(super) fn add_dead_letter(&mut self, code: &str) {
        self.dead_letters += 1;
        self.codes.add(code);
    }

    /// A record of a topic of ours that is no answer of ours.
    pub(super) fn add_foreign(&mut self) {
        self.foreign += 1;
    }

    /// Events and dead letters so far.
    pub(super) fn shown(&self) -> u64 {
        self.events + self.dead_letters
    }

    /// What it comes to, for people.
    pub(super) fn lines(&self, now: Instant) -> Vec<String> {
        let elapsed = now.saturating_duration_since(self.start);
        let rate = self.events as f64 / elapsed.as_secs_f64().max(1e-3);
        let time = format_duration(Duration::from_secs(elapsed.as_secs()));
        let mut lines = vec![format!("events: {} in {time}, {rate:.1}/s", self.events)];
        if let (Some(lowest), Some(highest)) =
            (self.scores.keys().next(), self.scores.keys().last())
        {
            let score = |hundredths: u16| f64::from(hundredths) / 100.0;
            lines.push(format!(
                "score: mean {:.2}, median {:.2}, lowest {:.2}, highest {:.2}",
                self.sum / self.events as f64,
                self.median(),
                score(*lowest),
                score(*highest),
            ));
            let share = |(level, (word, count)): (&u8, &(String, u64))| {
                let percent = 100.0 * *count as f64 / self.events as f64;
                format!("{level} {word} {percent:.0} %")
            };
            let shares: Vec<String> = self.levels.iter().map(share).collect();
            lines.push(format!("levels: {}", shares.join(", ")));
        }
        if self.dead_letters > 0 {
            let codes = self.codes.iter().map(|(code, count)| format!("{code} {count}"));
            let codes = codes.collect::<Vec<_>>().join(", ");
            lines.push(format!("dead letters: {} ({codes})", self.dead_letters));
        }
        if self.foreign > 0 {
            lines.push(format!("records that are no answers of this service: {}", self.foreign));
        }
        lines
    }

    /// The middle score, or the mean of the two in the middle.
    fn median(&self) -> f64 {
        let at = |rank: u64| {
            let mut below = 0;
            let mut scores = self.scores.iter();
            let found = scores.find(|(_, count)| {
                below += **count;
                below > rank
            });
            found.map_or(0.0, |(hundredths, _)| f64::from(*hundredths) / 100.0)
        };
        f64::midpoint(at(self.events.saturating_sub(1) / 2), at(self.events / 2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(score: f64, level: u8) -> QualityEvent {
        let example = include_str!("../../../schemas/examples/quality-event.json");
        let mut event: QualityEvent = serde_json::from_str(example).unwrap();
        event.score = score;
        event.global.level = level;
        event.global.word = format!("word{level}");
        event
    }

    fn lines(statistics: &Statistics, seconds: u64) -> Vec<String> {
        statistics.lines(statistics.start + Duration::from_secs(seconds))
    }

    #[test]
    fn what_was_seen_is_summed_up() {
        let mut statistics = Statistics::new(Instant::now());
        for (score, level) in [(4.0, 4), (1.5, 2), (7.25, 7), (4.5, 4)] {
            statistics.add_event(&event(score, level));
        }
        for code in ["fetch.not_found", "decode.empty", "fetch.not_found"] {
            statistics.add_dead_letter(code);
        }
        statistics.add_foreign();
        assert_eq!(statistics.shown(), 7);
        assert_eq!(
            lines(&statistics, 8),
            [
                "events: 4 in 8s, 0.5/s",
                "score: mean 4.31, median 4.25, lowest 1.50, highest 7.25",
                "levels: 2 word2 25 %, 4 word4 50 %, 7 word7 25 %",
                "dead letters: 3 (decode.empty 1, fetch.not_found 2)",
                "records that are no answers of this service: 1",
            ]
        );
    }

    #[test]
    fn nothing_seen_is_one_line() {
        assert_eq!(lines(&Statistics::new(Instant::now()), 0), ["events: 0 in 0s, 0.0/s"]);
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let mut statistics = Statistics::new(Instant::now());
        for number in 0..10_000 {
            statistics.add_dead_letter(&format!("made.up-{number}"));
            statistics.add_event(&event(f64::from(number) * 1e6, 1));
        }
        statistics.add_event(&event(f64::NAN, 1));
        assert!(statistics.scores.len() <= 10_001);
        assert!(lines(&statistics, 1)[3].contains("other 9936"));
    }

    proptest! {
        #[test]
        fn the_median_is_that_of_the_sorted_scores(
            mut hundredths in prop::collection::vec(100_u16..1400, 1..60),
        ) {
            let mut statistics = Statistics::new(Instant::now());
            for score in &hundredths {
                statistics.add_event(&event(f64::from(*score) / 100.0, 1));
            }
            hundredths.sort_unstable();
            let (lower, upper) = ((hundredths.len() - 1) / 2, hundredths.len() / 2);
            let sum = f64::from(hundredths[lower]) + f64::from(hundredths[upper]);
            prop_assert!((statistics.median() - sum / 200.0).abs() < 1e-9);
        }
    }
}
