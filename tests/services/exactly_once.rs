//! Exactly once: a reader of committed records sees each answer once, whatever happens to the workers.

use std::time::{Duration, Instant};

use crate::delivery::{REFERENCES, duplicates_of_a_complete_run, wait_until_ready};
use crate::process::Process;
use crate::scene::Scene;
use crate::services::{announce, services};

/// Longer than the scene's session: the group gives the worker up.
const ASLEEP: Duration = Duration::from_secs(10);

fn start(scene: &Scene, name: &str, id: &str) -> Process {
    let settings = [
        "kafka.delivery=exactly-once".to_owned(),
        format!("kafka.transactional_id={id}"),
        "kafka.commit_interval=200ms".to_owned(),
        "kafka.in_flight_max=2000".to_owned(),
    ];
    scene.start_worker(name, &settings)
}

#[test]
fn a_clean_run_and_a_killed_worker_answer_every_reference_exactly_once() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "exactly-once", 3);
    scene.publish_references(REFERENCES);
    let mut oracle = scene.oracle();
    let began = Instant::now();
    let first = start(&scene, "the killed worker", "one");
    oracle.read_until_answered(REFERENCES / 3, &[&first]);
    first.kill();
    // Under its predecessor's name it ends at once what that has left open.
    let second = start(&scene, "its successor", "one");
    oracle.read_until_answered(REFERENCES, &[&second]);
    scene.stop(second);
    let seconds = began.elapsed().as_secs_f64();
    let duplicates = duplicates_of_a_complete_run(&scene, &mut oracle);
    assert_eq!(duplicates, 0, "events beyond one for each reference");
    announce(&format!(
        "exactly once, kill -9: {REFERENCES} references in {seconds:.1} s, 0 lost, 0 twice"
    ));
}

#[test]
fn a_worker_that_slept_through_its_session_commits_nothing_and_goes_on() {
    let Some(services) = services() else { return };
    let scene = Scene::new(services, "zombie", 3);
    scene.publish_references(REFERENCES);
    let mut oracle = scene.oracle();
    let sleeper = start(&scene, "the sleeper", "sleeper");
    oracle.read_until_answered(REFERENCES / 4, &[&sleeper]);
    sleeper.signal("STOP");
    let other = start(&scene, "the other", "other");
    wait_until_ready(&other);
    std::thread::sleep(ASLEEP);
    sleeper.signal("CONT");
    oracle.read_until_answered(REFERENCES, &[&sleeper, &other]);
    scene.stop(other);
    scene.stop(sleeper);
    let duplicates = duplicates_of_a_complete_run(&scene, &mut oracle);
    assert_eq!(duplicates, 0, "events beyond one for each reference");
    announce(&format!(
        "exactly once, SIGSTOP for {ASLEEP:?}: {REFERENCES} references, 0 lost, 0 twice"
    ));
}
