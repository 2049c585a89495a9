//! The limits of every fetch, as configured.

use std::time::Duration;

use bytesize::ByteSize;

use crate::backoff::Backoff;
use crate::storage::error::StorageError;
use crate::storage::settings::Settings;

/// Longest time limit that is accepted.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// The limits of every fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes_max: ByteSize,
    pub(crate) time: TimeLimits,
    pub(crate) attempts_max: u32,
    pub(crate) backoff: Backoff,
}

/// The time limits of a fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
    pub(crate) fetch: Duration,
}

impl Limits {
    /// # Errors
    /// Fails if no fetch could ever succeed within a limit.
    pub(crate) fn new(settings: &Settings) -> Result<Self, StorageError> {
        check(settings)?;
        Ok(Self {
            bytes_max: settings.bytes_max,
            time: TimeLimits {
                connect: settings.connect_timeout,
                read: settings.read_timeout,
                fetch: settings.fetch_timeout,
            },
            attempts_max: settings.attempts_max.get(),
            backoff: Backoff {
                initial: settings.backoff_base.saturating_mul(2),
                max: settings.backoff_max,
                jitter: 1.0,
            },
        })
    }
}

fn check(settings: &Settings) -> Result<(), StorageError> {
    if settings.bytes_max.as_u64() == 0 {
        return Err(StorageError::Setting {
            setting: "storage.bytes_max",
            value: settings.bytes_max.to_string(),
            why: "admits no image; choose a value above zero",
        });
    }
    let times = [
        ("storage.connect_timeout", settings.connect_timeout),
        ("storage.read_timeout", settings.read_timeout),
        ("storage.fetch_timeout", settings.fetch_timeout),
    ];
    match times.into_iter().find(|(_, time)| time.is_zero() || *time > TIMEOUT_MAX) {
        Some((setting, time)) => Err(StorageError::Setting {
            setting,
            value: format!("{time:?}"),
            why: "is out of range; choose a time between a millisecond and a day",
        }),
        None => Ok(()),
    }
}
