//! The brokers themselves: probing, client properties, certificate diagnosis, an embedded broker.

mod client_config;
pub(crate) mod embedded;
pub(crate) mod kafka_error;
pub(crate) mod probe;
pub(crate) mod tls_diagnosis;
