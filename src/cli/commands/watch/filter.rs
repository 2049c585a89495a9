//! The filter options of `dogiqa watch`.

use clap::ValueEnum;

use crate::event::QualityEvent;
use crate::method::PolicyOutcome;

/// An event must pass all given filters. Only events that pass are printed and counted.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct EventFilter {
    /// Only events with a score below this
    #[arg(long, value_name = "SCORE")]
    below: Option<f64>,
    /// Only events with a score above this
    #[arg(long, value_name = "SCORE")]
    above: Option<f64>,
    /// Only events with this verdict. May be repeated
    #[arg(long, value_enum, value_name = "OUTCOME")]
    outcome: Vec<OutcomeName>,
    /// Only events with a verdict of this policy. May be repeated
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// Only answers to the reference with this id, dead letters included. May be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutcomeName {
    Pass,
    Review,
    Reject,
}

impl EventFilter {
    pub(crate) fn matches_event(&self, event: &QualityEvent) -> bool {
        let verdict = event.verdict.as_ref();
        let is_outcome = |name: &OutcomeName| {
            verdict.is_some_and(|verdict| verdict.outcome == PolicyOutcome::from(*name))
        };
        let is_policy = |name: &String| verdict.is_some_and(|verdict| verdict.policy == *name);
        self.below.is_none_or(|limit| event.score < limit)
            && self.above.is_none_or(|limit| event.score > limit)
            && (self.outcome.is_empty() || self.outcome.iter().any(is_outcome))
            && (self.policy.is_empty() || self.policy.iter().any(is_policy))
            && self.matches_id(&event.reference.id)
    }

    /// Returns true if the id passes. The other filters do not apply to dead letters.
    pub(crate) fn matches_id(&self, id: &str) -> bool {
        self.id.is_empty() || self.id.iter().any(|wanted| wanted == id)
    }
}

impl From<OutcomeName> for PolicyOutcome {
    fn from(name: OutcomeName) -> Self {
        match name {
            OutcomeName::Pass => Self::Pass,
            OutcomeName::Review => Self::Review,
            OutcomeName::Reject => Self::Reject,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct WatchArguments {
        #[command(flatten)]
        filter: EventFilter,
    }

    /// Returns the example of the wire contract, whose verdict is `pass`.
    fn event() -> QualityEvent {
        serde_json::from_str(include_str!("../../../../schemas/examples/quality-event.json"))
            .unwrap()
    }

    #[test]
    fn an_event_must_pass_every_filter() {
        let event = event();
        let verdict = event.verdict.clone().unwrap();
        let (outcome, policy) = (verdict.outcome.name(), verdict.policy.as_str());
        let other = if outcome == "pass" { "reject" } else { "pass" };
        let (score, id) = (event.score.to_string(), event.reference.id.as_str());
        let matches = |words: &[&str]| {
            let parsed = WatchArguments::try_parse_from([&["watch"], words].concat()).unwrap();
            parsed.filter.matches_event(&event)
        };
        assert!(matches(&[]));
        assert!(
            !matches(&["--below", &score]) && !matches(&["--above", &score]),
            "limits are exclusive"
        );
        assert!(matches(&["--below", "99", "--above", "0.5"]));
        assert!(!matches(&["--below", "99", "--above", "98"]), "every filter must pass");
        assert!(matches(&["--outcome", outcome]) && !matches(&["--outcome", other]));
        assert!(
            matches(&["--outcome", other, "--outcome", outcome]),
            "one of several outcomes is enough"
        );
        assert!(matches(&["--policy", policy]) && !matches(&["--policy", "unknown"]));
        assert!(matches(&["--id", id]) && !matches(&["--id", "another"]));
        let unjudged = QualityEvent { verdict: None, ..event.clone() };
        let parsed = WatchArguments::try_parse_from(["watch", "--outcome", outcome]).unwrap();
        assert!(
            !parsed.filter.matches_event(&unjudged),
            "an event without a verdict has no outcome"
        );
    }
}
