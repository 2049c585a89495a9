//! The librdkafka configuration of each kind of client, built from the settings.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::stream::error::StreamError;
use crate::stream::settings::{BATCH_BYTES_MAX, GroupProtocol, Settings};

/// Maximum size of a fetched response, compressed. Brokers exceed it for the first batch only.
const FETCH_BYTES_MAX: &str = "1000";

impl Settings {
    /// Returns the configuration of a client that reads metadata and creates topics.
    pub(crate) fn admin_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        self.apply_properties(&mut config)?;
        Ok(config)
    }

    /// Returns the part of the configuration that every client shares.
    fn base_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", self.client_id.clone().unwrap_or_else(default_client_id))
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "10000");
        config
    }

    /// Returns the configuration of the worker's consumer.
    pub(crate) fn consumer_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        config
            .set("group.id", &self.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("max.poll.interval.ms", "300000")
            .set("queued.max.messages.kbytes", "8192")
            .set("queued.min.messages", "1000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "100")
            .set("statistics.interval.ms", "5000")
            // Reports the end of a partition, so that the group does not lag behind transaction
            // markers, which no poll returns.
            .set("enable.partition.eof", "true")
            // New partitions must be found within half a minute, rebalance included.
            .set("topic.metadata.refresh.interval.ms", "20000");
        bound_decompression(&mut config);
        match self.group_protocol {
            GroupProtocol::Classic => {
                // At least three heartbeats per session, even if it is configured short.
                let session_ms = self.session_timeout.as_millis();
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    .set("session.timeout.ms", session_ms.to_string())
                    .set("heartbeat.interval.ms", (session_ms / 3).min(3000).to_string());
            }
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        if let Some(id) = &self.group_instance_id {
            config.set("group.instance.id", id);
        }
        if let Some(rack) = &self.client_rack {
            config.set("client.rack", rack);
        }
        self.apply_properties(&mut config)?;
        // librdkafka reports a topic that was deleted and created again only in these lines.
        let debug = config.get("debug").map_or_else(String::new, |debug| format!("{debug},"));
        config.set("debug", format!("{debug}metadata"));
        config.set_log_level(RDKafkaLogLevel::Debug);
        Ok(config)
    }

    /// Returns the configuration of the producer of events and dead letters.
    pub(crate) fn producer_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("compression.type", "zstd")
            .set("partitioner", "murmur2_random")
            .set("delivery.timeout.ms", "120000")
            // The topics existed at the start. librdkafka waits this long only for a topic that it
            // has never found; one that the brokers do not know any more was deleted.
            .set("topic.metadata.propagation.max.ms", "10000")
            .set("message.max.bytes", self.message_bytes_max.as_u64().to_string())
            .set("queue.buffering.max.messages", (2 * self.in_flight_max.get()).to_string())
            .set("queue.buffering.max.kbytes", self.producer_queue_kbytes().to_string());
        self.apply_properties(&mut config)?;
        Ok(config)
    }

    /// Returns the configuration of a producer that sends each record in a request of its own.
    ///
    /// librdkafka fails a whole batch that its topic refuses as too large. Only such a producer
    /// shows which record is.
    pub(crate) fn with_single_records(mut config: ClientConfig) -> ClientConfig {
        config.set("batch.num.messages", "1");
        config
    }

    /// Returns the configuration of a transactional producer.
    pub(crate) fn transactional_config(&self, id: &str) -> Result<ClientConfig, StreamError> {
        let mut config = self.producer_config()?;
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", "60000")
            // Deliveries and requests must time out before their transaction does.
            .set("delivery.timeout.ms", "50000")
            .set("socket.timeout.ms", "50000");
        Ok(config)
    }

    /// Returns the configuration of a consumer that joins no group and commits nothing.
    pub(crate) fn reader_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        config
            // librdkafka requires a group id, although the reader joins no group.
            .set("group.id", format!("{}-reader", self.group_id))
            .set("enable.auto.commit", "false")
            // The start offset may have been deleted by retention in the meantime.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "100");
        bound_decompression(&mut config);
        self.apply_properties(&mut config)?;
        Ok(config)
    }

    /// Sets the user's properties, which override those of the worker.
    fn apply_properties(&self, config: &mut ClientConfig) -> Result<(), StreamError> {
        for (name, value) in self.properties.resolve()? {
            config.set(name, value);
        }
        Ok(())
    }
}

/// Bounds the memory of one fetch. librdkafka decompresses a whole response at once, and zstd packs
/// up to 32,000 bytes into one. So a response has one batch, or a few small ones, and a batch that
/// decompresses to more than `receive.message.max.bytes` is refused.
fn bound_decompression(config: &mut ClientConfig) {
    config
        .set("fetch.max.bytes", FETCH_BYTES_MAX)
        // The smallest value that librdkafka accepts; `fetch.max.bytes` must be as large.
        .set("message.max.bytes", FETCH_BYTES_MAX)
        .set("max.partition.fetch.bytes", FETCH_BYTES_MAX)
        .set("receive.message.max.bytes", BATCH_BYTES_MAX.to_string());
}

fn default_client_id() -> String {
    // The file may be unreadable, e.g. in a sandbox; then the id has no host.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "dogiqa".to_owned(),
        host => format!("dogiqa-{host}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::stream::properties::Properties;

    use super::*;

    fn native(config: &ClientConfig, name: &str) -> String {
        config.create_native_config().unwrap().get(name).unwrap()
    }

    #[test]
    fn librdkafka_accepts_the_defaults() {
        let settings = Settings::default();
        settings.validate().unwrap();
        let consumer = settings.consumer_config().unwrap();
        assert_eq!(native(&consumer, "enable.auto.commit"), "false");
        assert_eq!(native(&consumer, "auto.offset.reset"), "smallest");
        let producer = settings.producer_config().unwrap();
        assert_eq!(native(&producer, "compression.codec"), "zstd");
        assert_eq!(native(&producer, "enable.idempotence"), "true");
    }

    #[test]
    fn librdkafka_accepts_the_consumer_protocol() {
        let settings = Settings { group_protocol: GroupProtocol::Consumer, ..Settings::default() };
        let config = settings.consumer_config().unwrap();
        config.create::<rdkafka::consumer::BaseConsumer>().unwrap();
    }

    #[test]
    fn a_user_property_overrides_the_default() {
        let properties =
            Properties::from_pairs([("linger_ms", "50"), ("compression.codec", "lz4")]);
        let settings = Settings { properties, ..Settings::default() };
        let producer = settings.producer_config().unwrap();
        assert_eq!(native(&producer, "queue.buffering.max.ms"), "50");
        assert_eq!(native(&producer, "compression.codec"), "lz4");
    }
}
