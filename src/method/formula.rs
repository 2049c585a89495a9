//! Names of the formulas that combine ratings to a score. Their scores have different ranges.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A formula of the score. The thresholds of a policy hold for one formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Formula {
    /// A weighted mean of levels, plus a bonus for masks of at most K: the paper, its ablations and
    /// the defaults.
    #[default]
    Paper,
    /// `local + 0.5 · global + 0.1 · masks`: the authors' program.
    Release,
    /// `local + global + 0.1 · masks`: the authors' script for the tables of the paper.
    Tables,
    /// Any other combination of weights.
    Custom,
}

impl Formula {
    /// Returns the name in configuration and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Release => "release",
            Self::Tables => "tables",
            Self::Custom => "custom",
        }
    }
}
