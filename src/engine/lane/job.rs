//! An input of a lane, on its way to a device.

use tokio::sync::oneshot;

use crate::engine::lane::error::RunError;

/// An input with the two channels of its caller.
#[derive(Debug)]
pub(crate) struct Job<I, O> {
    pub(crate) input: I,
    /// Notified when a device starts the batch with this input.
    pub(crate) started: oneshot::Sender<()>,
    pub(crate) reply: oneshot::Sender<Result<O, RunError>>,
}

impl<I, O> Job<I, O> {
    /// Returns false once the caller has dropped its future, e.g. after a timeout.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Replies with an error without running the input.
    pub(crate) fn fail(self, error: &RunError) {
        // The caller may have dropped its future.
        drop(self.reply.send(Err(error.clone())));
    }
}
