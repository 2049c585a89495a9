//! Limits on the size of a mask.

/// Maximum number of pixels in a mask's frame.
pub const PIXELS_MAX: u64 = 1 << 30;

/// Maximum number of runs in a mask: 64 MiB of counts.
pub const RUNS_MAX: usize = 1 << 24;
