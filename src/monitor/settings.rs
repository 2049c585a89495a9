//! The `monitor` section of the configuration.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use humantime::format_duration;
use serde::{Deserialize, Serialize};

use crate::monitor::error::MonitorError;
use crate::monitor::limits::{METADATA_KEYS_MAX, REJECTED_MAX};

/// Settings of the page of `dogiqa monitor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the page. By default only this machine can connect. The page has no login and
    /// shows ids, URIs and pictures: before you allow others (`0.0.0.0:9465`), put a proxy with a
    /// login in front. Port 0 selects a free port and prints it.
    pub listen: SocketAddr,
    /// Time up to now that the page shows; from 10 seconds to 1 day. A shorter time shows changes
    /// sooner, from fewer answers.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Time before `window` whose scores are the reference; from 1 minute to 30 days. Its times
    /// are rounded to a sixtieth of it.
    #[serde(with = "humantime_serde")]
    pub reference: Duration,
    /// Population stability index (PSI) between the scores of `window` and of `reference` from
    /// which the page alerts; above zero. By convention, 0.1 is a small change and 0.25 a large
    /// one.
    pub drift_alert: f64,
    /// Number of events that `window` and `reference` each need before the PSI is compared with
    /// `drift_alert`. With few events the PSI is large by chance: about 18 divided by this number.
    pub drift_events_min: u64,
    /// Names of metadata by whose values the page can be filtered, such as `["market"]`; at most 4.
    /// Choose names with few values: 30 of each are distinguished, the rest is `(other)`. Only
    /// texts, numbers and booleans at the top level of the metadata count.
    pub metadata: Vec<String>,
    /// Number of rejected images that the page shows; at most 100.
    pub rejected: NonZeroUsize,
    /// Longer side of a thumbnail in pixels; from 64 to 1024.
    pub thumbnail_side_px: u32,
    /// Number of thumbnails that are fetched and decoded at a time; at most 16. The decoded pixels
    /// of all of them are at most `imaging.pixels_max`.
    pub thumbnails_concurrent: NonZeroUsize,
    /// Interval at which the backlog of the workers' group is read; from 1 second to 10 minutes.
    #[serde(with = "humantime_serde")]
    pub lag_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9465)),
            window: Duration::from_mins(5),
            reference: Duration::from_hours(1),
            drift_alert: 0.2,
            drift_events_min: 200,
            metadata: Vec::new(),
            rejected: const { NonZeroUsize::new(24).unwrap() },
            thumbnail_side_px: 320,
            thumbnails_concurrent: const { NonZeroUsize::new(2).unwrap() },
            lag_interval: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Checks the limits.
    ///
    /// # Errors
    /// Fails if a value is out of range, or a name of metadata is empty or given twice.
    pub fn validate(&self) -> Result<(), MonitorError> {
        let second = Duration::from_secs(1);
        let day = Duration::from_hours(24);
        check_time("window", self.window, 10 * second..=day)?;
        check_time("reference", self.reference, 60 * second..=30 * day)?;
        check_time("lag_interval", self.lag_interval, second..=600 * second)?;
        let is_alert_valid = self.drift_alert.is_finite() && self.drift_alert > 0.0;
        check("drift_alert", is_alert_valid, &self.drift_alert, "a number above zero")?;
        let side = self.thumbnail_side_px;
        check("thumbnail_side_px", (64..=1024).contains(&side), &side, "64 to 1024")?;
        let concurrent = self.thumbnails_concurrent;
        check("thumbnails_concurrent", concurrent.get() <= 16, &concurrent, "at most 16")?;
        let rejected = self.rejected;
        let allowed = format!("at most {REJECTED_MAX}");
        check("rejected", rejected.get() <= REJECTED_MAX, &rejected, &allowed)?;
        let names = &self.metadata;
        let is_valid =
            |(index, name): (usize, &String)| !name.is_empty() && !names[..index].contains(name);
        let are_valid = names.len() <= METADATA_KEYS_MAX && names.iter().enumerate().all(is_valid);
        let allowed = format!("at most {METADATA_KEYS_MAX} different names");
        check("metadata", are_valid, &names.join(", "), &allowed)
    }
}

fn check_time(
    setting: &'static str,
    time: Duration,
    allowed: RangeInclusive<Duration>,
) -> Result<(), MonitorError> {
    let (least, most) = (format_duration(*allowed.start()), format_duration(*allowed.end()));
    let text = format!("{least} to {most}");
    check(setting, allowed.contains(&time), &format_duration(time), &text)
}

fn check(
    setting: &'static str,
    is_valid: bool,
    value: &dyn ToString,
    allowed: &str,
) -> Result<(), MonitorError> {
    if is_valid {
        return Ok(());
    }
    let (value, allowed) = (value.to_string(), allowed.to_owned());
    Err(MonitorError::Setting { setting, value, allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_only_this_machine_can_connect() {
        let settings = Settings::default();
        settings.validate().unwrap();
        assert!(settings.listen.ip().is_loopback());
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_limits() {
        for text in [
            "window = '9s'",
            "window = '25h'",
            "reference = '59s'",
            "drift_alert = 0.0",
            "drift_alert = nan",
            "metadata = ['a', 'b', 'a']",
            "metadata = ['']",
            "metadata = ['a', 'b', 'c', 'd', 'e']",
            "rejected = 101",
            "thumbnail_side_px = 2000",
            "thumbnails_concurrent = 17",
            "lag_interval = '10ms'",
        ] {
            let settings: Settings = toml::from_str(text).unwrap();
            let error = settings.validate().unwrap_err().to_string();
            let name = text.split(' ').next().unwrap();
            assert!(error.starts_with(&format!("monitor.{name} = ")), "{error}");
            assert!(error.contains("choose "), "{error}");
        }
    }
}
