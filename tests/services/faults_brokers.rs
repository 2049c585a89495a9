//! Brokers that die and return, one or all, and one that is slow.

use std::time::Duration;

use crate::fault_run::FaultRun;

const CLIENT: &str = "a-throttled-worker";

#[test]
fn a_leader_that_dies_and_returns_loses_nothing() {
    FaultRun::in_both_modes(
        "leader",
        "kill -9 of a partition leader's broker, its return",
        |mut run| {
            run.start(3);
            let deaths = run.size.pick(1, 3);
            for death in 1..=deaths {
                run.until(2 * death - 1, 2 * deaths + 1);
                let leader = run.fixture.leader_of_events();
                run.cluster.kill(&[leader]);
                run.until(2 * death, 2 * deaths + 1);
                run.cluster.revive(&[leader]);
                run.faults += 1;
            }
            run.end();
        },
    );
}

#[test]
fn all_brokers_may_be_away() {
    FaultRun::in_both_modes("dark", "all brokers away", |mut run| {
        run.title = run.size.pick("all brokers away for 10 s", "all brokers away for 60 s");
        run.start(3);
        run.until(1, 3);
        run.cluster.kill(&[1, 2, 3]);
        run.pass(Duration::from_secs(run.size.pick(10, 60)));
        run.cluster.revive(&[1, 2, 3]);
        run.faults += 1;
        run.end();
    });
}

#[test]
fn brokers_that_take_answers_slowly_hold_the_worker_back() {
    FaultRun::in_both_modes(
        "slow",
        "slow downstream: producer quota, queue of 20 records",
        |mut run| {
            // What all answers take on the wire, in twenty seconds more or less; a third to each broker.
            let bytes = u32::try_from(run.size.references).unwrap() * 2_400 / 20 / 3;
            run.cluster.throttle(CLIENT, bytes);
            run.set(format!("kafka.client_id={CLIENT}"));
            run.set("kafka.properties.queue_buffering_max_messages=20");
            run.start(1);
            run.faults += 1;
            run.end();
        },
    );
}
