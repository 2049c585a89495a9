//! Deserializers that refuse a setting outside its range and name the range in the message.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads a fraction in 0..=1.
pub(crate) fn fraction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(D::Error::custom(format!("{value} is not a fraction; give a number from 0 to 1")))
}

/// Reads a finite number that is not negative.
pub(crate) fn not_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(D::Error::custom(format!("{value} must be a finite number of at least 0")))
}

/// Reads a finite number or `None`.
pub(crate) fn optional_finite<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let value = Option::<f64>::deserialize(deserializer)?;
    match value {
        Some(number) if !number.is_finite() => {
            Err(D::Error::custom(format!("{number} must be a finite number")))
        }
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbers {
        #[serde(deserialize_with = "fraction")]
        share: f64,
        #[serde(deserialize_with = "not_negative")]
        distance: f64,
        #[serde(deserialize_with = "optional_finite")]
        limit: Option<f64>,
    }

    fn read(share: &str, distance: &str, limit: &str) -> Result<Numbers, String> {
        let text = format!("share = {share}\ndistance = {distance}\nlimit = {limit}");
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_within_their_range_are_read_as_they_are() {
        for (share, distance, limit) in [(0.0, 0.0, -2.5), (0.25, 3.5, 0.0), (1.0, 1e9, 7.0)] {
            let numbers = Numbers { share, distance, limit: Some(limit) };
            let read = read(&format!("{share:?}"), &format!("{distance:?}"), &format!("{limit:?}"));
            assert_eq!(read, Ok(numbers));
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused_with_the_range() {
        for (numbers, range) in [
            (["-0.1", "0.0", "0.0"], "from 0 to 1"),
            (["1.1", "0.0", "0.0"], "from 0 to 1"),
            (["nan", "0.0", "0.0"], "from 0 to 1"),
            (["0.0", "-0.1", "0.0"], "at least 0"),
            (["0.0", "inf", "0.0"], "at least 0"),
            (["0.0", "0.0", "nan"], "finite"),
            (["0.0", "0.0", "-inf"], "finite"),
        ] {
            let [share, distance, limit] = numbers;
            let error = read(share, distance, limit).unwrap_err();
            assert!(error.contains(range), "{numbers:?}: {error}");
        }
    }
}
