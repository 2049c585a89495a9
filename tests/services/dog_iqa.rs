//! The paper's engine with real Kafka and S3, and small random networks. A worker is killed, a
//! second one continues, and both compute the same score for a photo.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::service_fixture::ServiceFixture;
use crate::services::services;
use crate::small_networks::{SmallNetworks, number, recomputed};
use crate::topic_reader::Answer;

/// References to the fifty photos, in turn.
const COUNT: usize = 60;

#[test]
fn the_papers_engine_answers_every_reference_after_a_worker_is_killed() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "dog-iqa", 2);
    let networks = SmallNetworks::new();
    fixture.publish_references(COUNT);

    let killed = fixture.start_worker("the killed worker", &settings(&networks));
    ServiceFixture::wait_until_ready(&killed);
    let mut reader = fixture.answer_reader();
    reader.read_until(&[&killed], |reader| reader.event_count() >= 5);
    killed.kill();
    let worker = fixture.start_worker("the second worker", &settings(&networks));
    reader.read_until(&[&worker], |reader| reader.events.len() >= COUNT);
    ServiceFixture::stop(worker);
    reader.read_to_end();

    assert_eq!((reader.events.len(), reader.dead_letters.len()), (COUNT, 0));
    // Ten of the fifty photos have two references, and references that the killed worker did not
    // commit are answered again.
    let mut photos: BTreeMap<String, Value> = BTreeMap::new();
    let mut repeated = 0;
    for event in reader.events.values().flatten().map(Answer::json) {
        assert_eq!(event["engine"]["name"], "dog-iqa");
        assert!((number(&event["score"]) - recomputed(&event)).abs() < 1e-9);
        let Some(first) = photos.get(event["image"]["sha256"].as_str().unwrap()) else {
            photos.insert(event["image"]["sha256"].as_str().unwrap().to_owned(), event);
            continue;
        };
        repeated += 1;
        assert_eq!(event["engine"], first["engine"]);
        // Sums have another order in another batch.
        let apart = number(&event["score_expected"]) - number(&first["score_expected"]);
        assert!(apart.abs() < 0.01, "{apart}");
    }
    assert!(repeated >= COUNT - 50, "{repeated} photos were rated again");
    fixture.assert_everything_is_committed();
}

fn settings(networks: &SmallNetworks) -> Vec<String> {
    let mut settings = networks.settings();
    settings.push("engine.name=dog-iqa".to_owned());
    settings
}
