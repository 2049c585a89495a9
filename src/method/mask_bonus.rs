//! The points that the number of regions adds to a score.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Name of [`MaskBonus::Auto`] in the configuration.
const AUTO: &str = "auto";

/// Points for the regions of an image.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum MaskBonus {
    /// `regions · K / c_max`, at most K: the paper.
    #[default]
    Auto,
    /// This many points for each region, at least 0, without limit: the authors' program.
    Each(f64),
}

impl MaskBonus {
    /// Returns the points of each region, or `None` if they depend on K and `c_max`.
    pub fn each(self) -> Option<f64> {
        match self {
            Self::Auto => None,
            Self::Each(points) => Some(points),
        }
    }
}

impl Serialize for MaskBonus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Each(points) => serializer.serialize_f64(*points),
        }
    }
}

impl<'de> Deserialize<'de> for MaskBonus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Points(f64),
            Name(String),
        }
        let fault = |value: &str| {
            D::Error::custom(format!(
                "{value} is neither `{AUTO}` nor a finite number of at least 0"
            ))
        };
        match Value::deserialize(deserializer) {
            Ok(Value::Points(points)) if points.is_finite() && points >= 0.0 => {
                Ok(Self::Each(points))
            }
            Ok(Value::Points(points)) => Err(fault(&points.to_string())),
            Ok(Value::Name(name)) if name == AUTO => Ok(Self::Auto),
            Ok(Value::Name(name)) => Err(fault(&format!("`{name}`"))),
            Err(_) => Err(fault("the value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bonus_is_auto_or_a_number_of_points() {
        let read = |json: &str| serde_json::from_str::<MaskBonus>(json);
        for (json, bonus) in [
            ("\"auto\"", MaskBonus::Auto),
            ("0.1", MaskBonus::Each(0.1)),
            ("0", MaskBonus::Each(0.0)),
        ] {
            assert_eq!(read(json).unwrap(), bonus);
            assert_eq!(read(&serde_json::to_string(&bonus).unwrap()).unwrap(), bonus);
        }
        for bad in ["-0.1", "\"much\"", "true", "null", "[1]"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("`auto`") && error.contains("at least 0"), "{bad}: {error}");
        }
    }
}
