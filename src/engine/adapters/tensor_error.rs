//! Classifies errors of the tensor library by what a lane can do about them.

use candle_core::Error;

use crate::engine::lane::RunError;

/// Starts of the codes that a GPU's driver and its libraries report.
const CODES: [&str; 5] =
    ["CUDA_ERROR_", "CUBLAS_STATUS_", "CURAND_STATUS_", "CUDNN_STATUS_", "NCCL_"];

/// Codes that concern one call: a smaller batch, or another input, may succeed. After any other
/// code the state of the device is unknown, and it often fails all later calls of the process.
const OF_BATCH: [&str; 7] = [
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUDA_ERROR_INVALID_VALUE",
    "CUDA_ERROR_INVALID_CONFIGURATION",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_INVALID_VALUE",
    "CUBLAS_STATUS_NOT_SUPPORTED",
];

/// Returns [`RunError::Device`] for an error that loses the device, and [`RunError::Batch`] for an
/// error of this batch, such as insufficient memory or a mismatched shape.
pub(crate) fn run_error(error: &Error) -> RunError {
    let message = error.to_string();
    if is_of_device(error) && codes(&message).any(|code| !OF_BATCH.contains(&code)) {
        return RunError::Device(message.into());
    }
    RunError::Batch(message.into())
}

/// Returns the codes in a message. The tensor library's own checks have none.
fn codes(message: &str) -> impl Iterator<Item = &str> {
    let words = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| CODES.iter().any(|start| word.starts_with(start)))
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
        for code in [
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "CUDA_ERROR_ASSERT",
            "CUDA_ERROR_CONTAINED",
            "CUDA_ERROR_INVALID_ADDRESS_SPACE",
            "CUBLAS_STATUS_INTERNAL_ERROR",
            "CUBLAS_STATUS_NOT_INITIALIZED",
            "CUBLAS_STATUS_EXECUTION_FAILED",
            "CUDA_ERROR_OUT_OF_MEMORY, after CUDA_ERROR_LAUNCH_FAILED",
        ] {
            let lost = run_error(&cuda(&format!("DriverError({code}, \"why\")")));
            assert!(matches!(lost, RunError::Device(_)), "{lost}");
        }
        for error in [
            cuda("CUDA_ERROR_OUT_OF_MEMORY"),
            cuda("CUBLAS_STATUS_ALLOC_FAILED"),
            cuda("DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid argument\")"),
            cuda("matmul is only supported for contiguous tensors"),
            Error::Msg("shapes differ, CUDA_ERROR_ILLEGAL_ADDRESS or not".to_owned()),
        ] {
            assert!(matches!(run_error(&error), RunError::Batch(_)));
        }
    }
}
