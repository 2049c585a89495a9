//! A run without faults over ten thousand references to fifty images. The runs with faults are in
//! the modules `faults_…`.

use std::time::Instant;

use crate::answer_comparison::{AnswerComparison, Expected};
use crate::service_fixture::ServiceFixture;
use crate::services::{announce, services};

const REFERENCES: usize = 10_000;

#[test]
fn a_clean_run_answers_every_reference_exactly_once() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "clean-run", 3);
    fixture.publish_references(REFERENCES);
    let mut reader = fixture.answer_reader();
    let start = Instant::now();
    let worker = fixture.start_worker("the worker", &[]);
    reader.read_until_answered(REFERENCES, &[&worker]);
    let seconds = start.elapsed().as_secs_f64();
    ServiceFixture::stop(worker);

    let comparison = AnswerComparison::of(&fixture, &mut reader, &Expected::events(REFERENCES));
    assert_eq!(comparison, AnswerComparison::default(), "lost, twice, wrong");
    announce(&format!(
        "clean run: {REFERENCES} references answered in {seconds:.1} s ({:.0}/s), 0 lost, 0 twice",
        REFERENCES as f64 / seconds
    ));
}
