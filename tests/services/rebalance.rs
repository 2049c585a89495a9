//! Nothing is lost when members of the group come and go.

use crate::delivery::{REFERENCES, duplicates_of_a_complete_run, wait_until_ready};
use crate::scene::Scene;
use crate::services::{announce, services};

#[test]
fn a_worker_that_is_stopped_and_restarted_twice_beside_another_loses_nothing() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "rebalance", 3);
    scene.publish_references(REFERENCES);
    let mut oracle = scene.oracle();
    let steady = scene.start_worker("the steady worker", &[]);
    let mut restless = scene.start_worker("the restless worker", &[]);
    for round in 1..=2 {
        wait_until_ready(&restless);
        oracle.read_until_answered(REFERENCES * round / 3, &[&steady, &restless]);
        scene.stop(restless);
        restless = scene.start_worker("the restless worker", &[]);
    }
    oracle.read_until_answered(REFERENCES, &[&steady, &restless]);
    scene.stop(steady);
    scene.stop(restless);

    let duplicates = duplicates_of_a_complete_run(&scene, &mut oracle);
    announce(&format!("rebalance: {REFERENCES} references, 0 lost, {duplicates} events twice"));
}
