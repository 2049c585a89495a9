//! Brokers that are killed and restarted, one or all of them, and brokers that accept records
//! slowly.

use std::time::Duration;

use crate::fault_run::FaultRun;

/// Maximum number of log lines of a worker in an outage, however long it is.
const OUTAGE_LINES_MAX: usize = 12;
const CLIENT: &str = "a-throttled-worker";

#[test]
fn a_restarted_partition_leader_loses_no_reference() {
    FaultRun::in_both_modes(
        "leader",
        "kill -9 of a partition leader's broker, its return",
        |mut run| {
            run.start(3);
            let kills = run.size.pick(1, 3);
            for kill in 1..=kills {
                run.read_until_answered(2 * kill - 1, 2 * kills + 1);
                let leader = run.fixture.leader_of_events();
                run.kill_brokers(&[leader]);
                run.read_until_answered(2 * kill, 2 * kills + 1);
                run.revive_brokers(&[leader]);
            }
            run.finish();
        },
    );
}

#[test]
fn an_outage_of_all_brokers_loses_no_reference() {
    FaultRun::in_both_modes("dark", "all brokers away", |mut run| {
        run.title = run.size.pick("all brokers away for 10 s", "all brokers away for 60 s");
        run.start(3);
        run.read_until_answered(1, 3);
        let lines = |run: &FaultRun| -> Vec<usize> {
            run.workers.iter().map(|worker| worker.log().lines().count()).collect()
        };
        let before = lines(&run);
        run.kill_brokers(&[1, 2, 3]);
        run.read_for(Duration::from_secs(run.size.pick(10, 60)));
        for (worker, before) in run.workers.iter().zip(before) {
            let log = worker.log();
            let during: Vec<_> = log.lines().skip(before).collect();
            assert!(during.len() <= OUTAGE_LINES_MAX, "{}", during.join("\n"));
        }
        run.revive_brokers(&[1, 2, 3]);
        run.finish();
    });
}

#[test]
fn a_throttled_producer_loses_no_reference() {
    FaultRun::in_both_modes(
        "slow",
        "slow downstream: producer quota, queue of 20 records",
        |mut run| {
            // About 2,400 bytes per answer, spread over 20 seconds and three brokers.
            let bytes = u32::try_from(run.size.references).unwrap() * 2_400 / 20 / 3;
            run.cluster.throttle(CLIENT, bytes);
            run.set(format!("kafka.client_id={CLIENT}"));
            run.set("kafka.properties.queue_buffering_max_messages=20");
            run.start(1);
            run.faults += 1;
            run.finish();
        },
    );
}
