//! Latency of the HTTP API at shares of its own capacity, which is measured first in the same run.
//!
//! The engine does nothing and the image is small, so the figures are those of server and pipeline.
//! Arrivals are random and do not wait for earlier responses, as from many clients. A latency
//! begins at the planned arrival, so that the queue is part of it. The client shares the cores.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use dog_iqa::serve::{Server, Settings};
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::Client;
use tokio_util::sync::CancellationToken;

use stream_workload::{journey, png};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/noop.rs"]
mod noop;
#[expect(dead_code, reason = "the benchmarks of the stream use the rest")]
#[path = "support/stream_workload.rs"]
mod stream_workload;

/// Time of each measurement.
const TIME: Duration = Duration::from_secs(5);
/// Clients that send their next request after each response, to find the capacity.
const CLIENTS: usize = 32;
/// Shares of the capacity at which requests arrive. The last one overloads the server.
const SHARES: [f64; 4] = [0.1, 0.5, 0.9, 1.5];

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let settings = Settings { listen, ..Settings::default() };
        let server = Server::bind(settings, &journey(true).await).await.expect("a free port");
        let url = format!("http://{}/v1/score", server.address());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(server.run(shutdown.clone()));

        let capacity = capacity(&url).await;
        println!("capacity: {capacity:.0} requests/s with {CLIENTS} clients");
        println!("of capacity | requests/s |  p50, ms |  p99, ms |   200 |   429 | other");
        let mut sent = 0;
        for share in SHARES {
            let Load { mut latencies, full, other } = load(&url, share * capacity).await;
            latencies.sort();
            let answered = latencies.len();
            let percentile =
                |percent: usize| latencies.get(answered * percent / 100).map_or(0.0, ms);
            sent += answered + full + other;
            println!(
                "{:>9.0} % | {:>10.0} | {:>8.2} | {:>8.2} | {answered:>5} | {full:>5} | {other:>5}",
                100.0 * share,
                share * capacity,
                percentile(50),
                percentile(99)
            );
        }
        shutdown.cancel();
        let summary = served.await.expect("no panic").expect("a graceful end");
        assert!(summary.is_drained && summary.events + summary.problems >= sent as u64);
    });
}

/// The outcome of requests that arrived at a rate.
struct Load {
    /// Latencies of those answered with an event.
    latencies: Vec<Duration>,
    /// Number of those refused because the queue was full.
    full: usize,
    other: usize,
}

fn ms(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn send(client: &Client, url: &str, body: Vec<u8>) -> u16 {
    let response = client.post(url).body(body).send().await.expect("the server answers");
    let status = response.status().as_u16();
    response.bytes().await.expect("a whole response");
    status
}

/// Returns the requests per second of clients that wait for each response.
async fn capacity(url: &str) -> f64 {
    let client = Client::new();
    let end = Instant::now() + TIME;
    let clients = (0..CLIENTS).map(|_| async {
        let mut answered = 0_usize;
        while Instant::now() < end {
            answered += usize::from(send(&client, url, png(120)).await == 200);
        }
        answered
    });
    let answered: usize = join_all(clients).await.into_iter().sum();
    answered as f64 / TIME.as_secs_f64()
}

/// Sends requests at random times with this mean rate, and waits for all responses.
async fn load(url: &str, per_second: f64) -> Load {
    let client = Client::new();
    let started = Instant::now();
    let mut responses = FuturesUnordered::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / per_second);
        if at > TIME {
            break;
        }
        let planned = started + at;
        tokio::time::sleep_until(planned.into()).await;
        let (client, url) = (client.clone(), url.to_owned());
        responses.push(tokio::spawn(async move {
            let status = send(&client, &url, png(120)).await;
            (status, planned.elapsed())
        }));
    }
    let mut load = Load { latencies: Vec::new(), full: 0, other: 0 };
    while let Some(response) = responses.next().await {
        match response.expect("no panic") {
            (200, latency) => load.latencies.push(latency),
            (429, _) => load.full += 1,
            _ => load.other += 1,
        }
    }
    load
}
