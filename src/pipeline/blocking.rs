//! Runs CPU-bound work outside the threads of the runtime.

use tracing::Span;

use crate::pipeline::error::JourneyError;
use crate::telemetry::Stage;

/// Maximum pixels for work on the calling thread. So few take less than the half millisecond that a
/// runtime thread may be blocked, and less than a switch to another thread.
const IN_PLACE_PX_MAX: u64 = 1 << 14;

/// Returns true if a single pass over `pixels` pixels is work for the calling thread.
pub(crate) fn is_in_place(pixels: u64) -> bool {
    pixels <= IN_PLACE_PX_MAX
}

/// Runs a single pass over `pixels` pixels: on the calling thread if they are few, otherwise as
/// [`run_blocking`].
pub(crate) async fn run_pass<T: Send + 'static>(
    stage: Stage,
    pixels: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JourneyError> {
    if is_in_place(pixels) {
        return Ok(work());
    }
    run_blocking(stage, work).await
}

/// Runs work on a thread that may block. A panic becomes an error of the image.
pub(crate) async fn run_blocking<T: Send + 'static>(
    stage: Stage,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JourneyError> {
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|error| {
        JourneyError::permanent(stage, "pipeline.panicked", format!("{stage} ended early: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_image_and_names_its_stage() {
        let panic = || -> u8 { panic!("asked to panic") };
        let failure = run_blocking(Stage::Measure, panic).await.unwrap_err();
        assert_eq!((failure.stage, failure.code), (Stage::Measure, "pipeline.panicked"));
        assert!(!failure.transient && failure.message.starts_with("measure ended early"));
        assert_eq!(run_blocking(Stage::Measure, || 7).await.unwrap(), 7);
    }
}
