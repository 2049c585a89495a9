//! Which events are shown and counted.

use clap::ValueEnum;

use crate::event::QualityEvent;
use crate::method::PolicyOutcome;

/// Filters; an event must pass all that are given.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filter {
    /// Only events with a score below this
    #[arg(long, value_name = "SCORE")]
    below: Option<f64>,
    /// Only events with a score above this
    #[arg(long, value_name = "SCORE")]
    above: Option<f64>,
    /// Only events with this verdict. May be repeated
    #[arg(long, value_enum, value_name = "OUTCOME")]
    outcome: Vec<OutcomeName>,
    /// Only events that this policy judged. May be repeated
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// Only answers to the reference with this id. May be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

/// A verdict by its name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutcomeName {
    Pass,
    Review,
    Reject,
}

impl Filter {
    pub(super) fn takes_event(&self, event: &QualityEvent) -> bool {
        let verdict = event.verdict.as_ref();
        let is_outcome = |name: &OutcomeName| {
            verdict.is_some_and(|verdict| verdict.outcome == PolicyOutcome::from(*name))
        };
        let is_policy = |name: &String| verdict.is_some_and(|verdict| verdict.policy == *name);
        self.below.is_none_or(|bar| event.score < bar)
            && self.above.is_none_or(|bar| event.score > bar)
            && (self.outcome.is_empty() || self.outcome.iter().any(is_outcome))
            && (self.policy.is_empty() || self.policy.iter().any(is_policy))
            && self.takes_name(&event.reference.id)
    }

    /// Of a dead letter there is no more to ask for.
    pub(super) fn takes_name(&self, id: &str) -> bool {
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
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    /// The contract's example, which a policy let pass.
    fn event() -> QualityEvent {
        serde_json::from_str(include_str!("../../../schemas/examples/quality-event.json")).unwrap()
    }

    #[test]
    fn an_event_passes_all_filters_or_is_left_out() {
        let event = event();
        let verdict = event.verdict.clone().unwrap();
        let (outcome, policy) = (verdict.outcome.name(), verdict.policy.as_str());
        let other = if outcome == "pass" { "reject" } else { "pass" };
        let (score, id) = (event.score.to_string(), event.reference.id.as_str());
        let takes = |words: &[&str]| {
            let line = Line::try_parse_from([&["watch"], words].concat()).unwrap();
            line.filter.takes_event(&event)
        };
        assert!(takes(&[]));
        assert!(!takes(&["--below", &score]) && !takes(&["--above", &score]), "bars are outside");
        assert!(takes(&["--below", "99", "--above", "0.5"]));
        assert!(!takes(&["--below", "99", "--above", "98"]), "all of them, not one");
        assert!(takes(&["--outcome", outcome]) && !takes(&["--outcome", other]));
        assert!(takes(&["--outcome", other, "--outcome", outcome]), "either of one kind");
        assert!(takes(&["--policy", policy]) && !takes(&["--policy", "none of ours"]));
        assert!(takes(&["--id", id]) && !takes(&["--id", "another"]));
        let unjudged = QualityEvent { verdict: None, ..event.clone() };
        let line = Line::try_parse_from(["watch", "--outcome", outcome]).unwrap();
        assert!(!line.filter.takes_event(&unjudged), "no verdict is none of the three");
    }
}
