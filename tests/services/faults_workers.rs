//! Workers that die, stop, sleep, come and go.

use std::time::Duration;

use crate::process::Process;
use crate::scene::{PATIENCE, Scene};
use crate::trial::Trial;

/// Longer than the scene's session: the group gives the worker up.
const ASLEEP: Duration = Duration::from_secs(10);
/// How often a member joins or leaves in a storm.
const GUST: Duration = Duration::from_secs(2);

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    Trial::in_both_modes("kill", "kill -9 of one of three workers", |mut trial| {
        trial.start(3);
        let kills = trial.extent.pick(2, 6);
        for kill in 1..=kills {
            trial.until(kill, kills + 1);
            trial.renew(kill % 3, Process::kill);
        }
        trial.end();
    });
}

#[test]
fn a_rolling_restart_answers_nothing_twice() {
    Trial::in_both_modes("rolling", "rolling restart (SIGTERM)", |mut trial| {
        trial.start(3);
        let restarts = trial.extent.pick(3, 6);
        for restart in 1..=restarts {
            Scene::wait_until_ready(&trial.workers[restart % 3]);
            trial.until(restart, restarts + 1);
            trial.renew(restart % 3, Scene::stop);
        }
        let judgement = trial.end();
        assert_eq!(judgement.twice, 0, "a graceful stop leaves nothing to repeat");
    });
}

#[test]
fn a_worker_that_slept_through_its_session_commits_nothing() {
    Trial::in_both_modes("sleep", "SIGSTOP for 10 s, session of 6 s", |mut trial| {
        trial.start(3);
        let sleeps = trial.extent.pick(1, 3);
        for sleep in 1..=sleeps {
            trial.until(sleep, sleeps + 1);
            trial.workers[sleep % 3].signal("STOP");
            trial.pass(ASLEEP);
            trial.workers[sleep % 3].signal("CONT");
            trial.faults += 1;
        }
        trial.end();
    });
}

#[test]
fn members_that_come_and_go_every_two_seconds_lose_nothing() {
    Trial::in_both_modes("storm", "a member joins or leaves every 2 s", |mut trial| {
        trial.start(2);
        trial.until(1, 20);
        for _ in 0..trial.extent.pick(2, 8) {
            let guest = trial.launch(2);
            trial.pass(GUST);
            guest.terminate();
            trial.pass(GUST);
            guest.wait_for_success(PATIENCE);
            trial.faults += 2;
        }
        trial.end();
    });
}
