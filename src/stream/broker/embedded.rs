//! A Kafka broker inside this process, for the demo and for tests: librdkafka's own double. It
//! speaks the real protocol over loopback and forgets everything when it is dropped. It is no
//! broker to keep data in: 5 MiB per partition, one replica, no transactions worth the name.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use crate::stream::error::StreamError;
use crate::stream::settings::{GroupProtocol, Settings};

/// Connections that the fixed port relays at once.
const CONNECTIONS_MAX: usize = 64;

/// A broker that lives as long as this value.
pub struct EmbeddedBroker {
    /// Owns the double; its own connection is not used.
    client: BaseProducer,
    address: String,
    relay: Option<Relay>,
}

/// A fixed port in front of the double, which chooses its own. Clients learn the double's port from
/// the first answer and connect to it directly from then on.
#[derive(Debug)]
struct Relay {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EmbeddedBroker")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Starts a broker with these topics on loopback: on `port`, or on one that it chooses.
    ///
    /// # Errors
    /// When there is no port to be had, or a topic has no valid name.
    pub fn start(
        topics: &[String],
        partitions: i32,
        port: Option<u16>,
    ) -> Result<Self, StreamError> {
        let refused = |what: String| StreamError::Configuration(format!("embedded broker: {what}"));
        let client: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .map_err(|error| refused(error.to_string()))?;
        let double = client.client().mock_cluster();
        let double = double.ok_or_else(|| refused("librdkafka has no broker double".to_owned()))?;
        for topic in topics {
            let created = double.create_topic(topic, partitions, 1);
            created.map_err(|error| refused(format!("topic {topic}: {error}")))?;
        }
        let address = double.bootstrap_servers();
        drop(double);
        let relay = port.map(|port| Relay::start(port, &address)).transpose();
        let relay = relay.map_err(|error| refused(format!("no relay: {error}")))?;
        Ok(Self { client, address, relay })
    }

    /// Where a client finds it, `host:port`.
    pub fn bootstrap_servers(&self) -> String {
        self.relay.as_ref().map_or_else(|| self.address.clone(), |relay| relay.address.to_string())
    }

    /// Points a worker's settings here. The double lets a first member of a classic group wait for
    /// three seconds, so the other protocol is used.
    pub fn configure(&self, settings: &mut Settings) {
        settings.bootstrap_servers = self.bootstrap_servers();
        settings.group_protocol = GroupProtocol::Consumer;
        settings.group_instance_id = None;
    }

    /// The double, to take brokers down and inject errors.
    ///
    /// # Panics
    /// Never: the client was made with a double.
    pub fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.client.client().mock_cluster().expect("the client was made with a double")
    }
}

impl Relay {
    fn start(port: u16, double: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let (has_ended, double) = (Arc::clone(&ends), double.to_owned());
        let accept = move || {
            let open = Arc::new(AtomicUsize::new(0));
            for client in listener.incoming() {
                if has_ended.load(Ordering::Acquire) {
                    return;
                }
                let connected = client.and_then(|client| connect(client, &double, &open));
                if let Err(error) = connected {
                    tracing::debug!(%error, "a connection to the embedded broker failed");
                }
            }
        };
        thread::Builder::new().name("dogiqa-relay".to_owned()).spawn(accept)?;
        Ok(Self { address, ends })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
    }
}

/// Copies both ways until either side closes.
fn connect(client: TcpStream, double: &str, open: &Arc<AtomicUsize>) -> io::Result<()> {
    if open.load(Ordering::Acquire) >= CONNECTIONS_MAX {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(double)?;
    let directions = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (mut from, mut to) in directions {
        open.fetch_add(1, Ordering::AcqRel);
        let of_thread = Arc::clone(open);
        let copy = move || {
            if let Err(error) = io::copy(&mut from, &mut to) {
                tracing::debug!(%error, "a relayed connection ended");
            }
            for side in [from, to] {
                // The other direction may have closed it before.
                drop(side.shutdown(Shutdown::Both));
            }
            of_thread.fetch_sub(1, Ordering::AcqRel);
        };
        thread::Builder::new().name("dogiqa-relay".to_owned()).spawn(copy)?;
    }
    Ok(())
}
