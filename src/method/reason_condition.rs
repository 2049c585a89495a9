//! A condition of a policy on a picture's reasons: `blurred`, or `too_dark:0.6` with a minimum
//! strength.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::method::reason::{Reason, ReasonCode};

/// A code and the strength from which it counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReasonCondition {
    code: ReasonCode,
    /// In 0..=1. Without it, every listed reason counts.
    strength_min: Option<f64>,
}

/// A text that is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConditionError {
    /// No reason has this code.
    #[error("unknown reason `{code}`; known are: {known}")]
    Code {
        /// The unknown code.
        code: String,
        /// All codes.
        known: String,
    },
    /// The strength is no number in 0..=1.
    #[error(
        "`{0}` is no strength; write a number from 0 to 1 after the colon, as in `blurred:0.6`"
    )]
    Strength(String),
}

impl ReasonCondition {
    /// Returns true if a reason has the code and is strong enough.
    pub fn holds(&self, reason: &Reason) -> bool {
        reason.code == self.code && reason.strength >= self.strength_min.unwrap_or(0.0)
    }
}

impl FromStr for ReasonCondition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let (name, strength) = match text.split_once(':') {
            Some((name, strength)) => (name.trim(), Some(strength.trim())),
            None => (text.trim(), None),
        };
        let Some(code) = ReasonCode::by_name(name) else {
            let known = ReasonCode::ALL.map(ReasonCode::name).join(", ");
            return Err(ConditionError::Code { code: name.to_owned(), known });
        };
        let parse = |text: &str| {
            let parsed = text.parse().ok().filter(|strength| (0.0..=1.0).contains(strength));
            parsed.ok_or_else(|| ConditionError::Strength(text.to_owned()))
        };
        Ok(Self { code, strength_min: strength.map(parse).transpose()? })
    }
}

impl fmt::Display for ReasonCondition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.strength_min {
            Some(strength) => write!(formatter, "{}:{strength}", self.code),
            None => self.code.fmt(formatter),
        }
    }
}

impl TryFrom<String> for ReasonCondition {
    type Error = ConditionError;

    fn try_from(text: String) -> Result<Self, ConditionError> {
        text.parse()
    }
}

impl From<ReasonCondition> for String {
    fn from(condition: ReasonCondition) -> Self {
        condition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::reason::Scope;

    #[test]
    fn a_condition_is_a_code_with_or_without_a_strength_and_keeps_its_text() {
        let reason = |code, strength| Reason { code, strength, scope: Scope::IMAGE };
        for text in ["blurred", "too_dark:0.6", "noisy:0", "noisy:1"] {
            let condition: ReasonCondition = text.parse().unwrap();
            assert_eq!(String::from(condition), text);
        }
        let dark: ReasonCondition = " too_dark : 0.60 ".parse().unwrap();
        assert!(dark.holds(&reason(ReasonCode::TooDark, 0.6)));
        assert!(!dark.holds(&reason(ReasonCode::TooDark, 0.5999)));
        assert!(!dark.holds(&reason(ReasonCode::TooBright, 0.9)));
        let any: ReasonCondition = "too_dark".parse().unwrap();
        assert!(any.holds(&reason(ReasonCode::TooDark, 0.01)));
    }

    #[test]
    fn an_unknown_code_or_a_strength_outside_0_to_1_is_refused_by_name() {
        for (text, parts) in [
            ("dark", &["`dark`", "too_dark"][..]),
            ("", &["``"]),
            ("blurred:", &["``", "`blurred:0.6`"]),
            ("blurred:1.5", &["`1.5`"]),
            ("blurred:-0.1", &["`-0.1`"]),
            ("blurred:nan", &["`nan`"]),
            ("blurred:0.5:0.6", &["`0.5:0.6`"]),
        ] {
            let error = text.parse::<ReasonCondition>().unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
