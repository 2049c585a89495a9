//! What a lane can do about an error of the tensor library.

use candle_core::Error;

use crate::engine::lane::RunError;

/// An error of a device that is not its memory's leaves a context in which nothing passes any more;
/// anything else is this batch's.
pub(super) fn run_error(error: &Error) -> RunError {
    let message = error.to_string();
    if is_of_device(error) && !message.to_ascii_lowercase().contains("out_of_memory") {
        return RunError::Device(message.into());
    }
    RunError::Batch(message.into())
}

fn is_of_device(error: &Error) -> bool {
    match error {
        Error::Cuda(_) | Error::Metal(_) => true,
        Error::Context { inner, .. }
        | Error::WithPath { inner, .. }
        | Error::WithBacktrace { inner, .. } => is_of_device(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_is_told_from_a_batch_that_is_too_large() {
        let cuda = |message: &str| Error::Cuda(message.into()).context("in a layer").bt();
        let lost = run_error(&cuda("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert!(matches!(lost, RunError::Device(_)), "{lost}");
        for error in [cuda("CUDA_ERROR_OUT_OF_MEMORY"), Error::Msg("shapes differ".to_owned())] {
            assert!(matches!(run_error(&error), RunError::Batch(_)));
        }
    }
}
