//! The paper's engine behind real Kafka and S3, with small random networks: a worker is killed in the middle,
//! another goes on, and what both say of a photo is the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::service_fixture::ServiceFixture;
use crate::services::services;
use crate::small_networks::{SmallNetworks, number, recomputed};
use crate::topic_reader::Answer;

/// References, to fifty photos in turn.
const COUNT: usize = 60;

#[test]
fn the_papers_engine_answers_every_reference_also_when_a_worker_is_killed() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "dog-iqa", 2);
    let networks = SmallNetworks::new();
    fixture.publish_references(COUNT);

    let killed = fixture.start_worker("the killed", &settings(&networks));
    ServiceFixture::wait_until_ready(&killed);
    let mut reader = fixture.answer_reader();
    reader.read_until(&[&killed], |reader| reader.event_count() >= 5);
    killed.kill();
    let worker = fixture.start_worker("the next", &settings(&networks));
    reader.read_until(&[&worker], |reader| reader.events.len() >= COUNT);
    ServiceFixture::stop(worker);
    reader.read_to_end();

    assert_eq!((reader.events.len(), reader.dead_letters.len()), (COUNT, 0));
    // Fifty photos: ten are asked for twice, and what the killed worker had not committed was done again.
    let mut photos: BTreeMap<String, Value> = BTreeMap::new();
    let mut again = 0;
    for event in reader.events.values().flatten().map(Answer::json) {
        assert_eq!(event["engine"]["name"], "dog-iqa");
        assert!((number(&event["score"]) - recomputed(&event)).abs() < 1e-9);
        let Some(first) = photos.get(event["image"]["sha256"].as_str().unwrap()) else {
            photos.insert(event["image"]["sha256"].as_str().unwrap().to_owned(), event);
            continue;
        };
        again += 1;
        assert_eq!(event["engine"], first["engine"]);
        // In another batch sums come in another order.
        let apart = number(&event["score_expected"]) - number(&first["score_expected"]);
        assert!(apart.abs() < 0.01, "{apart}");
    }
    assert!(again >= COUNT - 50, "{again} photos were rated again");
    fixture.assert_everything_is_committed();
}

fn settings(networks: &SmallNetworks) -> Vec<String> {
    let mut settings = networks.settings();
    settings.push("engine.name=dog-iqa".to_owned());
    settings
}
