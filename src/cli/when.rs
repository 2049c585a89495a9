//! Times and rates as a person types them.

use chrono::{DateTime, TimeDelta, Utc};

/// A time: RFC 3339, or an age such as `2h`.
///
/// # Errors
/// What would be right.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let age = humantime::parse_duration(text).ok();
    let age = age.and_then(|age| TimeDelta::from_std(age).ok());
    age.and_then(|age| Utc::now().checked_sub_signed(age)).ok_or_else(|| {
        "give a time such as 2026-11-24T08:00:00Z, or an age such as 90s, 2h, 3days".to_owned()
    })
}

/// A rate in one second: `200/s` or `200`.
///
/// # Errors
/// What would be right.
pub(super) fn per_second(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim().parse::<f64>();
    // Slower than one in a day is a mistake, and longer waits than a clock can hold are none.
    let rate = number.ok().filter(|rate| rate.is_finite() && *rate >= 1e-5);
    rate.ok_or_else(|| "give a rate such as 200/s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_an_age() {
        let date = time("2026-11-24T08:00:00+01:00").unwrap();
        assert_eq!(date.to_rfc3339(), "2026-11-24T07:00:00+00:00");
        let age = Utc::now() - time("2h").unwrap();
        assert!((119..=121).contains(&age.num_minutes()), "{age}");
        for nonsense in ["", "yesterday", "2026-11-24", "-2h", "9999999999years"] {
            assert!(time(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_rate_is_positive() {
        assert_eq!(per_second("200/s"), Ok(200.0));
        assert_eq!(per_second("0.5"), Ok(0.5));
        for nonsense in ["", "0/s", "-1/s", "inf", "NaN", "1e-300/s", "fast"] {
            assert!(per_second(nonsense).is_err(), "{nonsense}");
        }
    }
}
