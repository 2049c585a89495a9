//! Nothing is lost: ten thousand references to fifty images, on a clean run and with a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::bucket;
use crate::oracle::Oracle;
use crate::scene::{PATIENCE, Scene};
use crate::services::{announce, services};

pub(crate) const REFERENCES: usize = 10_000;

#[test]
fn a_clean_run_answers_every_reference_exactly_once() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "clean-run", 3);
    scene.publish_references(REFERENCES);
    let mut oracle = scene.oracle();
    let start = Instant::now();
    let worker = scene.start_worker("the worker", &[]);
    oracle.read_until_answered(REFERENCES, &[&worker]);
    let seconds = start.elapsed().as_secs_f64();
    scene.stop(worker);

    let duplicates = duplicates_of_a_complete_run(&scene, &mut oracle);
    assert_eq!(duplicates, 0, "events beyond one for each reference");
    announce(&format!(
        "clean run: {REFERENCES} references answered in {seconds:.1} s ({:.0}/s), 0 lost, 0 twice",
        REFERENCES as f64 / seconds
    ));
}

#[test]
fn a_worker_killed_in_the_middle_loses_nothing() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "kill-minus-nine", 3);
    scene.publish_references(REFERENCES);
    let mut oracle = scene.oracle();
    let first = scene.start_worker("the killed worker", &[]);
    oracle.read_until_answered(REFERENCES / 3, &[&first]);
    first.kill();
    let second = scene.start_worker("its successor", &[]);
    oracle.read_until_answered(REFERENCES, &[&second]);
    scene.stop(second);

    let duplicates = duplicates_of_a_complete_run(&scene, &mut oracle);
    announce(&format!("kill -9: {REFERENCES} references, 0 lost, {duplicates} events twice"));
}

/// Checks what holds after every run, and returns the number of events beyond one per reference.
///
/// Each reference has an event and none a dead letter; an event speaks of the image that its
/// reference names; whoever answers twice says the same under the same event id; the same image
/// has the same score each time; the committed offsets are the ends of the topic.
pub(crate) fn duplicates_of_a_complete_run(scene: &Scene, oracle: &mut Oracle) -> usize {
    oracle.read_to_end();
    let samples = bucket::fifty_images(scene.services);
    let expected: BTreeSet<_> = (0..REFERENCES).map(|number| number.to_string()).collect();
    let answered: BTreeSet<_> = oracle.events.keys().cloned().collect();
    assert_eq!(
        expected.symmetric_difference(&answered).next(),
        None,
        "a reference lost or made up"
    );
    assert_eq!(oracle.dead_letters.len(), 0, "dead letters: {:?}", oracle.dead_letters.first());

    let hashes: Vec<_> = samples.iter().map(crate::images::Sample::sha256).collect();
    let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
    for (id, answers) in &oracle.events {
        let image = id.parse::<usize>().unwrap() % samples.len();
        let first = answers[0].json();
        for answer in answers {
            let event = answer.json();
            assert_eq!(event["event_id"], first["event_id"], "two event ids for reference {id}");
            assert_eq!(event["image"]["sha256"], hashes[image], "the image of reference {id}");
            assert_eq!(answer.key.as_deref(), Some(id.as_bytes()), "the key of reference {id}");
            let score = event["score"].as_f64().unwrap();
            let known = *scores.entry(image).or_insert(score);
            assert!((known - score).abs() < 1e-9, "image {image} has scores {known} and {score}");
        }
    }
    scene.assert_everything_is_committed();
    oracle.event_count() - REFERENCES
}

/// Waits until a worker takes in references.
pub(crate) fn wait_until_ready(worker: &crate::process::Process) {
    worker.wait_for_line("\"ready\":true", PATIENCE);
}
