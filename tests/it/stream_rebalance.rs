//! Partitions that come and go, work that piles up, and stops: nothing is lost, and a graceful
//! change repeats nothing.

use std::num::NonZeroUsize;
use std::time::Duration;

use dog_iqa::stream::GroupProtocol;

use crate::stream::{Scene, ids};

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
async fn a_partition_that_is_taken_away_is_finished_first() {
    let mut scene = Scene::new(2).await;
    scene.settings.revoke_timeout = Duration::from_secs(30);
    let first = scene.start().await;
    scene.refer("slow", 20, "gated/a.png").await;
    scene.gates.until_inside(20).await;
    // The second worker's share has work in flight at the first: it has to wait for its end.
    let second = scene.start().await;
    scene.refer("more", 20, "gated/a.png").await;
    hear_of_a_change().await;
    scene.gates.open();
    assert_eq!(ids(&scene.events(40).await).len(), 40, "nothing is answered twice");
    let (first, second) = (first.stop().await, second.stop().await);
    assert_eq!(first.events + second.events, 40);
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_not_finished_in_time_is_repeated_by_the_new_owner() {
    let mut scene = Scene::new(2).await;
    scene.settings.revoke_timeout = Duration::from_millis(100);
    let first = scene.start().await;
    scene.refer("slow", 20, "gated/a.png").await;
    scene.gates.until_inside(20).await;
    let second = scene.start().await;
    // The first worker keeps one partition and what is in flight there; the second one begins the
    // other partition anew.
    hear_of_a_change().await;
    scene.gates.until_entered(21).await;
    scene.gates.open();
    let events = scene.events(20).await;
    assert_eq!(ids(&events).len(), 20, "what the first worker gave up it does not publish");
    let (first, second) = (first.stop().await, second.stop().await);
    assert_eq!(first.events + second.events, 20);
    assert!(first.received + second.received > 20, "a part was taken in twice");
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_group_hands_over_as_well() {
    let mut scene = Scene::new(2).await;
    scene.settings.group_protocol = GroupProtocol::Classic;
    // The double waits almost as long for members that may come.
    scene.settings.session_timeout = Duration::from_secs(3);
    let first = scene.start().await;
    scene.refer("alone", 50, "a.png").await;
    scene.events(50).await;
    let second = scene.start().await;
    scene.refer("joining", 100, "a.png").await;
    scene.events(150).await;
    // A member that leaves while the double still arranges the group is told nothing any more, and its stop
    // ends at its deadline only: two rounds of a session each have to be over.
    tokio::time::sleep(3 * scene.settings.session_timeout).await;
    let first = first.stop().await;
    assert!(first.is_committed);
    scene.refer("left", 50, "a.png").await;
    assert_eq!(ids(&scene.events(200).await).len(), 200);
    let second = second.stop().await;
    assert_eq!(first.events + second.events, 200);
    assert!(scene.offsets().await.iter().all(|(committed, end)| committed == end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_waits_in_the_topic() {
    let mut scene = Scene::new(3).await;
    scene.settings.in_flight_max = NonZeroUsize::new(8).unwrap();
    let worker = scene.start().await;
    scene.refer("waiting", 1000, "gated/a.png").await;
    scene.gates.until_inside(8).await;
    // Longer than the grace: the partitions are paused by now.
    scene.until_offsets(|offsets| offsets.iter().map(|(_, end)| end).sum::<i64>() == 1000).await;
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

/// The broker double tells members of a change with their next heartbeat, which they send every
/// three seconds. Nothing shows that it did, but for what a test then finds.
async fn hear_of_a_change() {
    tokio::time::sleep(Duration::from_secs(4)).await;
}
