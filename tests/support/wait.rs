//! Waiting for a condition with a deadline. No other test file sleeps.

use std::time::{Duration, Instant};

/// Pause between two checks of a condition, short against every limit.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Blocks until the condition holds. Returns false if it does not hold within the limit.
#[must_use = "false means that the condition never held"]
pub(crate) fn until(mut condition: impl FnMut() -> bool, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Waits until the condition holds. Returns false if it does not hold within the limit.
#[must_use = "false means that the condition never held"]
pub(crate) async fn until_async(mut condition: impl AsyncFnMut() -> bool, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}
