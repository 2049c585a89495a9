//! Faults of the input topic and the group: records that cannot be decompressed, a topic that is
//! created again, transactions, consumers of another kind.

use std::time::{Duration, Instant};

use rdkafka::topic_partition_list::Offset;
use serde_json::Value;

use crate::fault_run::FaultRun;
use crate::http;
use crate::process::Process;
use crate::run_size::RunSize;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::services;
use crate::topic_admin::{EagerMember, TopicAdmin};
use crate::wait;

/// Size of a value that decompresses to more than the default of `receive.message.max.bytes`.
const BOMB_BYTES: usize = 40 << 20;
/// Message of a worker that reads its partitions from their beginning again.
const RECREATED: &str = "the input topic was deleted and created again";
/// Time for which an eager consumer tries to join.
const EAGER_TIME: Duration = Duration::from_secs(4);

#[test]
fn a_batch_that_decompresses_to_too_much_ends_the_worker_and_is_answered_with_a_higher_limit() {
    let title = "a batch of 1 KB that decompresses to 40 MB: the worker ends, restart with a higher \
                 limit";
    FaultRun::in_both_modes("bomb", title, |mut run| {
        run.fixture.publish_large("bomb", &vec![b' '; BOMB_BYTES]);
        run.expected.dead_letters.insert("bomb".to_owned(), "reference.too_large");
        run.start(1);
        let (status, log) = run.workers.remove(0).finish(WAIT_MAX);
        assert_eq!(status.code(), Some(1), "{log}");
        let position = format!("topic {}, partition ", run.fixture.input());
        let error = log.lines().find(|line| line.contains(&position)).expect("the position");
        for part in ["offset ", "receive.message.max.bytes", "None was skipped"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("unknown"), "{error}");
        run.faults += 1;
        run.set("kafka.properties.receive_message_max_bytes=100000000");
        run.start(1);
        run.finish();
    });
}

#[test]
fn a_topic_that_is_created_again_is_read_from_its_beginning() {
    recreated("classic", 1, "the input topic is deleted and created again (classic)");
}

#[test]
fn a_topic_that_is_created_again_is_read_from_its_beginning_with_the_protocol_consumer() {
    recreated("consumer", 1, "the input topic is deleted and created again (consumer)");
}

#[test]
fn a_topic_that_is_created_again_is_read_from_its_beginning_by_two_workers() {
    recreated("classic", 2, "the input topic is deleted and created again, two workers (classic)");
}

#[test]
fn a_topic_that_is_created_again_is_read_from_its_beginning_by_two_protocol_consumers() {
    recreated(
        "consumer",
        2,
        "the input topic is deleted and created again, two workers (consumer)",
    );
}

/// Several workers notice the new topic one after the other, and may answer references again that
/// another one has answered. They skip none.
fn recreated(protocol: &str, workers: usize, title: &'static str) {
    let size = RunSize::from_environment().divided_by(8);
    let name = format!("recreated-{protocol}-{workers}");
    FaultRun::with_size(&name, title, size, |mut run| {
        run.set(format!("kafka.group_protocol={protocol}"));
        // By default, a worker notices a new topic within 20 s.
        run.set("kafka.properties.topic_metadata_refresh_interval_ms=3000");
        if workers > 1 {
            run.permit_repeats();
        }
        run.start(workers);
        run.read_until_answered(1, 1);
        run.wait_until_committed();
        run.recreate_input();
        // More records than the old position, so that no position is out of range.
        run.publish_more(2 * run.size.references);
        run.faults += 1;
        run.read_until_answered(1, 1);
        let notices = run.workers.iter().filter(|worker| worker.log().contains(RECREATED));
        // With the consumer protocol the coordinator may give the new partitions to the workers
        // before they ask for the topic's id.
        assert!(notices.count() > 0 || protocol == "consumer", "no worker noticed it");
        run.finish();
    });
}

#[test]
fn a_position_of_a_deleted_topic_is_not_continued_when_it_is_created_again() {
    let size = RunSize::from_environment().divided_by(8);
    let title = "a worker starts at a position that another one committed for the deleted topic";
    FaultRun::with_size("old-position", title, size, |mut run| {
        run.start(1);
        run.read_until_answered(1, 1);
        run.wait_until_committed();
        let view = run.fixture.group_view();
        let old = view.committed_with_metadata(WAIT_MAX).unwrap();
        ServiceFixture::stop(run.workers.remove(0));
        run.recreate_input();
        // More records than the old position, so that no position is out of range.
        run.publish_more(2 * run.size.references);
        // The brokers delete the offsets of a deleted topic a moment later.
        let is_without_offsets = || {
            let committed = view.committed(WAIT_MAX).unwrap();
            committed.iter().all(|offset| *offset == Offset::Invalid)
        };
        assert!(wait::until(is_without_offsets, WAIT_MAX), "the old offsets are deleted");
        // As a worker does that has not noticed the new topic.
        view.commit(&old);
        run.faults += 1;
        // The committed offsets go back to 0.
        run.permit_repeats();
        run.start(1);
        run.read_until_answered(1, 1);
        assert!(run.workers[0].log().contains(RECREATED), "the worker has not noticed it");
        assert_eq!(run.finish().twice, 0, "answers beyond one for each reference");
    });
}

#[test]
fn transactions_in_the_input_leave_no_lag() {
    let size = RunSize::from_environment().divided_by(8);
    let title = "transactional input, every third aborted";
    FaultRun::with_size("input-txn", title, size, |mut run| {
        let producer = run.admin().transactions(&run.fixture.input());
        for number in 0..run.size.pick(9, 90) {
            if number % 3 == 2 {
                let poison = PublishedRecord {
                    key: Some(b"aborted".to_vec()),
                    payload: Some(b"not a reference".to_vec()),
                    ..PublishedRecord::default()
                };
                producer.write(&run.fixture.input(), std::iter::repeat_n(poison, 12));
                producer.abort();
            } else {
                let more = run.expect_more(20);
                producer.write(&run.fixture.input(), more);
                producer.commit();
            }
            run.faults += 1;
        }
        run.start(1);
        run.read_until_answered(1, 1);
        let address = http::served_address(&run.workers[0]);
        let has_no_lag = || sum_of(&address, "dogiqa_consumer_lag") == Some(0.0);
        assert!(wait::until(has_no_lag, WAIT_MAX), "the lag stays above 0 on an idle topic");
        run.finish();
    });
}

#[test]
fn an_eager_consumer_that_joins_and_leaves_disturbs_nothing() {
    FaultRun::in_both_modes("eager", "an eager member joins and leaves", |mut run| {
        run.start(2);
        for part in 1..=run.size.pick(1, 4) {
            run.read_until_answered(part, 6);
            let (client, input) = (run.fixture.client(), run.fixture.input());
            let member = EagerMember::join(&client, run.fixture.group(), &input);
            assert!(!member.poll_for(EAGER_TIME), "the group refuses it");
            run.faults += 1;
        }
        run.finish();
    });
}

#[test]
fn a_group_of_eager_consumers_makes_the_worker_unready_and_ends_it() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "eager-first", 1);
    let member = EagerMember::join(&fixture.client(), fixture.group(), &fixture.input());
    assert!(member.poll_for(WAIT_MAX), "the eager consumer is the only member");
    let worker = fixture.start_worker("the worker", &["kafka.unready_after=5s".to_owned()]);
    worker.wait_for_line("group_inconsistent", WAIT_MAX);
    let (status, body) = http::get(&http::served_address(&worker), "/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["ready"]), (503, &Value::Bool(false)), "{body}");
    assert_eq!(body["reasons"][0]["code"], "group_inconsistent", "{body}");
    assert!(body["reasons"][0]["since"].is_string(), "{body}");
    member.poll_for(Duration::from_millis(1));
    let (status, log) = worker.finish(WAIT_MAX);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("set another kafka.group_id"), "{log}");
}

#[test]
fn an_open_transaction_shows_and_its_records_are_answered_after_its_end() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "open-txn", 1);
    fixture.publish_references(20);
    let admin = TopicAdmin::new(fixture.client());
    let producer = admin.transactions("open-txn");
    producer.write(&fixture.input(), fixture.references(20..30));
    let worker = fixture.start_worker("the worker", &[]);
    let mut reader = fixture.answer_reader();
    reader.read_until_answered(20, &[&worker]);
    let address = http::served_address(&worker);
    let unstable = || sum_of(&address, "dogiqa_unstable_records");
    assert!(wait::until(|| unstable() == Some(10.0), WAIT_MAX), "{:?}", unstable());
    producer.commit();
    reader.read_until_answered(30, &[&worker]);
    assert!(wait::until(|| unstable() == Some(0.0), WAIT_MAX), "{:?}", unstable());
    ServiceFixture::stop(worker);
    fixture.assert_everything_is_committed();
}

#[test]
fn records_that_expired_before_they_were_read_are_counted() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "expired", 1);
    fixture.publish_references(10);
    let worker = fixture.start_worker("the first worker", &[]);
    fixture.answer_reader().read_until_answered(10, &[&worker]);
    ServiceFixture::stop(worker);
    fixture.publish(fixture.references(10..40));
    TopicAdmin::new(fixture.client()).delete_records(&fixture.input(), 0, 25);
    let worker = fixture.start_worker("the second worker", &[]);
    fixture.answer_reader().read_until_answered(10 + 15, &[&worker]);
    let line = worker.wait_for_line("records were deleted before they were read", WAIT_MAX);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["from"], &line["records"]), (&Value::from(10), &Value::from(15)), "{line}");
    let address = http::served_address(&worker);
    assert_eq!(sum_of(&address, "dogiqa_records_expired_total"), Some(15.0));
    assert_eq!(sum_of(&address, "dogiqa_offsets_missing_total"), Some(1.0));
    ServiceFixture::stop(worker);
    fixture.assert_everything_is_committed();
}

#[test]
fn a_new_partition_is_read_within_half_a_minute() {
    let Some(services) = services() else { return };
    let mut fixture = ServiceFixture::new(services, "new-partition", 1);
    fixture.publish_references(1);
    let worker = fixture.start_worker("the worker", &[]);
    let mut reader = fixture.answer_reader();
    reader.read_until_answered(1, &[&worker]);
    TopicAdmin::new(fixture.client()).add_partitions(&fixture.input(), 2);
    let started = Instant::now();
    fixture.set_partitions(2);
    // Some of these keys belong to the new partition.
    fixture.publish(fixture.references(1..41));
    reader.read_until_answered(41, &[&worker]);
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(30), "the new partition was read after {waited:?}");
    ServiceFixture::stop(worker);
    fixture.assert_everything_is_committed();
}

#[test]
fn a_killed_static_member_waits_for_its_own_session() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "static-member", 2);
    let settings = ["kafka.group_protocol=consumer", "kafka.group_instance_id=worker-a"];
    let settings = settings.map(str::to_owned);
    fixture.publish_references(10);
    let worker = fixture.start_worker("the first worker", &settings);
    let mut reader = fixture.answer_reader();
    reader.read_until_answered(10, &[&worker]);
    Process::kill(worker);
    fixture.publish(fixture.references(10..20));
    let worker = fixture.start_worker("its successor", &settings);
    worker.wait_for_line("waiting for it to expire", WAIT_MAX);
    worker.wait_for_line("instance_held", WAIT_MAX);
    let (status, body) = http::get(&http::served_address(&worker), "/readyz");
    assert!(status == 503 && body.contains("instance_held"), "{status} {body}");
    reader.read_until_answered(20, &[&worker]);
    ServiceFixture::wait_until_ready(&worker);
    ServiceFixture::stop(worker);
    fixture.assert_everything_is_committed();
}

/// Returns the sum of a metric over its labels, or `None` if the worker does not report it.
fn sum_of(address: &str, metric: &str) -> Option<f64> {
    let (_, page) = http::get(address, "/metrics");
    let values = page.lines().filter(|line| line.starts_with(metric)).map(|line| {
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(f64::NAN)
    });
    values.reduce(|sum, value| sum + value)
}
