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
