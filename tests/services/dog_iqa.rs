//! The paper's engine behind real Kafka and S3, with small random networks: a worker is killed in the middle,
//! another goes on, and what both say of a photo is the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::oracle::Answer;
use crate::scene::Scene;
use crate::services::services;
use crate::small_networks::{SmallNetworks, number, recomputed};

/// References, to fifty photos in turn.
const COUNT: usize = 60;

#[test]
fn the_papers_engine_answers_every_reference_also_when_a_worker_is_killed() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "dog-iqa", 2);
    let networks = SmallNetworks::new();
    scene.publish_references(COUNT);

    let killed = scene.start_worker("the killed", &settings(&networks));
    Scene::wait_until_ready(&killed);
    let mut oracle = scene.oracle();
    oracle.read_until(&[&killed], |oracle| oracle.event_count() >= 5);
    killed.kill();
    let worker = scene.start_worker("the next", &settings(&networks));
    oracle.read_until(&[&worker], |oracle| oracle.events.len() >= COUNT);
    Scene::stop(worker);
    oracle.read_to_end();

    assert_eq!((oracle.events.len(), oracle.dead_letters.len()), (COUNT, 0));
    // Fifty photos: ten are asked for twice, and what the killed worker had not committed was done again.
    let mut photos: BTreeMap<String, Value> = BTreeMap::new();
    let mut again = 0;
    for event in oracle.events.values().flatten().map(Answer::json) {
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
    scene.assert_everything_is_committed();
}

fn settings(networks: &SmallNetworks) -> Vec<String> {
    let mut settings = networks.settings();
    settings.push("engine.name=dog-iqa".to_owned());
    settings
}
