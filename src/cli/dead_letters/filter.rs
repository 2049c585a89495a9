//! Which dead letters are meant.

use chrono::{DateTime, Utc};

use crate::cli::when;
use crate::event::DeadLetterReason;
use crate::stream::{DeadLetter, Start};

/// Filters; a letter must pass all that are given.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filter {
    /// Only with this code, `fetch.not_found`, or of this family, `fetch`. May be repeated
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,
    /// Only of this stage: `reference`, `fetch`, `decode`, `segment`, `score`, `publish`. May be repeated
    #[arg(long, value_name = "STAGE")]
    stage: Vec<String>,
    /// Only from this time on: `2026-11-24T08:00:00Z`, or an age such as `2h`
    #[arg(long, value_name = "TIME", value_parser = when::time)]
    since: Option<DateTime<Utc>>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = when::time)]
    until: Option<DateTime<Utc>>,
    /// Only of the reference with this id; where none can be read, of the record with this key. May be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

impl Filter {
    /// Where reading begins: a letter is written after its record was given up.
    pub(super) fn start(&self) -> Start {
        self.since.map_or(Start::Beginning, Start::At)
    }

    pub(super) fn matches(&self, letter: &DeadLetter) -> bool {
        self.takes(&letter.reason, || letter.name())
    }

    fn takes(&self, reason: &DeadLetterReason, name: impl Fn() -> String) -> bool {
        let is_of = |code: &String| match reason.code.strip_prefix(code.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        (self.code.is_empty() || self.code.iter().any(is_of))
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
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn takes(words: &[&str]) -> bool {
        let reason = DeadLetterReason {
            code: "fetch.not_found".to_owned(),
            message: "there is no object".to_owned(),
            stage: "fetch".to_owned(),
            attempts: 1,
            time: "2026-11-24T08:00:00Z".parse().unwrap(),
            group: "dogiqa".to_owned(),
            version: "0.1.0".to_owned(),
            original: Source { topic: "in".to_owned(), partition: 0, offset: 7, timestamp: None },
        };
        let line = Line::try_parse_from([&["list"], words].concat()).unwrap();
        line.filter.takes(&reason, || "cat".to_owned())
    }

    #[test]
    fn a_code_stands_for_itself_and_for_its_family() {
        assert!(takes(&[]));
        assert!(takes(&["--code", "fetch.not_found"]));
        assert!(takes(&["--code", "fetch"]));
        assert!(takes(&["--code", "decode", "--code", "fetch"]));
        for other in ["fetch.not", "fetc", "fetch.not_found.here", "not_found", "decode"] {
            assert!(!takes(&["--code", other]), "{other}");
        }
    }

    #[test]
    fn since_is_in_and_until_is_out() {
        let (before, then, after) =
            ("2026-11-24T07:59:59Z", "2026-11-24T09:00:00+01:00", "2026-11-24T08:00:01Z");
        assert!(takes(&["--since", before]) && takes(&["--since", then]));
        assert!(!takes(&["--since", after]));
        assert!(takes(&["--until", after]));
        assert!(!takes(&["--until", then]) && !takes(&["--until", before]));
    }

    #[test]
    fn all_kinds_of_filter_must_agree() {
        assert!(takes(&["--stage", "decode", "--stage", "fetch", "--id", "cat"]));
        assert!(!takes(&["--stage", "decode", "--id", "cat"]));
        assert!(!takes(&["--stage", "fetch", "--id", "dog"]));
    }
}
