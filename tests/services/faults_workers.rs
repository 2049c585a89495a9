//! Workers that are killed, restarted, suspended, added and removed.

use std::time::Duration;

use crate::fault_run::FaultRun;
use crate::process::Process;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};

/// Longer than the fixture's session timeout, so that the group removes the worker.
const SUSPENDED: Duration = Duration::from_secs(10);
/// Time between two changes of the group's membership.
const MEMBERSHIP_CHANGE_INTERVAL: Duration = Duration::from_secs(2);

#[test]
fn a_killed_worker_loses_no_reference() {
    FaultRun::in_both_modes("kill", "kill -9 of one of three workers", |mut run| {
        run.start(3);
        let kills = run.size.pick(2, 6);
        for kill in 1..=kills {
            run.read_until_answered(kill, kills + 1);
            run.restart(kill % 3, Process::kill);
        }
        run.finish();
    });
}

#[test]
fn a_rolling_restart_answers_nothing_twice() {
    FaultRun::in_both_modes("rolling", "rolling restart (SIGTERM)", |mut run| {
        run.start(3);
        let restarts = run.size.pick(3, 6);
        for restart in 1..=restarts {
            ServiceFixture::wait_until_ready(&run.workers[restart % 3]);
            run.read_until_answered(restart, restarts + 1);
            run.restart(restart % 3, ServiceFixture::stop);
        }
        let comparison = run.finish();
        assert_eq!(comparison.twice, 0, "a graceful stop repeats no answer");
    });
}

#[test]
fn a_worker_suspended_past_its_session_timeout_commits_nothing() {
    FaultRun::in_both_modes("sleep", "SIGSTOP for 10 s, session of 6 s", |mut run| {
        run.start(3);
        let suspensions = run.size.pick(1, 3);
        for suspension in 1..=suspensions {
            run.read_until_answered(suspension, suspensions + 1);
            run.workers[suspension % 3].signal("STOP");
            run.read_for(SUSPENDED);
            run.workers[suspension % 3].signal("CONT");
            run.faults += 1;
        }
        run.finish();
    });
}

#[test]
fn a_rebalance_every_two_seconds_loses_no_reference() {
    FaultRun::in_both_modes("storm", "a member joins or leaves every 2 s", |mut run| {
        run.start(2);
        run.read_until_answered(1, 20);
        for _ in 0..run.size.pick(2, 8) {
            let guest = run.launch(2);
            run.read_for(MEMBERSHIP_CHANGE_INTERVAL);
            guest.terminate();
            run.read_for(MEMBERSHIP_CHANGE_INTERVAL);
            guest.wait_for_success(WAIT_MAX);
            run.faults += 2;
        }
        run.finish();
    });
}
