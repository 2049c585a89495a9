//! The setting that names the scorers: one for everything, one for the whole image and another for
//! its objects, and ensembles.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Maximum number of scorers in an ensemble. Each is a model in memory.
const ENSEMBLE_MAX: usize = 4;
/// Maximum deviation of the weights' sum from 1.
const SUM_TOLERANCE: f64 = 1e-6;

/// The scorers of an engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scorers {
    /// The whole image and its objects are rated by the same.
    Same(RatedBy),
    /// The whole image is rated by one, its objects by another.
    ByPart(ScorersByPart),
}

/// The scorers of the whole image and of its objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScorersByPart {
    /// Of the whole image.
    pub global: RatedBy,
    /// Of its objects.
    pub objects: RatedBy,
}

/// One scorer, or an ensemble.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RatedBy {
    /// The name of a model.
    Model(String),
    /// The weighted mean of several.
    Ensemble(Vec<WeightedScorer>),
}

/// A scorer of an ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedScorer {
    /// The name of a model.
    pub model: String,
    /// Share of its level distribution in the mean, above 0. The weights of an ensemble sum to 1.
    pub weight: f64,
}

impl Default for Scorers {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<&str> for Scorers {
    fn from(model: &str) -> Self {
        Self::Same(RatedBy::Model(model.to_owned()))
    }
}

impl Scorers {
    /// Returns true if no model is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the scorer of the whole image, and that of its objects.
    pub(crate) fn parts(&self) -> [&RatedBy; 2] {
        match self {
            Self::Same(both) => [both, both],
            Self::ByPart(ScorersByPart { global, objects }) => [global, objects],
        }
    }

    /// Returns the names of all models, each once, in the order of the setting.
    pub(crate) fn models(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (model, _) in self.parts().into_iter().flat_map(RatedBy::weighted) {
            if !names.contains(&model) {
                names.push(model);
            }
        }
        names
    }

    /// Returns true if any rating is a mean of several.
    pub(crate) fn has_ensemble(&self) -> bool {
        self.parts().into_iter().any(|part| matches!(part, RatedBy::Ensemble(_)))
    }

    /// Checks names and weights.
    ///
    /// # Errors
    /// Returns the sentence to show.
    pub(crate) fn check(&self) -> Result<(), String> {
        let [global, objects] = self.parts();
        global.check()?;
        objects.check()?;
        if matches!(self, Self::ByPart(_)) && global == objects {
            return Err("global and objects are the same; name the scorer without the table".into());
        }
        Ok(())
    }
}

impl RatedBy {
    /// Returns each model with its weight.
    pub(crate) fn weighted(&self) -> Vec<(&str, f64)> {
        match self {
            Self::Model(model) => vec![(model, 1.0)],
            Self::Ensemble(scorers) => {
                scorers.iter().map(|scorer| (scorer.model.as_str(), scorer.weight)).collect()
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let weighted = self.weighted();
        let count = weighted.len();
        if matches!(self, Self::Ensemble(_)) && !(2..=ENSEMBLE_MAX).contains(&count) {
            return Err(format!("an ensemble has 2 to {ENSEMBLE_MAX} scorers, not {count}"));
        }
        let is_positive = |weight: f64| weight.is_finite() && weight > 0.0;
        if let Some((model, weight)) = weighted.iter().find(|(_, weight)| !is_positive(*weight)) {
            return Err(format!("the weight of {model} is {weight}; it must be above 0"));
        }
        let distinct: BTreeSet<&str> = weighted.iter().map(|(model, _)| *model).collect();
        if distinct.len() < count {
            return Err("an ensemble names a scorer twice; add up its weights".to_owned());
        }
        if distinct.contains("") {
            return Err("the name of a scorer is empty".to_owned());
        }
        let sum: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(format!("the weights of an ensemble sum to {sum}, not to 1"));
        }
        Ok(())
    }
}

/// Reads a name or a list.
struct RatedByVisitor;

impl<'de> Visitor<'de> for RatedByVisitor {
    type Value = RatedBy;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a model, or a list of { model, weight }")
    }

    fn visit_str<E>(self, model: &str) -> Result<RatedBy, E> {
        Ok(RatedBy::Model(model.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, scorers: A) -> Result<RatedBy, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(scorers)).map(RatedBy::Ensemble)
    }
}

impl<'de> Deserialize<'de> for RatedBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RatedByVisitor)
    }
}

/// Reads a name, a list, or a table of both parts.
struct ScorersVisitor;

impl<'de> Visitor<'de> for ScorersVisitor {
    type Value = Scorers;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the name of a model, a list of { model, weight }, or { global, objects } of these",
        )
    }

    fn visit_str<E: serde::de::Error>(self, model: &str) -> Result<Scorers, E> {
        RatedByVisitor.visit_str(model).map(Scorers::Same)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, scorers: A) -> Result<Scorers, A::Error> {
        RatedByVisitor.visit_seq(scorers).map(Scorers::Same)
    }

    fn visit_map<A: MapAccess<'de>>(self, parts: A) -> Result<Scorers, A::Error> {
        ScorersByPart::deserialize(MapAccessDeserializer::new(parts)).map(Scorers::ByPart)
    }
}

impl<'de> Deserialize<'de> for Scorers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScorersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Scorers, String> {
        let scorers = Scorers::deserialize(value).map_err(|error| error.to_string())?;
        scorers.check()?;
        assert_eq!(serde_json::to_value(&scorers).unwrap(), *value, "written as it is read");
        Ok(scorers)
    }

    fn ensemble(weights: &[(&str, f64)]) -> Value {
        let scorer = |(model, weight): &(&str, f64)| json!({"model": model, "weight": weight});
        weights.iter().map(scorer).collect()
    }

    #[test]
    fn a_name_an_ensemble_and_a_pair_are_read_and_name_each_model_once() {
        assert_eq!(read(&json!("a")).unwrap(), Scorers::from("a"));
        let both = ensemble(&[("a", 0.75), ("b", 0.25)]);
        assert_eq!(read(&both).unwrap().models(), ["a", "b"]);
        let pair = read(&json!({"global": both, "objects": "b"})).unwrap();
        assert_eq!(pair.models(), ["a", "b"]);
        let [global, objects] = pair.parts();
        assert_eq!(global.weighted(), [("a", 0.75), ("b", 0.25)]);
        assert_eq!(objects.weighted(), [("b", 1.0)]);
    }

    #[test]
    fn scorers_that_contradict_each_other_are_refused_with_the_reason() {
        for (value, part) in [
            (json!({"global": "a", "objects": "a"}), "are the same"),
            (json!({"global": "a", "objects": ""}), "name of a scorer is empty"),
            (json!({"global": "a"}), "missing field `objects`"),
            (json!({"global": "a", "objects": "b", "whole": "c"}), "unknown field `whole`"),
            (json!(7), "the name of a model"),
            (json!({"global": {"a": 1}, "objects": "b"}), "the name of a model, or a list"),
            (ensemble(&[("a", 1.0)]), "2 to 4 scorers, not 1"),
            (ensemble(&[("a", 0.5), ("b", 0.4)]), "sum to 0.9"),
            (ensemble(&[("a", 0.5), ("a", 0.5)]), "twice"),
            (ensemble(&[("a", 1.5), ("b", -0.5)]), "weight of b is -0.5"),
            (ensemble(&[("", 0.5), ("b", 0.5)]), "empty"),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
