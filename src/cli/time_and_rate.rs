//! Parses the times and rates of command line options.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Parses a time in RFC 3339, or an age such as `2h`.
///
/// # Errors
/// Fails on any other text. The message shows valid examples.
pub(crate) fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let age = humantime::parse_duration(text).ok().and_then(|age| TimeDelta::from_std(age).ok());
    age.and_then(|age| Utc::now().checked_sub_signed(age)).ok_or_else(|| {
        "give a time such as 2026-11-24T08:00:00Z, or an age such as 90s, 2h, 3days".to_owned()
    })
}

/// A rate per second, minute or hour: `200/s`, `12/m`, `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Time between two items at this rate.
    pub(crate) interval: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not a rate; write 200/s, 12/m or 1000/h");
        let (number, unit) = text.split_once('/').ok_or_else(invalid)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(invalid()),
        };
        let number: u32 = number.parse().map_err(|_| invalid())?;
        let interval = Duration::from_secs(seconds).checked_div(number);
        interval
            .filter(|time| !time.is_zero())
            .map(|interval| Self { interval })
            .ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_an_age() {
        let date = parse_time("2026-11-24T08:00:00+01:00").unwrap();
        assert_eq!(date.to_rfc3339(), "2026-11-24T07:00:00+00:00");
        let age = Utc::now() - parse_time("2h").unwrap();
        assert!((119..=121).contains(&age.num_minutes()), "{age}");
        for nonsense in ["", "yesterday", "2026-11-24", "-2h", "9999999999years"] {
            assert!(parse_time(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_rate_is_a_number_per_unit_of_time() {
        let interval = |text: &str| text.parse::<Rate>().map(|rate| rate.interval).ok();
        assert_eq!(interval("200/s"), Some(Duration::from_millis(5)));
        assert_eq!(interval("12/m"), Some(Duration::from_secs(5)));
        assert_eq!(interval("1/h"), Some(Duration::from_hours(1)));
        for invalid in ["200", "0/s", "-1/s", "x/s", "1/d", "4000000000/s", ""] {
            assert_eq!(interval(invalid), None, "{invalid}");
        }
    }
}
