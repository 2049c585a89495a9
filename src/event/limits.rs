//! Version of the contract, and the limits of a reference.

/// Version of the contract, in every event as `schema_version`.
pub const SCHEMA_VERSION: u32 = 1;

/// Longest record value, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Longest `id`, in characters.
pub const ID_CHARS_MAX: usize = 1024;

/// Longest `uri`, in characters.
pub const URI_CHARS_MAX: usize = 8192;

/// Longest `etag`, in characters.
pub const ETAG_CHARS_MAX: usize = 1024;

/// Longest `version_id`, in characters.
pub const VERSION_ID_CHARS_MAX: usize = 1024;

/// Longest name of a `policy`, in characters.
pub const POLICY_CHARS_MAX: usize = 128;

/// Longest `metadata`, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

/// Maximum number of values in `metadata`, at all depths. Each uses a hundred bytes of memory,
/// however short it is in JSON.
pub const METADATA_VALUES_MAX: usize = 1024;

/// Maximum number of objects in one record. All of them are in flight at once.
pub const OBJECTS_MAX: usize = 500;
