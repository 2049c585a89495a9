//! One Kafka record in flight, and its headers byte for byte.

pub(crate) mod delivery;
pub(crate) mod headers;
