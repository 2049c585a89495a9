//! The readiness of a worker, with the reasons why it is not ready.

use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;

/// A reason why the worker does not accept references.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// Stable name of the reason. `docs/operations.md` has its cure.
    pub code: &'static str,
    /// Time at which the reason began.
    pub since: DateTime<Utc>,
    /// The reason in words, with the values at hand.
    pub text: String,
}

/// The readiness of the worker. The worker sets it, and the server reports it.
#[derive(Debug, Clone)]
pub struct Health {
    reasons: Arc<RwLock<Vec<NotReady>>>,
}

impl NotReady {
    /// Creates a reason that begins now.
    pub fn now(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, since: Utc::now().trunc_subsecs(0), text: text.into() }
    }
}

impl Health {
    /// Returns the health of a starting worker: alive and not ready.
    pub fn starting() -> Self {
        let starting = NotReady::now("starting", "the worker is starting");
        Self { reasons: Arc::new(RwLock::new(vec![starting])) }
    }

    /// Sets the reasons; the worker is ready if there are none. Changes are logged. A reason that
    /// continues keeps the time at which it began.
    pub fn set(&self, mut reasons: Vec<NotReady>) {
        let mut current = self.reasons.write().unwrap_or_else(PoisonError::into_inner);
        for reason in &mut reasons {
            if let Some(known) = current.iter().find(|known| known.code == reason.code) {
                reason.since = known.since;
            } else {
                tracing::warn!(code = reason.code, reason = reason.text, "not ready");
            }
        }
        let ready = reasons.is_empty();
        if ready != current.is_empty() {
            tracing::info!(ready, "readiness changed");
        }
        *current = reasons;
    }

    /// Reports a worker that ends. A later [`Health::set`] must repeat this reason.
    pub fn end(&self) {
        self.set(vec![NotReady::now("stopping", "the worker is stopping")]);
    }

    /// Returns the reasons why the worker is not ready; none if it is ready.
    pub fn reasons(&self) -> Vec<NotReady> {
        self.reasons.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if the worker accepts references.
    pub fn is_ready(&self) -> bool {
        self.reasons.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_without_reasons_and_a_reason_keeps_its_time() {
        let health = Health::starting();
        assert_eq!(health.reasons()[0].code, "starting");
        health.set(Vec::new());
        assert!(health.is_ready());
        let first = NotReady { since: DateTime::UNIX_EPOCH, ..NotReady::now("a", "one") };
        health.set(vec![first]);
        health.set(vec![NotReady::now("a", "two"), NotReady::now("b", "other")]);
        let reasons = health.reasons();
        assert_eq!((reasons[0].since, reasons[0].text.as_str()), (DateTime::UNIX_EPOCH, "two"));
        assert_ne!(reasons[1].since, DateTime::UNIX_EPOCH);
        health.end();
        assert_eq!(health.reasons().len(), 1);
        assert!(!health.is_ready());
    }
}
