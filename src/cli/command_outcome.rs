//! The result of a command that did not fail.

/// Decides between the exit codes 0 and 1. An error of the command is exit code 1, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// Exit code 0.
    Success,
    /// Exit code 1: the command ran, but a result is negative: an unreadable image, a score below
    /// the threshold, a failed check.
    Negative,
}

impl CommandOutcome {
    /// Returns `Negative` if the condition holds.
    pub(crate) fn negative_if(is_negative: bool) -> Self {
        if is_negative { Self::Negative } else { Self::Success }
    }
}
