//! The stages of the pipeline, as metrics, dead letters and timings name them.

use std::fmt;

/// A stage between reference and event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Parsing the reference from the record.
    Reference,
    /// Reading the image from storage.
    Fetch,
    /// Decoding bytes to pixels.
    Decode,
    /// Segmenting pixels into masks.
    Segment,
    /// Rating crops on levels.
    Score,
    /// Computing hand-crafted metrics, at the same time as segmenting and rating.
    Measure,
    /// Writing to the output topic, until it is acknowledged.
    Publish,
}

impl Stage {
    /// Every stage, in the order of the pipeline.
    pub const ALL: [Self; 7] = [
        Self::Reference,
        Self::Fetch,
        Self::Decode,
        Self::Segment,
        Self::Score,
        Self::Measure,
        Self::Publish,
    ];

    /// Returns the stable name on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::Segment => "segment",
            Self::Score => "score",
            Self::Measure => "measure",
            Self::Publish => "publish",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
