//! The stations of an image on its road, as metrics, dead letters and timings name them.

use std::fmt;

/// A station of the road from reference to event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the reference out of the record.
    Reference,
    /// Reading the image out of storage.
    Fetch,
    /// Bytes to pixels.
    Decode,
    /// Pixels to masks.
    Segment,
    /// Crops to levels.
    Score,
    /// Acknowledged by the output topic.
    Publish,
}

impl Stage {
    /// Every stage, in the order of the road.
    pub const ALL: [Self; 6] =
        [Self::Reference, Self::Fetch, Self::Decode, Self::Segment, Self::Score, Self::Publish];

    /// The stable name on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::Segment => "segment",
            Self::Score => "score",
            Self::Publish => "publish",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
