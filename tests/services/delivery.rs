//! Nothing is lost on a clean run: ten thousand references to fifty images. What faults do to it is in `faults/`.

use std::time::Instant;

use crate::judgement::{Expected, Judgement};
use crate::scene::Scene;
use crate::services::{announce, services};

const REFERENCES: usize = 10_000;

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
    Scene::stop(worker);

    let judgement = Judgement::of(&scene, &mut oracle, &Expected::events(REFERENCES));
    assert_eq!(judgement, Judgement::default(), "lost, twice, wrong");
    announce(&format!(
        "clean run: {REFERENCES} references answered in {seconds:.1} s ({:.0}/s), 0 lost, 0 twice",
        REFERENCES as f64 / seconds
    ));
}
