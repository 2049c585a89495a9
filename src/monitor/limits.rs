//! The limits that bound the monitor's memory.

/// Number of buckets of a window. A window slides by one bucket.
pub(crate) const BUCKETS: u8 = 60;

/// Maximum number of combinations of policy and metadata that a bucket distinguishes. Events of
/// further combinations are counted together.
pub(crate) const SERIES_MAX: usize = 128;

/// Maximum number of names in `monitor.metadata`.
pub(crate) const METADATA_KEYS_MAX: usize = 4;

/// Maximum number of distinct policies, values of a metadata name, and codes of reasons, including
/// the entries for none and for all others.
pub(crate) const LABELS_MAX: usize = 32;

/// Maximum number of distinct codes of dead letters, including the same two entries.
pub(crate) const DEAD_LETTER_CODES_MAX: usize = 64;

/// Longest label in bytes. Longer ones are cut.
pub(crate) const LABEL_BYTES_MAX: usize = 64;

/// Number of the latest events of a topic among which an event of the other topic finds its
/// partner, with a shadow.
pub(crate) const EVENTS_WAITING_MAX: usize = 50_000;

/// Number of pairs of events that are kept, with a shadow.
pub(crate) const PAIRS_MAX: usize = 8192;

/// Maximum number of weight files of an engine that are shown.
pub(crate) const WEIGHTS_MAX: usize = 8;

/// Number of rejected images that are kept, so that filters find some.
pub(crate) const REJECTED_KEPT: usize = 256;

/// Maximum number of rejected images that the page shows.
pub(crate) const REJECTED_MAX: usize = 100;

/// Longest text of a rejected image or of an engine that is shown, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 300;

/// Longest URI of a rejected image that is kept, in bytes. A longer one has no thumbnail.
pub(crate) const URI_BYTES_MAX: usize = 8192;

/// Maximum number of reasons of one event that are read, and of sentences that are shown.
pub(crate) const REASONS_MAX: usize = 16;

/// Longest list of regions that is kept for the outlines, in bytes of JSON.
pub(crate) const REGIONS_BYTES_MAX: usize = 64 << 10;

/// Maximum number of regions that are outlined.
pub(crate) const REGIONS_MAX: usize = 32;

/// Number of thumbnails that are kept.
pub(crate) const THUMBNAILS_KEPT: usize = 64;

/// Maximum number of requests that wait for a thumbnail. Others are refused.
pub(crate) const THUMBNAILS_WAITING_MAX: usize = 64;

/// Maximum number of open connections. Further ones wait to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Maximum number of pages that receive snapshots at a time.
pub(crate) const PAGES_MAX: usize = 40;

/// Connections that a browser opens for a page: one for the snapshots, the others for thumbnails
/// and outlines.
const CONNECTIONS_OF_A_PAGE: usize = 6;

// The rest is for probes and other clients.
const _: () = assert!(PAGES_MAX * CONNECTIONS_OF_A_PAGE < CONNECTIONS_MAX);

/// Maximum number of snapshots with different filters that are kept for a second.
pub(crate) const SNAPSHOTS_KEPT: usize = 16;
