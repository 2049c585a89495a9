//! What a worker takes of memory at the most, part by part.

use super::journey::Journey;

/// Bytes that a pixel takes at the most: while it is decoded (coefficients of a progressive JPEG, 16 bits a channel
/// with alpha, and the result), or later as a picture of three bytes and [`CROPS_AREA_MAX`](super::journey) times
/// as much in crops.
const BYTES_PER_PIXEL: u64 = 16;

/// A part of the memory, and the setting that bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPart {
    /// What takes it.
    pub what: &'static str,
    /// The setting to lower.
    pub setting: &'static str,
    /// Bytes at the most.
    pub bytes: u64,
}

impl Journey {
    /// What images and models take at the most, whatever is sent.
    pub fn memory(&self) -> [MemoryPart; 4] {
        let parts = self.parts();
        // An image larger than a budget gets all of it, alone.
        let fetched = parts.settings.bytes_budget.as_u64().max(parts.stores.bytes_max());
        let pixels = parts.settings.pixels_budget.max(parts.imaging.pixels_max);
        let part = |what, setting, bytes| MemoryPart { what, setting, bytes };
        [
            part("fetched images", "pipeline.bytes_budget", fetched),
            part("pictures", "pipeline.pixels_budget", pixels.saturating_mul(BYTES_PER_PIXEL)),
            part(
                "spare buffers",
                "imaging.spare_bytes_max",
                parts.imaging.spare_bytes_max.as_u64(),
            ),
            part("models", "engine", parts.engine.memory()),
        ]
    }
}
