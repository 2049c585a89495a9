//! A Kafka broker inside this process, for the demo and for tests: librdkafka's mock cluster.
//!
//! It uses the real protocol over loopback and keeps everything in memory: 5 MiB per partition, one
//! replica. Its transactions are too incomplete to rely on.

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

/// Maximum number of copying threads; a relayed connection has two.
const THREADS_MAX: usize = 64;

/// A broker that runs until this value is dropped.
pub struct EmbeddedBroker {
    /// Owns the mock cluster. Its own connection is not used.
    client: BaseProducer,
    address: String,
    relay: Option<Relay>,
}

/// A fixed port in front of the mock cluster, which chooses its own port. Clients receive that port
/// in the first response and then connect to it directly.
#[derive(Debug)]
struct Relay {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
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
    /// Starts a broker with these topics on loopback, on `port` or on a free port.
    ///
    /// # Errors
    /// Fails if the port cannot be bound or a topic name is invalid.
    pub fn start(
        topics: &[String],
        partitions: i32,
        port: Option<u16>,
    ) -> Result<Self, StreamError> {
        let failed =
            |reason: String| StreamError::Configuration(format!("embedded broker: {reason}"));
        let client: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .map_err(|error| failed(error.to_string()))?;
        let cluster = client
            .client()
            .mock_cluster()
            .ok_or_else(|| failed("librdkafka has no mock cluster".to_owned()))?;
        for topic in topics {
            cluster
                .create_topic(topic, partitions, 1)
                .map_err(|error| failed(format!("topic {topic}: {error}")))?;
        }
        let address = cluster.bootstrap_servers();
        drop(cluster);
        let relay = port
            .map(|port| Relay::start(port, &address))
            .transpose()
            .map_err(|error| failed(format!("no relay: {error}")))?;
        Ok(Self { client, address, relay })
    }

    /// Returns the address for clients, `host:port`.
    pub fn bootstrap_servers(&self) -> String {
        self.relay.as_ref().map_or_else(|| self.address.clone(), |relay| relay.address.to_string())
    }

    /// Points the settings of a worker to this broker. Selects the `consumer` protocol, because the
    /// mock cluster delays the first member of a classic group by three seconds.
    pub fn configure(&self, settings: &mut Settings) {
        settings.bootstrap_servers = self.bootstrap_servers();
        settings.group_protocol = GroupProtocol::Consumer;
        settings.group_instance_id = None;
    }

    /// Returns the mock cluster, to stop brokers and inject errors.
    ///
    /// # Panics
    /// Never: the client was created with a mock cluster.
    pub fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.client.client().mock_cluster().expect("the client was created with a mock cluster")
    }
}

impl Relay {
    fn start(port: u16, cluster_address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (stopped, cluster_address) = (Arc::clone(&is_stopped), cluster_address.to_owned());
        let accept = move || {
            let running = Arc::new(AtomicUsize::new(0));
            for client in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let relayed = client.and_then(|client| relay(client, &cluster_address, &running));
                if let Err(error) = relayed {
                    tracing::debug!(%error, "a connection to the embedded broker failed");
                }
            }
        };
        thread::Builder::new().name("dogiqa-relay".to_owned()).spawn(accept)?;
        Ok(Self { address, is_stopped })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
    }
}

/// Copies in both directions, each on its own thread, until either side closes. `running` counts
/// these threads.
fn relay(client: TcpStream, cluster_address: &str, running: &Arc<AtomicUsize>) -> io::Result<()> {
    if running.load(Ordering::Acquire) >= THREADS_MAX {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(cluster_address)?;
    let directions = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (mut from, mut to) in directions {
        running.fetch_add(1, Ordering::AcqRel);
        let running = Arc::clone(running);
        let copy = move || {
            if let Err(error) = io::copy(&mut from, &mut to) {
                tracing::debug!(%error, "a relayed connection ended");
            }
            for side in [from, to] {
                // The other direction may have closed it already.
                drop(side.shutdown(Shutdown::Both));
            }
            running.fetch_sub(1, Ordering::AcqRel);
        };
        thread::Builder::new().name("dogiqa-relay".to_owned()).spawn(copy)?;
    }
    Ok(())
}
