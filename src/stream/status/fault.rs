//! The first error that stops a worker.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::stream::error::StreamError;

/// The error that stops the worker. Any part may raise it; later errors are dropped, because they
/// are usually consequences of the first.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    error: Mutex<Option<StreamError>>,
    raised: CancellationToken,
}

impl Fault {
    /// Stops the worker with this error, unless another one was raised before.
    pub(crate) fn raise(&self, error: StreamError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            tracing::debug!(%error, "the worker cannot continue");
            *first = Some(error);
        }
        drop(first);
        self.raised.cancel();
    }

    /// Waits for an error.
    ///
    /// Cancel safe.
    pub(crate) async fn raised(&self) {
        self.raised.cancelled().await;
    }

    /// Removes and returns the error, or `None` if none was raised.
    pub(crate) fn take(&self) -> Option<StreamError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns true if an error was raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_wins() {
        let fault = Fault::default();
        assert!(!fault.is_raised());
        fault.raise(StreamError::Bug("first".to_owned()));
        fault.raise(StreamError::Bug("second".to_owned()));
        assert!(fault.is_raised());
        assert_eq!(fault.take().unwrap().to_string(), "first; this is a bug");
    }
}
