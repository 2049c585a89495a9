//! One produce request of the Kafka protocol, byte by byte, for a header name that is not UTF-8.
//! The protocol allows it, but librdkafka's Rust interface accepts only text.
//!
//! Source: the protocol guide of Apache Kafka, Produce request version 3 and record batch
//! version 2.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A record with one header, whose name may be any bytes.
pub(crate) struct RawRecord<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) header: (&'a [u8], &'a [u8]),
}

/// Appends the record to partition 0 of a topic, and waits for the broker's acknowledgement.
pub(crate) fn produce(broker: &str, topic: &str, record: &RawRecord<'_>) {
    let batch = record_batch(record);
    let mut request = Vec::new();
    request.extend(0_i16.to_be_bytes()); // Produce
    request.extend(3_i16.to_be_bytes()); // version
    request.extend(7_i32.to_be_bytes()); // correlation id
    request.extend(string("dogiqa-tests"));
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // acknowledged by all replicas
    request.extend(10_000_i32.to_be_bytes()); // timeout in ms
    request.extend(1_i32.to_be_bytes()); // one topic
    request.extend(string(topic));
    request.extend(1_i32.to_be_bytes()); // one partition
    request.extend(0_i32.to_be_bytes()); // its index
    request.extend(length(&batch).to_be_bytes());
    request.extend(&batch);

    let mut connection = TcpStream::connect(broker).unwrap();
    connection.write_all(&length(&request).to_be_bytes()).unwrap();
    connection.write_all(&request).unwrap();
    let mut size = [0; 4];
    connection.read_exact(&mut size).unwrap();
    let mut response = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
    connection.read_exact(&mut response).unwrap();
    // Correlation id, topics, topic, partitions, partition index; then the partition's error code.
    let error_at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let error = i16::from_be_bytes([response[error_at], response[error_at + 1]]);
    assert_eq!(error, 0, "the broker refused the record");
}

/// Returns the bytes of a header within a record, and so in the segment file of its partition.
pub(crate) fn encoded_header(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = varint(name.len());
    bytes.extend(name);
    bytes.extend(varint(value.len()));
    bytes.extend(value);
    bytes
}

fn record_batch(record: &RawRecord<'_>) -> Vec<u8> {
    let mut body = vec![0]; // attributes
    body.extend(varint(0)); // timestamp delta
    body.extend(varint(0)); // offset delta
    for bytes in [record.key, record.value] {
        body.extend(varint(bytes.len()));
        body.extend(bytes);
    }
    body.extend(varint(1)); // headers
    body.extend(encoded_header(record.header.0, record.header.1));

    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // attributes: not compressed, created at
    checked.extend(0_i32.to_be_bytes()); // offset delta of the last record
    let now_ms = chrono::Utc::now().timestamp_millis();
    checked.extend(now_ms.to_be_bytes()); // first timestamp
    checked.extend(now_ms.to_be_bytes()); // last timestamp
    checked.extend((-1_i64).to_be_bytes()); // no producer id
    checked.extend((-1_i16).to_be_bytes()); // nor epoch
    checked.extend((-1_i32).to_be_bytes()); // nor sequence
    checked.extend(1_i32.to_be_bytes()); // records
    checked.extend(varint(body.len()));
    checked.extend(body);

    let mut batch = 0_i64.to_be_bytes().to_vec(); // offset, the broker's to set
    batch.extend((length(&checked) + 9).to_be_bytes()); // what follows
    batch.extend((-1_i32).to_be_bytes()); // leader epoch
    batch.push(2); // version of the format
    batch.extend(crc(&checked, 0x82F6_3B78).to_be_bytes());
    batch.extend(checked);
    batch
}

/// Computes a reflected 32-bit cyclic redundancy check, bit by bit.
pub(crate) fn crc(bytes: &[u8], polynomial: u32) -> u32 {
    let step = |crc: u32, _: u32| (crc >> 1) ^ (polynomial * (crc & 1));
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

fn varint(number: usize) -> Vec<u8> {
    let mut rest = number << 1; // zigzag, of a number that is not negative
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = i16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap()
}
