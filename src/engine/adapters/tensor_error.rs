//! Classifies errors of the tensor library by what a lane can do about them.

use candle_core::Error;

use crate::engine::lane::RunError;

/// Names, as the driver and its libraries report them, of errors after which a GPU fails all later
/// calls of the process.
const STICKY: [&str; 14] = [
    "ILLEGAL_ADDRESS",
    "LAUNCH_FAILED",
    "LAUNCH_TIMEOUT",
    "ECC_UNCORRECTABLE",
    "NVLINK_UNCORRECTABLE",
    "ILLEGAL_INSTRUCTION",
    "MISALIGNED_ADDRESS",
    "INVALID_PC",
    "HARDWARE_STACK_ERROR",
    "CONTEXT_IS_DESTROYED",
    "DEINITIALIZED",
    "DEVICE_UNAVAILABLE",
    "CUDA_ERROR_UNKNOWN",
    "EXECUTION_FAILED",
];

/// Returns [`RunError::Device`] for an error that loses the device, and [`RunError::Batch`] for an
/// error of this batch, such as insufficient memory or a mismatched shape.
pub(crate) fn run_error(error: &Error) -> RunError {
    let message = error.to_string();
    if is_of_device(error) && STICKY.iter().any(|name| message.contains(name)) {
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
    fn a_lost_device_is_distinguished_from_a_batch_that_is_too_large() {
        let cuda = |message: &str| Error::Cuda(message.into()).context("in a layer").bt();
        let lost = run_error(&cuda("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert!(matches!(lost, RunError::Device(_)), "{lost}");
        for error in [
            cuda("CUDA_ERROR_OUT_OF_MEMORY"),
            cuda("CUBLAS_STATUS_ALLOC_FAILED"),
            cuda("matmul is only supported for contiguous tensors"),
            Error::Msg("shapes differ, CUDA_ERROR_ILLEGAL_ADDRESS or not".to_owned()),
        ] {
            assert!(matches!(run_error(&error), RunError::Batch(_)));
        }
    }
}
