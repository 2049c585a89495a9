//! Runs CPU-bound work outside the threads of the runtime.

use tracing::Span;

use crate::pipeline::error::JourneyError;
use crate::telemetry::Stage;

/// Maximum pixels for work on the calling thread. So few take less than the half millisecond that a
/// runtime thread may be blocked, and less than a switch to another thread.
const IN_PLACE_PX_MAX: u64 = 1 << 14;

/// Runs work on `pixels` pixels on a thread that may block. A panic becomes an error of the image.
pub(crate) async fn run_blocking<T: Send + 'static>(
    stage: Stage,
    pixels: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JourneyError> {
    if pixels <= IN_PLACE_PX_MAX {
        return Ok(work());
    }
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|error| {
        JourneyError::permanent(stage, "pipeline.panicked", format!("{stage} ended early: {error}"))
    })
}
