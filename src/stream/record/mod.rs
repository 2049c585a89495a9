//! Consumed records while they are in flight, and Kafka headers byte for byte.
//!
//! The polling thread copies each record out of librdkafka, and acquires a share of the in-flight
//! budget and a slot of its partition. It passes all three to a task as one [`delivery::Delivery`].
//!
//! This folder may import `offsets` and, outside of `stream`, `event`.

pub(crate) mod delivery;
pub(crate) mod headers;
pub(crate) mod in_flight_budget;
