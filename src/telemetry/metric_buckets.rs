//! Upper bounds of the buckets of all histograms.

/// Upper bounds of the latency buckets, in seconds: from an in-memory fetch to a stuck store.
const LATENCY_BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds of the buckets for inputs per batch.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Upper bounds of the fill buckets. A single input that exceeds the batch cost is above 1.
const FILL_BUCKETS: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 2.0];
/// Upper bounds of the score buckets, in levels. The seg term raises scores above the top level.
const SCORE_BUCKETS: [f64; 15] =
    [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0];

/// Buckets of histograms, by the end of their name.
pub(crate) const BUCKETS: [(&str, &[f64]); 4] = [
    ("_seconds", &LATENCY_BUCKETS_SECONDS),
    ("_items", &BATCH_BUCKETS),
    ("_fill_ratio", &FILL_BUCKETS),
    ("_score", &SCORE_BUCKETS),
];

/// Returns the buckets of a histogram.
pub(crate) fn buckets(name: &str) -> &'static [f64] {
    let suffixed = BUCKETS.iter().find(|(suffix, _)| name.ends_with(suffix));
    suffixed.map_or(&[], |(_, buckets)| *buckets)
}
