//! Clients of the HTTP API that leave, are slow, or come from a page on the web.

use std::fs;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::event::ImageReference;
use dog_iqa::pipeline;
use dog_iqa::serve;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::served_api::{ServedApi, assert_documented, until_status};
use crate::stream::{PATIENCE, Scene, counter, png, until};

/// Connects and sends the head of an image of `length` bytes.
async fn upload(api: &ServedApi, headers: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\
         dogiqa-deadline-ms: 900000\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads the first line of a response.
async fn status_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_queue_with_its_body_unread_makes_room() {
    const KEY: &str = "planted-key-of-a-leaver";
    let scene = Scene::new(1).await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("leaving-shop {KEY}\n")).unwrap();
    let path = file.path().to_owned();
    let api = ServedApi::start(&scene.journey().await, |settings| {
        settings.api_keys_file = Some(path);
        settings.requests_max = NonZeroUsize::MIN;
        settings.queue_max = 1;
    })
    .await;
    let ask = async |deadline: &str| {
        let body = json!({ "uri": "s3://photos/gated/a.png" }).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-api-key", KEY),
            ("dogiqa-deadline-ms", deadline),
        ];
        api.score("", &headers, body).await
    };
    let queue = async {
        scene.gates.until_inside(1).await;
        let waiting = loop {
            let mut upload = upload(&api, &format!("x-api-key: {KEY}\r\n"), 2000).await;
            upload.write_all(b"unread").await.unwrap();
            // Otherwise this request was first in the queue, and the upload was refused.
            if ask("200").await.status == 429 {
                break upload;
            }
        };
        drop(waiting);
        // A request waits in the place that is free again, until its deadline.
        until_status(504, || ask("200")).await;
        scene.gates.open();
    };
    let (first, ()) = futures::join!(ask("900000"), queue);
    assert_eq!(first.status, 200, "{first:?}");
    let left = "dogiqa_requests_total{client=\"leaving-shop\",status=\"disconnected\"}";
    until("the disconnect is counted", || counter(left) >= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_on_their_way_leave_memory_for_the_backlog() {
    let scene = Scene::new(1).await;
    // Two images of the largest size, 64 KiB.
    let settings =
        pipeline::Settings { bytes_budget: ByteSize::kib(128), ..pipeline::Settings::default() };
    let journey = scene.journey_with(settings).await;
    let api = ServedApi::start(&journey, |_| {}).await;
    // The server asks for a body once there is memory for it. These never arrive.
    let mut first = upload(&api, "expect: 100-continue\r\n", 64 << 10).await;
    let line = timeout(PATIENCE, status_line(&mut first)).await.unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    let mut second = upload(&api, "expect: 100-continue\r\n", 64 << 10).await;
    timeout(Duration::from_millis(300), status_line(&mut second)).await.unwrap_err();
    let reference = ImageReference::new("s3://photos/a.png".to_owned());
    // Less than the 10 seconds for which a body may be silent.
    let assessed = timeout(Duration::from_secs(8), journey.assess(reference, None)).await;
    assessed.expect("the backlog has its share of the memory").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_policy_is_refused_before_the_body_is_sent() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = "POST /v1/score?policy=lax HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000\r\n\
                expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let line = timeout(PATIENCE, status_line(&mut stream)).await.unwrap();
    assert!(line.starts_with("HTTP/1.1 400"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_on_the_web_cannot_use_the_api_of_this_machine() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let behind_a_proxy = |settings: &mut serve::Settings| settings.allow_anonymous = true;
    let checked_in_front = ServedApi::start(&scene.journey().await, behind_a_proxy).await;
    let document = serve::openapi();
    for (host, status) in [("rebound.example:8080", 421), ("LOCALHOST:1", 200), ("[::1]", 200)] {
        let headers = [("host", host)];
        let response = api.score("", &headers, png(8, 8)).await;
        assert_eq!(response.status, status, "{host}");
        assert_documented(&document, &response);
        if status == 421 {
            assert_eq!(response.code(), "request.foreign_host");
        }
        assert_eq!(checked_in_front.score("", &headers, png(8, 8)).await.status, 200, "{host}");
    }
}
