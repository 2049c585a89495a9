//! Running statistics of answers, in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use humantime::format_duration;

use crate::cli::code_counts::CodeCounts;
use crate::event::QualityEvent;
use crate::redact::printable;

/// Upper bound of the scores of all standards. Scores are counted in hundredths, as printed.
const SCORE_MAX: f64 = 100.0;

/// Counts of the answers since the start.
#[derive(Debug)]
pub(crate) struct WatchStatistics {
    start: Instant,
    events: u64,
    sum: f64,
    /// Number of events by score in hundredths.
    scores: BTreeMap<u16, u64>,
    /// Word and number of events by the level of the whole image.
    levels: BTreeMap<u8, (String, u64)>,
    dead_letters: u64,
    codes: CodeCounts,
    foreign: u64,
}

impl WatchStatistics {
    pub(crate) fn new(start: Instant) -> Self {
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
        reason = "the score is clamped to 0..=SCORE_MAX, and NaN becomes 0"
    )]
    pub(crate) fn add_event(&mut self, event: &QualityEvent) {
        let score = event.score.clamp(0.0, SCORE_MAX);
        self.events += 1;
        self.sum += score;
        *self.scores.entry((score * 100.0).round() as u16).or_default() += 1;
        let word = || printable(&event.global.word).chars().take(24).collect();
        let (_, count) = self.levels.entry(event.global.level).or_insert_with(|| (word(), 0));
        *count += 1;
    }

    pub(crate) fn add_dead_letter(&mut self, code: &str) {
        self.dead_letters += 1;
        self.codes.add(code);
    }

    /// Counts a record that this service did not write.
    pub(crate) fn add_foreign(&mut self) {
        self.foreign += 1;
    }

    /// Returns the number of events and dead letters.
    pub(crate) fn answers(&self) -> u64 {
        self.events + self.dead_letters
    }

    /// Returns the statistics as lines for the terminal.
    pub(crate) fn lines(&self, now: Instant) -> Vec<String> {
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
            let codes: Vec<_> =
                self.codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
            let codes = codes.join(", ");
            lines.push(format!("dead letters: {} ({codes})", self.dead_letters));
        }
        if self.foreign > 0 {
            lines.push(format!("records that are no answers of this service: {}", self.foreign));
        }
        lines
    }

    /// Returns the median score: the mean of the two middle ones if their number is even.
    fn median(&self) -> f64 {
        let score_at = |rank: u64| {
            let mut count_so_far = 0;
            let mut scores = self.scores.iter();
            let found = scores.find(|(_, count)| {
                count_so_far += **count;
                count_so_far > rank
            });
            found.map_or(0.0, |(hundredths, _)| f64::from(*hundredths) / 100.0)
        };
        f64::midpoint(score_at(self.events.saturating_sub(1) / 2), score_at(self.events / 2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(score: f64, level: u8) -> QualityEvent {
        let example = include_str!("../../../../schemas/examples/quality-event.json");
        let mut event: QualityEvent = serde_json::from_str(example).unwrap();
        event.score = score;
        event.global.level = level;
        event.global.word = format!("word{level}");
        event
    }

    fn lines(statistics: &WatchStatistics, seconds: u64) -> Vec<String> {
        statistics.lines(statistics.start + Duration::from_secs(seconds))
    }

    #[test]
    fn the_lines_summarise_events_dead_letters_and_foreign_records() {
        let mut statistics = WatchStatistics::new(Instant::now());
        for (score, level) in [(4.0, 4), (1.5, 2), (7.25, 7), (4.5, 4)] {
            statistics.add_event(&event(score, level));
        }
        for code in ["fetch.not_found", "decode.empty", "fetch.not_found"] {
            statistics.add_dead_letter(code);
        }
        statistics.add_foreign();
        assert_eq!(statistics.answers(), 7);
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
    fn statistics_without_answers_are_one_line() {
        assert_eq!(lines(&WatchStatistics::new(Instant::now()), 0), ["events: 0 in 0s, 0.0/s"]);
    }

    #[test]
    fn invented_codes_and_scores_cannot_fill_the_memory() {
        let mut statistics = WatchStatistics::new(Instant::now());
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
        fn the_median_equals_that_of_the_sorted_scores(
            mut hundredths in prop::collection::vec(100_u16..1400, 1..60),
        ) {
            let mut statistics = WatchStatistics::new(Instant::now());
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
