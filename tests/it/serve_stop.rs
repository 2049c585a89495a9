//! The graceful stop of the HTTP API: every request is answered once, or refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dog_iqa::serve::ServeError;
use futures::future::join_all;

use crate::noop::{self, Trouble};
use crate::served_api::{ServedApi, client, send};
use crate::stream::{Scene, png, until};

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_finished_and_new_ones_are_refused() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let (url, shutdown) = (api.url("/v1/score"), api.shutdown.clone());
    let in_flight = api.refer("gated/a.png");
    let stopping = async {
        scene.gates.until_inside(1).await;
        shutdown.cancel();
        let refused = loop {
            // The server notices the stop a moment later.
            let response = send(client().post(&url).body(png(8, 8))).await.unwrap();
            if response.status != 200 {
                break response;
            }
        };
        scene.gates.open();
        refused
    };
    let (finished, refused) = futures::join!(in_flight, stopping);
    assert_eq!(finished.status, 200, "{finished:?}");
    assert_eq!((refused.status, refused.code()), (503, "request.stopping"));
    assert_eq!((refused.header("connection"), refused.header("retry-after")), ("close", "1"));
    let address = api.address;
    let summary = api.end().await.unwrap();
    assert!(summary.is_drained && summary.events >= 1, "{summary:?}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_outlasts_the_drain_is_refused_and_not_lost() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |settings| {
        settings.drain_timeout = Duration::from_millis(100);
    })
    .await;
    let shutdown = api.shutdown.clone();
    let (late, ()) = futures::join!(api.refer("gated/a.png"), async {
        scene.gates.until_inside(1).await;
        shutdown.cancel();
    });
    assert_eq!((late.status, late.code()), (503, "request.stopping"));
    assert!(!api.end().await.unwrap().is_drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_each_request_is_answered_once_or_refused() {
    const CLIENTS: usize = 8;
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |settings| settings.queue_max = 2).await;
    let (url, shutdown) = (api.url("/v1/score"), api.shutdown.clone());
    let answered = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let (url, answered) = (url.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            let (mut events, mut refused) = (0, 0);
            // Half of the clients keep their connection.
            let own = if number % 2 == 0 { client() } else { reqwest::Client::new() };
            for sequence in 0.. {
                let id = format!("{number}-{sequence}");
                let request = own.post(format!("{url}?id={id}")).body(png(24, 16));
                match send(request).await {
                    Ok(response) if response.status == 200 => {
                        assert_eq!(response.body["reference"]["id"], id.as_str());
                        events += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(response) => {
                        let code = response.code();
                        assert!(
                            ["request.stopping", "request.queue_full"].contains(&code),
                            "{code}"
                        );
                        refused += 1;
                    }
                    // Nobody listens any more.
                    Err(_) => break,
                }
            }
            (events, refused)
        })
    });
    let clients: Vec<_> = clients.collect();
    until("requests are answered", || answered.load(Ordering::Relaxed) >= 100).await;
    shutdown.cancel();
    let summary = api.end().await.unwrap();
    let counted = join_all(clients).await.into_iter().map(Result::unwrap);
    let (events, refused) = counted.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    assert!(summary.is_drained, "{summary:?}");
    assert_eq!((summary.events, summary.problems), (events, refused), "none lost, none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_engine_ends_the_server() {
    let troubles = [(13, Trouble::LosesDevice)];
    let scene = Scene::with_engine(1, move || noop::engine(&troubles)).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let response = api.score("", &[], png(13, 9)).await;
    assert_eq!((response.status, response.code()), (503, "engine.lost"), "{response:?}");
    assert!(matches!(api.end().await, Err(ServeError::EngineLost)));
}
