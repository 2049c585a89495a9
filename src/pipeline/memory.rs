//! Memory of the pipeline: an upper bound for the images in flight and the models of a journey.

use crate::pipeline::journey::Journey;
use crate::pipeline::reason_stage::reasons_memory;
use crate::telemetry::MemoryPart;

/// Maximum bytes per pixel. Decoding holds coefficients of a progressive JPEG, 16 bits per channel
/// with alpha, and the result. Afterwards the picture holds three bytes, and its crops up to
/// `CROPS_AREA_MAX` times as many.
const BYTES_PER_PIXEL: u64 = 16;

impl Journey {
    /// Returns the maximum memory of images and models for any input.
    pub fn memory(&self) -> Vec<MemoryPart> {
        let parts = self.parts();
        // An image that exceeds a budget reserves all of it and passes alone.
        let fetched = parts.settings.bytes_budget.as_u64().max(parts.stores.bytes_max());
        let pixels = parts.settings.pixels_budget.max(parts.imaging.pixels_max);
        let part = |what, setting, bytes| MemoryPart { what, setting, bytes };
        let mut memory = vec![
            part("fetched images", "pipeline.bytes_budget", fetched),
            part("pictures", "pipeline.pixels_budget", pixels.saturating_mul(BYTES_PER_PIXEL)),
            part(
                "spare buffers",
                "imaging.spare_bytes_max",
                parts.imaging.spare_bytes_max.as_u64(),
            ),
            part("models", "engine", parts.engine.memory()),
        ];
        let duplicates = parts.settings.duplicates.memory();
        if duplicates > 0 {
            memory.push(part("recent images", "pipeline.duplicates", duplicates));
        }
        // Metrics run one after the other for an image.
        let per_pixel = parts.measures.iter().map(|loaded| loaded.metric().bytes_per_pixel());
        if let Some(per_pixel) = per_pixel.max() {
            memory.push(part("measures", "pipeline.measures", pixels.saturating_mul(per_pixel)));
        }
        if parts.settings.reasons {
            memory.push(part("reasons", "pipeline.reasons", reasons_memory(&parts.settings)));
        }
        memory
    }
}
