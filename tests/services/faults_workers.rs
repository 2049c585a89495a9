//! Workers that die, stop, sleep, come and go.

use std::time::Duration;

use crate::fault_run::FaultRun;
use crate::process::Process;
use crate::service_fixture::{ServiceFixture, WAIT_MAX};

/// Longer than the fixture's session: the group gives the worker up.
const ASLEEP: Duration = Duration::from_secs(10);
/// How often a member joins or leaves in a storm.
const GUST: Duration = Duration::from_secs(2);

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    FaultRun::in_both_modes("kill", "kill -9 of one of three workers", |mut run| {
        run.start(3);
        let kills = run.size.pick(2, 6);
        for kill in 1..=kills {
            run.until(kill, kills + 1);
            run.renew(kill % 3, Process::kill);
        }
        run.end();
    });
}

#[test]
fn a_rolling_restart_answers_nothing_twice() {
    FaultRun::in_both_modes("rolling", "rolling restart (SIGTERM)", |mut run| {
        run.start(3);
        let restarts = run.size.pick(3, 6);
        for restart in 1..=restarts {
            ServiceFixture::wait_until_ready(&run.workers[restart % 3]);
            run.until(restart, restarts + 1);
            run.renew(restart % 3, ServiceFixture::stop);
        }
        let comparison = run.end();
        assert_eq!(comparison.twice, 0, "a graceful stop leaves nothing to repeat");
    });
}

#[test]
fn a_worker_that_slept_through_its_session_commits_nothing() {
    FaultRun::in_both_modes("sleep", "SIGSTOP for 10 s, session of 6 s", |mut run| {
        run.start(3);
        let sleeps = run.size.pick(1, 3);
        for sleep in 1..=sleeps {
            run.until(sleep, sleeps + 1);
            run.workers[sleep % 3].signal("STOP");
            run.pass(ASLEEP);
            run.workers[sleep % 3].signal("CONT");
            run.faults += 1;
        }
        run.end();
    });
}

#[test]
fn members_that_come_and_go_every_two_seconds_lose_nothing() {
    FaultRun::in_both_modes("storm", "a member joins or leaves every 2 s", |mut run| {
        run.start(2);
        run.until(1, 20);
        for _ in 0..run.size.pick(2, 8) {
            let guest = run.launch(2);
            run.pass(GUST);
            guest.terminate();
            run.pass(GUST);
            guest.wait_for_success(WAIT_MAX);
            run.faults += 2;
        }
        run.end();
    });
}
