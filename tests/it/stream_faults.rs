//! Errors that stop a worker, their messages, and errors that it survives.

use std::time::Duration;

use dog_iqa::stream::{GroupProtocol, Properties, StreamError};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::noop::{self, Trouble};
use crate::stream::{PATIENCE, Scene, header, ids, until};

#[tokio::test]
async fn a_missing_topic_is_named_with_the_command_that_makes_it() {
    let mut scene = Scene::new(1).await;
    scene.settings.output_topic = "elsewhere".to_owned();
    let error = scene.start().await.end().await.unwrap_err();
    assert!(matches!(error, StreamError::MissingTopics(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("--create --topic elsewhere") && text.contains("create_topics"),
        "{text}"
    );
}

#[tokio::test]
async fn brokers_that_do_not_answer_end_the_start_with_their_address() {
    let mut scene = Scene::new(1).await;
    scene.settings.bootstrap_servers = "127.0.0.1:1".to_owned();
    scene.settings.probe_timeout = Duration::from_secs(1);
    let error = scene.start().await.end().await.unwrap_err();
    assert!(matches!(error, StreamError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_stop_during_the_start_is_graceful() {
    let mut scene = Scene::new(1).await;
    scene.settings.bootstrap_servers = "127.0.0.1:1".to_owned();
    // Far longer than the stop may take.
    scene.settings.probe_timeout = 10 * PATIENCE;
    let summary = scene.start().await.stop().await;
    assert_eq!(summary.received, 0);
}

#[tokio::test]
async fn a_property_that_breaks_a_promise_ends_the_start() {
    let mut scene = Scene::new(1).await;
    scene.settings.properties = Properties::from_pairs([("acks", "0")]);
    let error = scene.start().await.end().await.unwrap_err();
    assert!(matches!(error, StreamError::Configuration(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unexpected_error_of_the_consumer_makes_the_worker_unready_until_it_ends() {
    let mut scene = Scene::new(1).await;
    scene.settings.unready_after = Duration::from_secs(2);
    scene.settings.group_protocol = GroupProtocol::Classic;
    let full = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED;
    scene.broker.cluster().request_errors(RDKafkaApiKey::JoinGroup, &[full; 1000]);
    let worker = scene.start().await;
    let is_reported = || worker.health.reasons().iter().any(|r| r.code == "reads_fail");
    until("the error is a reason", is_reported).await;
    let text = worker.health.reasons().remove(0).text;
    assert!(text.contains("GroupMaxSizeReached"), "{text}");
    scene.broker.cluster().clear_request_errors(RDKafkaApiKey::JoinGroup);
    scene.refer("late", 1, "a.png").await;
    assert_eq!(scene.events(1).await.len(), 1);
    worker.until_ready().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_engine_ends_the_worker_without_a_commit() {
    // The objects of the scene are 24 pixels wide.
    let engine = || noop::engine(&[(24, Trouble::LosesDevice)]);
    let scene = Scene::with_engine(1, engine).await;
    let worker = scene.start().await;
    let health = worker.health.clone();
    scene.refer("any", 10, "a.png").await;
    let error = worker.end().await.unwrap_err();
    assert!(matches!(error, StreamError::EngineLost { .. }), "{error}");
    assert!(!health.is_ready());
    assert_eq!(scene.offsets().await, [(0, 10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_may_not_be_written_ends_the_worker_without_a_commit() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    let refuse = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    scene.refer("first", 1, "gated/a.png").await;
    scene.gates.until_inside(1).await;
    scene.broker.cluster().request_errors(RDKafkaApiKey::Produce, &[refuse]);
    scene.gates.open();
    let error = worker.end().await.unwrap_err();
    assert!(matches!(error, StreamError::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains(&scene.settings.output_topic), "{error}");
    assert_eq!(scene.offsets().await, [(0, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_delay_answers_and_lose_none() {
    let mut scene = Scene::new(1).await;
    scene.settings.properties = one_second_per_send();
    let worker = scene.start().await;
    let transient = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    scene.refer("gate", 1, "gated/a.png").await;
    scene.gates.until_inside(1).await;
    worker.until_ready().await;
    scene.broker.cluster().request_errors(RDKafkaApiKey::Produce, &[transient; 1000]);
    scene.gates.open();
    // The answer waits to be sent again.
    worker.until_unready().await;
    scene.broker.cluster().clear_request_errors(RDKafkaApiKey::Produce);
    assert_eq!(scene.events(1).await.len(), 1);
    worker.stop().await;
    assert_eq!(scene.offsets().await, [(1, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_repeated() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    scene.refer("gate", 1, "gated/a.png").await;
    scene.gates.until_inside(1).await;
    let transient = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    scene.broker.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[transient]);
    scene.gates.open();
    scene.until_offsets(|offsets| offsets == [(1, 1)]).await;
    assert!(worker.health.is_ready());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_survives_an_outage_of_the_brokers() {
    let mut scene = Scene::new(1).await;
    scene.settings.properties = one_second_per_send();
    let worker = scene.start().await;
    scene.refer("before", 10, "a.png").await;
    scene.events(10).await;
    scene.refer("meanwhile", 10, "gated/a.png").await;
    scene.gates.until_inside(10).await;
    worker.until_ready().await;
    scene.broker.cluster().broker_down(-1).unwrap();
    scene.gates.open();
    // Answers wait to be sent again.
    worker.until_unready().await;
    scene.broker.cluster().broker_up(-1).unwrap();
    scene.refer("after", 10, "a.png").await;
    let ids = ids(&scene.events(30).await);
    assert_eq!(ids.len(), 30);
    worker.until_ready().await;
    let summary = worker.stop().await;
    assert!(summary.is_committed);
    assert_eq!(scene.offsets().await, [(30, 30)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_now_and_then_makes_dead_letters() {
    let scene = Scene::new(1).await;
    let worker = scene.start().await;
    scene.refer("down", 3, "down/a.png").await;
    scene.refer("good", 10, "a.png").await;
    scene.events(10).await;
    let letters = scene.dead_letters(3).await;
    for letter in &letters {
        assert_eq!(header(letter, "dogiqa.error.code").unwrap(), "fetch.unavailable");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_of_an_unavailable_store_are_held_until_it_recovers() {
    let mut scene = Scene::new(1).await;
    scene.settings.outage_after = Duration::from_millis(200);
    let worker = scene.start().await;
    worker.until_ready().await;
    // References that fail before the outage is detected become dead letters.
    let detect = async {
        let mut sent = 0;
        while worker.health.is_ready() {
            scene.refer(&format!("early-{sent}"), 20, "down/a.png").await;
            sent += 20;
        }
    };
    tokio::time::timeout(PATIENCE, detect).await.expect("the outage is detected");
    scene.refer("held", 100, "down/a.png").await;
    let (committed, end) = scene.offsets().await[0];
    assert!(committed < end);
    scene.gates.open();
    let all = usize::try_from(end).unwrap();
    scene.until_offsets(|offsets| offsets[0].0 == offsets[0].1).await;
    let events = ids(&scene.events(100).await);
    assert!((0..100).all(|number| events.contains(&format!("held-{number}"))));
    let letters = scene.dead_letters(all - events.len()).await;
    assert_eq!(events.len() + letters.len(), all, "each has one answer");
    worker.stop().await;
}

/// Makes librdkafka give up a record after a second, so that the worker sends it again.
fn one_second_per_send() -> Properties {
    Properties::from_pairs([("delivery.timeout.ms", "1000")])
}
