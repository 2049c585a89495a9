//! Reading the output topics without a group, through errors of a broker.

use std::time::{Duration, Instant};

use dog_iqa::stream::{EmbeddedBroker, OutputReader, OutputRecord, Settings, Start, StreamError};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const LIMIT: Duration = Duration::from_mins(1);
const WAIT: Duration = Duration::from_millis(100);

struct Topics {
    broker: EmbeddedBroker,
    settings: Settings,
}

impl Topics {
    fn start() -> Self {
        let mut settings = Settings::default();
        let broker = EmbeddedBroker::start(&settings.topics(), 2, None).unwrap();
        broker.configure(&mut settings);
        Self { broker, settings }
    }

    /// Writes a record that decompresses to more than a reader accepts.
    fn write_unreadable(&self, partition: i32) {
        self.write(partition, &"0".repeat(40 << 20), 1_000_000_000_000);
    }

    fn write(&self, partition: i32, text: &str, at_ms: i64) {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.broker.bootstrap_servers())
            .set("compression.type", "zstd")
            .set("message.max.bytes", "100000000");
        let producer: BaseProducer = config.create().unwrap();
        let topic = &self.settings.output_topic;
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(text);
        producer.send(record.timestamp(at_ms)).map_err(|(error, _)| error).unwrap();
        producer.flush(LIMIT).unwrap();
    }

    fn refuse_reads(&self) {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG;
        self.broker.cluster().request_errors(RDKafkaApiKey::Fetch, &[error; 1000]);
    }

    fn allow_reads(&self) {
        self.broker.cluster().clear_request_errors(RDKafkaApiKey::Fetch);
    }
}

/// Reads this number of records, and then none. Returns their texts, sorted.
fn read(reader: &mut OutputReader, count: usize) -> Vec<String> {
    let (mut texts, deadline) = (Vec::new(), Instant::now() + LIMIT);
    while texts.len() < count {
        assert!(Instant::now() < deadline, "only {texts:?}");
        if let Some(record) = reader.next(WAIT).unwrap() {
            let OutputRecord::Event { payload, .. } = record else { panic!("{record:?}") };
            texts.push(String::from_utf8(payload).unwrap());
        }
    }
    assert_eq!(reader.next(5 * WAIT).unwrap(), None, "after {texts:?}");
    texts.sort();
    texts
}

/// Reads until the error of the broker arrives.
fn read_until_refused(reader: &mut OutputReader) {
    let deadline = Instant::now() + LIMIT;
    let error = loop {
        assert!(Instant::now() < deadline, "the error does not arrive");
        match reader.next(WAIT) {
            Ok(record) => assert_eq!(record, None),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StreamError::Unreadable { .. }), "{error}");
}

#[test]
fn after_an_error_each_partition_continues_with_its_next_record() {
    let topics = Topics::start();
    topics.write(0, "before", 2_000_000_000_000);
    let mut reader = OutputReader::new(&topics.settings, Start::Beginning);
    reader.connect().unwrap();
    assert_eq!(read(&mut reader, 1), ["before"]);
    topics.refuse_reads();
    read_until_refused(&mut reader);
    topics.allow_reads();
    // Its time is before that of the newest record that was read.
    topics.write(1, "slower", 1_000_000_000_000);
    topics.write(0, "next", 2_000_000_000_001);
    assert!(!reader.connect().unwrap(), "nothing is skipped");
    assert_eq!(read(&mut reader, 2), ["next", "slower"]);
}

#[test]
fn errors_of_a_broker_that_end_skip_nothing() {
    let topics = Topics::start();
    let mut reader = OutputReader::new(&topics.settings, Start::Beginning);
    reader.connect().unwrap();
    topics.refuse_reads();
    read_until_refused(&mut reader);
    assert!(!reader.connect().unwrap(), "the first error skips nothing");
    read_until_refused(&mut reader);
    topics.allow_reads();
    topics.write(1, "meanwhile", 1_000_000_000_000);
    assert!(!reader.connect().unwrap(), "every partition can be read");
    assert_eq!(read(&mut reader, 1), ["meanwhile"]);
}

#[test]
fn only_a_partition_whose_record_cannot_be_read_continues_with_new_records() {
    let topics = Topics::start();
    topics.write_unreadable(1);
    let mut reader = OutputReader::new(&topics.settings, Start::Beginning);
    reader.connect().unwrap();
    read_until_refused(&mut reader);
    assert!(!reader.connect().unwrap(), "the first error skips nothing");
    read_until_refused(&mut reader);
    topics.write(0, "idle", 1_000_000_000_000);
    topics.write(1, "skipped", 1_000_000_000_000);
    assert!(reader.connect().unwrap(), "the record fails again");
    topics.write(1, "new", 1_000_000_000_001);
    assert_eq!(read(&mut reader, 2), ["idle", "new"]);
}

#[test]
fn two_partitions_with_unreadable_records_are_skipped_one_after_the_other() {
    let topics = Topics::start();
    topics.write_unreadable(0);
    topics.write_unreadable(1);
    let mut reader = OutputReader::new(&topics.settings, Start::Beginning);
    let mut skips = [false; 3];
    for skips in &mut skips {
        *skips = reader.connect().unwrap();
        read_until_refused(&mut reader);
    }
    assert_eq!(skips, [false, false, true]);
    assert!(reader.connect().unwrap(), "the other partition failed again, too");
    topics.write(0, "first", 1_000_000_000_000);
    topics.write(1, "second", 1_000_000_000_000);
    assert_eq!(read(&mut reader, 2), ["first", "second"]);
}
