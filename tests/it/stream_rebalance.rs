//! Rebalances, back-pressure and stops: nothing is lost, and a graceful change repeats nothing.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use dog_iqa::stream::GroupProtocol;

use crate::stream::{PATIENCE, Scene, counter, ids, until};

/// Output topic of the second worker.
const SECOND: &str = "image-quality-second";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_partitions_and_a_graceful_change_repeats_nothing() {
    let scene = Scene::new(3).await;
    let first = scene.start().await;
    scene.refer("alone", 150, "a.png").await;
    scene.events(150).await;
    // References keep coming while the second worker joins and the first one leaves.
    let second = scene.start().await;
    for round in 0..10 {
        scene.refer(&format!("joining-{round}"), 30, "a.png").await;
    }
    scene.events(450).await;
    let first = first.stop().await;
    for round in 0..10 {
        scene.refer(&format!("left-{round}"), 30, "a.png").await;
    }
    assert_eq!(ids(&scene.events(750).await).len(), 750);
    let second = second.stop().await;
    assert_eq!(first.events + second.events, 750);
    assert!(first.is_committed && second.is_committed);
    assert!(second.events >= 300, "the second worker had partitions");
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_finished_first() {
    let mut scene = Scene::new(2).await;
    scene.settings.revoke_timeout = PATIENCE;
    let first = scene.start().await;
    scene.refer("slow", 20, "gated/a.png").await;
    scene.gates.until_inside(20).await;
    // The share of the second worker has records in flight at the first one, which must finish
    // them.
    let second = scene.start_with(scene.with_own_output(SECOND)).await;
    let probes = until_a_revocation_waits(&scene).await;
    scene.gates.open();
    scene.refer("after", 20, "a.png").await;
    let total = 40 + probes;
    let events = scene.events_of(&[&scene.settings.output_topic, SECOND], total).await;
    assert_eq!(ids(&events).len(), total, "nothing is answered twice");
    let (first, second) = (first.stop().await, second.stop().await);
    assert!(second.events > 0, "the second worker got a partition");
    assert_eq!(first.events + second.events, total as u64);
    assert_eq!(first.received + second.received, total as u64, "nothing is repeated");
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_not_finished_in_time_are_repeated_by_the_new_owner() {
    let mut scene = Scene::new(2).await;
    scene.settings.revoke_timeout = Duration::from_millis(100);
    let first = scene.start().await;
    scene.refer("slow", 20, "gated/a.png").await;
    scene.gates.until_inside(20).await;
    let second = scene.start_with(scene.with_own_output(SECOND)).await;
    // The second worker starts the revoked partition again, while the first one keeps the records
    // of its other partition at the gate.
    scene.gates.until_entered(21).await;
    scene.gates.open();
    let events = scene.events_of(&[&scene.settings.output_topic, SECOND], 20).await;
    assert_eq!(ids(&events).len(), 20, "the first worker publishes nothing of the lost partition");
    let (first, second) = (first.stop().await, second.stop().await);
    assert!(second.events > 0, "the second worker got a partition");
    assert_eq!(first.events + second.events, 20);
    assert!(first.received + second.received > 20, "some records were received twice");
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_group_shares_partitions_as_well() {
    let mut scene = Scene::new(2).await;
    scene.settings.group_protocol = GroupProtocol::Classic;
    // The broker double waits almost as long for further members.
    scene.settings.session_timeout = Duration::from_secs(5);
    // It also expels a member that does not rejoin within that time. On a busy machine, hundreds of
    // references in flight take longer to answer.
    scene.settings.in_flight_max = NonZeroUsize::new(16).unwrap();
    let first = scene.start().await;
    scene.refer("alone", 50, "a.png").await;
    scene.events(50).await;
    let second = scene.start_with(scene.with_own_output(SECOND)).await;
    let joining = until_answered_by_second(&scene).await;
    let first = first.stop().await;
    assert!(first.is_committed);
    scene.refer("left", 50, "a.png").await;
    let total = 100 + joining;
    let events = scene.events_of(&[&scene.settings.output_topic, SECOND], total).await;
    assert_eq!(ids(&events).len(), total);
    let second = second.stop().await;
    assert!(second.events > 50, "the second worker answered before the first one left");
    assert_eq!(first.events + second.events, total as u64);
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_waits_in_the_topic() {
    let mut scene = Scene::new(3).await;
    scene.settings.in_flight_max = NonZeroUsize::new(8).unwrap();
    let worker = scene.start().await;
    let pauses = counter("dogiqa_pauses_total");
    scene.refer("waiting", 1000, "gated/a.png").await;
    scene.gates.until_inside(8).await;
    until("the partitions are paused", || counter("dogiqa_pauses_total") > pauses).await;
    scene.gates.open();
    assert_eq!(ids(&scene.events(1000).await).len(), 1000);
    assert_eq!(scene.gates.inside_max(), 8);
    let summary = worker.stop().await;
    assert_eq!((summary.received, summary.events), (1000, 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_window_stops_its_partition_until_the_head_is_answered() {
    let mut scene = Scene::new(1).await;
    scene.settings.window_max = NonZeroUsize::new(16).unwrap();
    let worker = scene.start().await;
    scene.refer("head", 1, "gated/a.png").await;
    scene.refer("behind", 100, "a.png").await;
    assert_eq!(scene.events(15).await.len(), 15, "the window holds no more");
    scene.gates.open();
    assert_eq!(ids(&scene.events(101).await).len(), 101);
    scene.until_offsets(|offsets| offsets == [(101, 101)]).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_what_is_in_flight() {
    let scene = Scene::new(2).await;
    let worker = scene.start().await;
    scene.refer("slow", 30, "gated/a.png").await;
    scene.gates.until_inside(30).await;
    worker.ask_to_stop();
    scene.refer("later", 30, "a.png").await;
    scene.gates.open();
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.unanswered == 0, "{summary:?}");
    assert_eq!(summary.received, summary.events);
    assert!(summary.events >= 30);
    let committed: i64 = scene.offsets().await.iter().map(|(committed, _)| committed).sum();
    assert_eq!(committed, i64::try_from(summary.events).unwrap());
    assert_eq!(scene.events(30).await.len(), usize::try_from(summary.events).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_beyond_its_deadline() {
    let mut scene = Scene::new(1).await;
    scene.refer("good", 10, "a.png").await;
    scene.refer("stuck", 5, "gated/a.png").await;
    scene.settings.drain_timeout = Duration::from_millis(500);
    let worker = scene.start().await;
    scene.events(10).await;
    scene.gates.until_inside(5).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.unanswered, summary.is_committed), (10, 5, true));
    assert_eq!(scene.offsets().await, [(10, 15)]);
    // The next worker repeats exactly what was not answered.
    scene.gates.open();
    let worker = scene.start().await;
    assert_eq!(ids(&scene.events(15).await).len(), 15);
    assert_eq!(worker.stop().await.received, 5);
}

/// Waits until the only worker of a group admits no record although it has room: its polling thread
/// waits for the answers of a revoked partition. Returns the number of references that this took.
async fn until_a_revocation_waits(scene: &Scene) -> usize {
    let mut probes = 0;
    let wait = async {
        // No probe may use up the budget.
        let mut rounds = tokio::time::interval(Duration::from_millis(200));
        loop {
            rounds.tick().await;
            let entered = scene.gates.entered();
            scene.refer(&format!("probe-{probes}"), 1, "gated/a.png").await;
            probes += 1;
            let enters = scene.gates.until_entered(entered + 1);
            if tokio::time::timeout(Duration::from_secs(2), enters).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a revocation waits");
    probes
}

/// Writes references until the second worker has answered one. Returns their number.
async fn until_answered_by_second(scene: &Scene) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut written = 0;
    loop {
        scene.refer(&format!("joining-{written}"), 20, "a.png").await;
        written += 20;
        if scene.written(SECOND).await > 0 {
            return written;
        }
        assert!(Instant::now() < deadline, "the second worker answers nothing");
    }
}
