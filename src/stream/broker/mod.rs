//! The brokers themselves: probing, client properties, certificate diagnosis, an embedded broker.

pub(crate) mod embedded;
pub(crate) mod kafka_error;
pub(crate) mod partition_list;
pub(crate) mod probe;
pub(crate) mod properties;
pub(crate) mod tls_diagnosis;
