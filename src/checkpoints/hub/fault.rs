//! Failed requests: the host, the reason, and what the caller may do about it.

use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use url::Url;

use crate::backoff::Backoff;
use crate::redact;

/// Delays before the next attempt.
pub(crate) const RETRY: Backoff =
    Backoff { initial: Duration::from_millis(300), max: Duration::from_secs(10), jitter: 0.5 };
/// Attempts in a row without progress if a server answers.
const ATTEMPTS_MAX: u32 = 5;
/// Attempts in a row without progress if no server answers, or if it refuses the request.
const ATTEMPTS_WITHOUT_ANSWER_MAX: u32 = 3;
/// Longest delay that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// Length in bytes of a server's message that is shown.
const MESSAGE_BYTES_MAX: usize = 300;
/// The Hub's message for a token that it does not know.
const WRONG_TOKEN: &str = "Invalid credentials in Authorization header";

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestFault {
    /// The server's name, with its port if the address has one.
    pub(crate) host: String,
    /// The reason.
    pub(crate) reason: String,
    pub(crate) kind: FaultKind,
}

/// The kinds of faults that are handled differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No connection to the host.
    Unreachable,
    /// The host does not answer in time.
    Silent,
    /// The next attempt may succeed, but not earlier than the server says.
    Transient { retry_after: Option<Duration> },
    /// The server denies this request, or has no such file.
    Refused,
    /// No attempt succeeds.
    Permanent,
}

/// The server of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The Hub, which knows repositories and tokens.
    Hub {
        /// True if the request had a token.
        has_token: bool,
    },
    /// A server that the Hub redirects to.
    Storage,
}

impl RequestFault {
    pub(crate) fn new(url: &Url, kind: FaultKind, reason: impl Into<String>) -> Self {
        Self { host: host_of(url), reason: reason.into(), kind }
    }

    /// Maps an error of the HTTP client. Keeps its innermost cause: the outer ones repeat the
    /// address, which may be signed.
    pub(crate) fn from_client(url: &Url, error: &reqwest::Error) -> Self {
        let kind = if error.is_connect() {
            FaultKind::Unreachable
        } else if error.is_builder() {
            FaultKind::Permanent
        } else {
            FaultKind::Transient { retry_after: None }
        };
        Self::new(url, kind, redact::root_cause(error))
    }

    /// Maps a status that is neither a success nor a redirect.
    pub(crate) fn from_status(url: &Url, status: u16, headers: &HeaderMap, server: Server) -> Self {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let code = header("x-error-code").unwrap_or_default();
        let message = header("x-error-message").unwrap_or_default();
        let (kind, advice) = match (status, server) {
            (408 | 429 | 500 | 502 | 503 | 504, _) => {
                let retry_after = header("retry-after").and_then(|text| delay_of(text, Utc::now()));
                (FaultKind::Transient { retry_after }, "try again later")
            }
            (401 | 403 | 404 | 410, Server::Hub { has_token }) => {
                (FaultKind::Refused, advice_for(status, code, message == WRONG_TOKEN, has_token))
            }
            (401 | 403 | 404 | 410, Server::Storage) => {
                (FaultKind::Refused, "the address has expired, or something forbids the download")
            }
            (407, _) => (
                FaultKind::Permanent,
                "the proxy wants a login: HTTPS_PROXY=http://user:password@host:port",
            ),
            _ => (FaultKind::Permanent, "the answer is not that of a Hub"),
        };
        let code = redact::excerpt(code, MESSAGE_BYTES_MAX);
        let code = if code.is_empty() { code } else { format!(" {code}") };
        let message = redact::uris_in(&redact::excerpt(message, MESSAGE_BYTES_MAX));
        let message =
            if message.is_empty() { message } else { format!(" (its message: {message})") };
        let reason = format!("it answers {status}{code}: {advice}{message}");
        Self::new(url, kind, reason)
    }

    /// Returns the attempts in a row, without a new byte, after which the caller gives up.
    pub(crate) fn attempts_max(&self) -> u32 {
        match self.kind {
            FaultKind::Transient { .. } => ATTEMPTS_MAX,
            FaultKind::Unreachable | FaultKind::Silent | FaultKind::Refused => {
                ATTEMPTS_WITHOUT_ANSWER_MAX
            }
            FaultKind::Permanent => 1,
        }
    }

    /// Returns the delay before the next attempt after `failures` in a row.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let delay = RETRY.delay(failures);
        match self.kind {
            FaultKind::Transient { retry_after: Some(retry_after) } => {
                delay.max(retry_after.min(RETRY_AFTER_MAX))
            }
            _ => delay,
        }
    }
}

/// Repeats a request while its fault is transient. A refusal is not repeated.
pub(crate) fn retry<T>(
    mut attempt: impl FnMut() -> Result<T, RequestFault>,
) -> Result<T, RequestFault> {
    let mut failures = 0;
    loop {
        let fault = match attempt() {
            Err(fault) if fault.kind != FaultKind::Refused => fault,
            result => return result,
        };
        failures += 1;
        if failures >= fault.attempts_max() {
            return Err(fault);
        }
        thread::sleep(fault.delay(failures));
    }
}

/// Returns the host of an address, with its port if the address has one.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Says what to do about a refusal by the Hub.
fn advice_for(status: u16, code: &str, is_wrong_token: bool, has_token: bool) -> &'static str {
    match (code, status) {
        ("GatedRepo", _) if has_token => {
            "the model is gated, and the account of the token has no access; accept the terms on \
             the model's page"
        }
        ("GatedRepo", _) => "the model is gated; accept the terms on its page and set HF_TOKEN",
        ("RevisionNotFound", _) => "the repository has no such branch, tag or commit",
        ("EntryNotFound", _) => "the repository has no such file at this revision",
        (_, 401) if is_wrong_token => "the Hub does not know the token; check HF_TOKEN",
        ("RepoNotFound", _) | (_, 401) if has_token => {
            "there is no such repository, or it is private and the token does not open it; check \
             the name and HF_TOKEN"
        }
        ("RepoNotFound", _) | (_, 401) => {
            "there is no such repository, or it is private; check the name, and set HF_TOKEN for a \
             private one"
        }
        (_, 403) if has_token => "the token does not allow this; check the rights of HF_TOKEN",
        (_, 403) => "access is forbidden; a private or gated model needs HF_TOKEN",
        _ => "there is no such repository, revision or file",
    }
}

/// Parses the value of `Retry-After`: seconds, or a date.
fn delay_of(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_number_of_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-01-02T03:04:05Z").unwrap().to_utc();
        let seconds = |text| delay_of(text, now).map(|delay| delay.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Fri, 02 Jan 2026 03:04:35 GMT"), Some(30));
        assert_eq!(seconds("Fri, 02 Jan 2026 03:00:00 GMT"), Some(0), "the date is over");
        for text in ["", "soon", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn no_server_delays_an_attempt_for_longer_than_a_minute() {
        let url = Url::parse("https://hub.example:8443/a").unwrap();
        let fault = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            RequestFault::new(&url, FaultKind::Transient { retry_after }, "")
        };
        assert_eq!(fault(20).delay(1), Duration::from_secs(20));
        assert_eq!(fault(86_400).delay(1), RETRY_AFTER_MAX);
        assert!(fault(0).delay(1) >= RETRY.initial / 2);
        assert_eq!(fault(0).host, "hub.example:8443");
    }
}
