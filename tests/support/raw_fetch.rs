//! One fetch request of the Kafka protocol, for record bytes that client libraries hide.
//!
//! Source: the protocol guide of Apache Kafka, Fetch request version 4.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Fetches partition 0 of a topic from its beginning. Returns the broker's whole response, which
/// contains the record batches unchanged.
pub(crate) fn fetch(broker: &str, topic: &str) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(1_i16.to_be_bytes()); // Fetch
    request.extend(4_i16.to_be_bytes()); // version
    request.extend(7_i32.to_be_bytes()); // correlation id
    request.extend((-1_i16).to_be_bytes()); // no client id
    request.extend((-1_i32).to_be_bytes()); // not a replica
    request.extend(1000_i32.to_be_bytes()); // wait in ms
    request.extend(1_i32.to_be_bytes()); // bytes at least
    request.extend(8_000_000_i32.to_be_bytes()); // and at most
    request.push(0); // uncommitted records too
    request.extend(1_i32.to_be_bytes()); // one topic
    request.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes()); // one partition
    request.extend(0_i32.to_be_bytes()); // its index
    request.extend(0_i64.to_be_bytes()); // from its beginning
    request.extend(8_000_000_i32.to_be_bytes()); // bytes at most

    let mut connection = TcpStream::connect(broker).unwrap();
    connection.write_all(&i32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    connection.write_all(&request).unwrap();
    let mut size = [0; 4];
    connection.read_exact(&mut size).unwrap();
    let mut response = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
    connection.read_exact(&mut response).unwrap();
    response
}
