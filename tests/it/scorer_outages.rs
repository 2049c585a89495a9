//! The scoring server goes away and returns: nothing is lost, nothing is rated wrong, and no
//! reference becomes a dead letter for a fault of the server.

use std::io::Cursor;
use std::sync::Arc;

use dog_iqa::cache::{self, AnswerCache};
use dog_iqa::engine::{Engine, HttpSettings, Scorers};
use dog_iqa::stream::DeliveryMode;
use image::ImageFormat;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::clip::clip;
use crate::scoring_server::{
    ScoringServer, completion, engine, engine_of, error, grey, level, settings_for,
};
use crate::stream::{Running, Scene, header, ids, until};
use crate::web_server::Answer;

/// Brightnesses of the pictures in the store.
const BRIGHTNESSES: [u8; 8] = [5, 45, 80, 120, 150, 190, 230, 250];

/// Returns a scene whose engine rates on a server, and whose store has a picture of each
/// brightness.
async fn scene(http: HttpSettings) -> Scene {
    scene_of(move || engine(http)).await
}

async fn scene_of(engine: impl FnOnce() -> Engine + Send + 'static) -> Scene {
    let mut scene = Scene::with_engine(1, engine).await;
    for brightness in BRIGHTNESSES {
        let mut png = Cursor::new(Vec::new());
        grey(brightness).write_to(&mut png, ImageFormat::Png).unwrap();
        scene.objects.push((format!("grey-{brightness}.png"), png.into_inner()));
    }
    scene
}

/// Writes `count` references to pictures of all brightnesses.
async fn refer(scene: &Scene, prefix: &str, count: usize) {
    for number in 0..count {
        let brightness = BRIGHTNESSES[number % BRIGHTNESSES.len()];
        let prefix = format!("{prefix}-{number}-grey");
        scene.refer(&prefix, 1, &format!("grey-{brightness}.png")).await;
    }
}

/// Asserts that there is one event for each reference, with the right level.
async fn assert_answered(scene: &Scene, count: usize) {
    let events = scene.events(count).await;
    assert_eq!(ids(&events).len(), count);
    for event in &events {
        let uri = event["reference"]["uri"].as_str().unwrap();
        let name = uri.rsplit('-').next().unwrap();
        let brightness: u8 = name.strip_suffix(".png").unwrap().parse().unwrap();
        assert_eq!(event["global"]["level"], level(brightness), "{uri}");
    }
}

async fn assert_no_dead_letter(scene: &Scene) {
    assert_eq!(scene.written(&scene.settings.dead_letter_topic).await, 0, "dead letters");
}

async fn until_held(worker: &Running) {
    let is_held = || worker.health.reasons().iter().any(|r| r.code == "server_unavailable");
    until("references are held", is_held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outage_of_the_server_holds_the_references_until_it_returns() {
    for (name, delivery, fault) in [
        ("closed", DeliveryMode::AtLeastOnce, Answer::Reset(Vec::new())),
        ("broken", DeliveryMode::ExactlyOnce, error(500, "out of memory")),
        ("expired", DeliveryMode::AtLeastOnce, error(401, "the key has expired")),
        ("unloaded", DeliveryMode::AtLeastOnce, error(404, "the model does not exist")),
        ("garbled", DeliveryMode::AtLeastOnce, Answer::ok("<html>")),
        ("changed", DeliveryMode::AtLeastOnce, error(400, "logprobs are not supported")),
    ] {
        let server = ScoringServer::start();
        let mut scene = scene(server.settings()).await;
        scene.settings.delivery = delivery;
        let worker = scene.start().await;
        refer(&scene, "before", 8).await;
        assert_answered(&scene, 8).await;
        worker.until_ready().await;
        server.misbehave(move |_| Some(fault.clone()));
        refer(&scene, "during", 24).await;
        until_held(&worker).await;
        assert_no_dead_letter(&scene).await;
        server.behave();
        assert_answered(&scene, 32).await;
        worker.until_ready().await;
        let summary = worker.stop().await;
        assert!(summary.is_committed && summary.dead_letters == 0, "{name}: {summary:?}");
    }
}

/// The level of each is that of the server: alone for the whole image, or with most of the weight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_one_of_several_scorers_holds_the_references_too() {
    let folder = clip("resnet");
    let clip = folder.path().to_str().unwrap();
    for scorers in [
        json!({"global": "http", "objects": clip}),
        json!([{"model": "http", "weight": 0.75}, {"model": clip, "weight": 0.25}]),
    ] {
        let scorers = Scorers::deserialize(scorers).unwrap();
        let server = ScoringServer::start();
        let settings = server.settings();
        let scene = scene_of(move || engine_of(scorers, settings)).await;
        let worker = scene.start().await;
        refer(&scene, "before", 8).await;
        assert_answered(&scene, 8).await;
        worker.until_ready().await;
        server.misbehave(|_| Some(error(503, "out of memory")));
        refer(&scene, "during", 8).await;
        until_held(&worker).await;
        assert_no_dead_letter(&scene).await;
        server.behave();
        assert_answered(&scene, 16).await;
        worker.until_ready().await;
        let summary = worker.stop().await;
        assert!(summary.is_committed && summary.dead_letters == 0, "{summary:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_images_are_answered_while_the_server_is_away() {
    let folder = TempDir::new().unwrap();
    let path = Some(folder.path().join("answers"));
    let cache = AnswerCache::open(&cache::Settings { path, ..cache::Settings::default() });
    let server = ScoringServer::start();
    let mut scene = scene(server.settings()).await;
    scene.cache = cache.unwrap().map(Arc::new);
    let worker = scene.start().await;
    scene.refer("known", 1, "grey-5.png").await;
    assert_eq!(scene.events(1).await.len(), 1);
    server.misbehave(|_| Some(error(500, "out of memory")));
    scene.refer("unknown", 20, "grey-250.png").await;
    until_held(&worker).await;
    scene.refer("again", 3, "grey-5.png").await;
    let answered = scene.events(4).await;
    let cached = answered.iter().filter(|event| event["cached"] == true);
    assert_eq!(cached.count(), 3);
    let is_held = worker.health.reasons().iter().any(|r| r.code == "server_unavailable");
    assert!(is_held, "a cached answer is not the server's");
    server.behave();
    assert_eq!(scene.events(24).await.len(), 24);
    worker.until_ready().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_starts_before_its_server() {
    // Bound but not listening: connections are refused, and no other test has the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/v1", socket.local_addr().unwrap());
    let scene = scene(settings_for(&url)).await;
    let worker = scene.start().await;
    worker.until_ready().await;
    refer(&scene, "early", 16).await;
    until_held(&worker).await;
    assert_no_dead_letter(&scene).await;
    let listener = socket.listen(64).unwrap().into_std().unwrap();
    listener.set_nonblocking(false).unwrap();
    let _server = ScoringServer::start_on(listener);
    assert_answered(&scene, 16).await;
    worker.until_ready().await;
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.dead_letters == 0, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_worker_waits_and_stays_ready() {
    let server = ScoringServer::start();
    let count = std::sync::atomic::AtomicUsize::new(0);
    server.misbehave(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (number % 3 != 2).then(|| Answer::status(429, "Retry-After: 0\r\n", "slower"))
    });
    let scene = scene(server.settings()).await;
    let worker = scene.start().await;
    worker.until_ready().await;
    refer(&scene, "throttled", 24).await;
    assert_answered(&scene, 24).await;
    assert!(worker.health.is_ready());
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.dead_letters == 0, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_the_server_cannot_rate_becomes_a_dead_letter_and_stops_nothing() {
    let server = ScoringServer::start();
    server.misbehave(|brightness| match brightness {
        5 => Some(error(400, "this image is odd")),
        45 => Some(completion("<think>", &Value::Null)),
        80 => Some(error(500, "this image crashes")),
        _ => None,
    });
    let scene = scene(server.settings()).await;
    let worker = scene.start().await;
    worker.until_ready().await;
    refer(&scene, "mixed", 24).await;
    let letters = scene.dead_letters(9).await;
    let mut codes: Vec<_> =
        letters.iter().map(|letter| header(letter, "dogiqa.error.code").unwrap()).collect();
    codes.sort();
    let expected = ["score.no_level", "score.refused", "score.unavailable"];
    assert_eq!(codes, expected.iter().flat_map(|code| [*code; 3]).collect::<Vec<_>>());
    assert_answered(&scene, 15).await;
    worker.until_ready().await;
    let summary = worker.stop().await;
    assert!(summary.is_committed && summary.dead_letters == 9, "{summary:?}");
}
