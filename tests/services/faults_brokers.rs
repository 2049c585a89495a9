//! Brokers that die and return, one or all, and one that is slow.

use std::time::Duration;

use crate::trial::Trial;

const CLIENT: &str = "a-throttled-worker";

#[test]
fn a_leader_that_dies_and_returns_loses_nothing() {
    Trial::in_both_modes(
        "leader",
        "kill -9 of a partition leader's broker, its return",
        |mut trial| {
            trial.start(3);
            let deaths = trial.extent.pick(1, 3);
            for death in 1..=deaths {
                trial.until(2 * death - 1, 2 * deaths + 1);
                let leader = trial.scene.leader_of_events();
                trial.cluster.kill(&[leader]);
                trial.until(2 * death, 2 * deaths + 1);
                trial.cluster.revive(&[leader]);
                trial.faults += 1;
            }
            trial.end();
        },
    );
}

#[test]
fn all_brokers_may_be_away() {
    Trial::in_both_modes("dark", "all brokers away", |mut trial| {
        trial.title = trial.extent.pick("all brokers away for 10 s", "all brokers away for 60 s");
        trial.start(3);
        trial.until(1, 3);
        trial.cluster.kill(&[1, 2, 3]);
        trial.pass(Duration::from_secs(trial.extent.pick(10, 60)));
        trial.cluster.revive(&[1, 2, 3]);
        trial.faults += 1;
        trial.end();
    });
}

#[test]
fn brokers_that_take_answers_slowly_hold_the_worker_back() {
    Trial::in_both_modes(
        "slow",
        "slow downstream: producer quota, queue of 20 records",
        |mut trial| {
            // What all answers take on the wire, in twenty seconds more or less; a third to each broker.
            let bytes = u32::try_from(trial.extent.references).unwrap() * 2_400 / 20 / 3;
            trial.cluster.throttle(CLIENT, bytes);
            trial.set(format!("kafka.client_id={CLIENT}"));
            trial.set("kafka.properties.queue_buffering_max_messages=20");
            trial.start(1);
            trial.faults += 1;
            trial.end();
        },
    );
}
