//! Writes image references to the input topic.

use rdkafka::message::OwnedHeaders;

use crate::event::ImageReference;
use crate::stream::error::StreamError;
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::output::publisher::Publisher;
use crate::stream::record::headers;
use crate::stream::settings::Settings;

/// A producer of references. Clones share its connections.
#[derive(Debug, Clone)]
pub struct ReferenceWriter {
    publisher: Publisher,
    topic: String,
}

impl ReferenceWriter {
    /// Creates the producer.
    ///
    /// # Errors
    /// Fails if librdkafka refuses the configuration.
    pub fn connect(settings: &Settings) -> Result<Self, StreamError> {
        let publisher = Publisher::open(settings)?;
        Ok(Self { publisher, topic: settings.input_topic.clone() })
    }

    /// Writes a reference with its id as key and waits until the brokers acknowledge it.
    ///
    /// # Errors
    /// Fails if the record is too large or the brokers refuse it.
    ///
    /// # Panics
    /// Never: a reference can always be serialized.
    pub async fn write(&self, reference: &ImageReference) -> Result<(), PublishError> {
        self.write_with_key(&reference.id, reference).await
    }

    /// Writes a reference with the given key and waits until the brokers acknowledge it.
    ///
    /// # Errors
    /// Fails if the record is too large or the brokers refuse it.
    ///
    /// # Panics
    /// Never: a reference can always be serialized.
    pub async fn write_with_key(
        &self,
        key: &str,
        reference: &ImageReference,
    ) -> Result<(), PublishError> {
        let payload = serde_json::to_vec(reference).expect("a reference is plain data");
        let trace = reference.trace.as_ref();
        let trace_header: Vec<(String, String)> =
            trace.into_iter().map(|trace| ("traceparent".to_owned(), trace.header())).collect();
        let outgoing = Outgoing {
            topic: &self.topic,
            key: Some(key.as_bytes()),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &trace_header),
        };
        self.publisher.publish(outgoing).await
    }
}
