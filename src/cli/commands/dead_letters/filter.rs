//! The filter options of the `dead-letters` subcommands.

use chrono::{DateTime, Utc};

use crate::cli::time_and_rate::parse_time;
use crate::event::DeadLetterReason;
use crate::stream::{DeadLetter, Start};

/// A dead letter must pass all given filters.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DeadLetterFilter {
    /// Only errors with this code, such as `fetch.not_found`, or code family, such as `fetch`. May
    /// be repeated
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,
    /// Only errors of this stage: `reference`, `fetch`, `decode`, `segment`, `score`, `measure`,
    /// `publish`. May be repeated
    #[arg(long, value_name = "STAGE")]
    stage: Vec<String>,
    /// Only errors at or after this time: `2026-11-24T08:00:00Z`, or an age such as `2h`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Only errors before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
    /// Only the reference with this id; if the record has no readable id, the record with this key.
    /// May be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

impl DeadLetterFilter {
    /// Returns the position from which to read. A dead letter is written after the time of its
    /// error, so nothing before `since` can match.
    pub(crate) fn start(&self) -> Start {
        self.since.map_or(Start::Beginning, Start::At)
    }

    pub(crate) fn matches(&self, letter: &DeadLetter) -> bool {
        self.matches_reason(&letter.reason, || letter.name())
    }

    fn matches_reason(&self, reason: &DeadLetterReason, name: impl Fn() -> String) -> bool {
        let is_in_family = |code: &String| match reason.code.strip_prefix(code.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        (self.code.is_empty() || self.code.iter().any(is_in_family))
            && (self.stage.is_empty() || self.stage.contains(&reason.stage))
            && self.since.is_none_or(|since| reason.time >= since)
            && self.until.is_none_or(|until| reason.time < until)
            && (self.id.is_empty() || self.id.contains(&name()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::event::Source;

    use super::*;

    #[derive(Parser)]
    struct ListArguments {
        #[command(flatten)]
        filter: DeadLetterFilter,
    }

    fn matches(words: &[&str]) -> bool {
        let reason = DeadLetterReason {
            code: "fetch.not_found".to_owned(),
            message: "there is no object".to_owned(),
            stage: "fetch".to_owned(),
            attempts: 1,
            time: "2026-11-24T08:00:00Z".parse().unwrap(),
            group: "dogiqa".to_owned(),
            version: "0.1.0".to_owned(),
            original: Source {
                topic: "in".to_owned(),
                partition: 0,
                offset: 7,
                timestamp: None,
                index: None,
            },
        };
        let parsed = ListArguments::try_parse_from([&["list"], words].concat()).unwrap();
        parsed.filter.matches_reason(&reason, || "cat".to_owned())
    }

    #[test]
    fn a_code_matches_itself_and_its_family() {
        assert!(matches(&[]));
        assert!(matches(&["--code", "fetch.not_found"]));
        assert!(matches(&["--code", "fetch"]));
        assert!(matches(&["--code", "decode", "--code", "fetch"]));
        for other in ["fetch.not", "fetc", "fetch.not_found.here", "not_found", "decode"] {
            assert!(!matches(&["--code", other]), "{other}");
        }
    }

    #[test]
    fn since_is_inclusive_and_until_is_exclusive() {
        let (before, then, after) =
            ("2026-11-24T07:59:59Z", "2026-11-24T09:00:00+01:00", "2026-11-24T08:00:01Z");
        assert!(matches(&["--since", before]) && matches(&["--since", then]));
        assert!(!matches(&["--since", after]));
        assert!(matches(&["--until", after]));
        assert!(!matches(&["--until", then]) && !matches(&["--until", before]));
    }

    #[test]
    fn a_dead_letter_must_pass_every_filter() {
        assert!(matches(&["--stage", "decode", "--stage", "fetch", "--id", "cat"]));
        assert!(!matches(&["--stage", "decode", "--id", "cat"]));
        assert!(!matches(&["--stage", "fetch", "--id", "dog"]));
    }
}
