//! The HTTP API on real sockets, with the no-op engine: events, refusals, keys, limits.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytesize::ByteSize;
use dog_iqa::method::PolicySettings;
use dog_iqa::pipeline;
use dog_iqa::serve;
use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::noop::{self, Trouble};
use crate::served_api::{ServedApi, assert_documented, until_status};
use crate::stream::{Scene, counter, metrics, png, until};

const JSON: (&str, &str) = ("content-type", "application/json");
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Query, headers and body of a request, and the status and code of its refusal.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_a_reference_get_the_same_event_except_for_its_reference() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let headers = [("x-request-id", "r-1"), ("traceparent", TRACE), ("content-type", "image/png")];
    let uploaded = api.score("?id=cup", &headers, png(24, 16)).await;
    let referred = api.refer("a.png").await;
    let document = serve::openapi();
    for response in [&uploaded, &referred] {
        assert_eq!(response.status, 200, "{response:?}");
        assert_documented(&document, response);
    }
    assert_eq!(uploaded.header("x-request-id"), "r-1");
    let trace = uploaded.header("traceparent");
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && trace != TRACE, "{trace}");
    assert_eq!(uploaded.body["reference"]["id"], "cup");
    let uri = uploaded.body["reference"]["uri"].as_str().unwrap();
    let named = BASE64_URL_SAFE_NO_PAD.decode(uri.strip_prefix("ni:///sha-256;").unwrap()).unwrap();
    assert_eq!(hex::encode(named), uploaded.body["image"]["sha256"].as_str().unwrap());
    let again = api.score("?id=cup", &[], png(24, 16)).await;
    assert_eq!(again.body["event_id"], uploaded.body["event_id"], "it can be recognised");

    let comparable = |body: &Value| {
        let mut body = body.clone();
        for field in ["event_id", "event_time", "reference", "timings_ms"] {
            assert!(body.as_object_mut().unwrap().remove(field).is_some(), "{field}");
        }
        body["image"].as_object_mut().unwrap().remove("etag");
        body
    };
    assert_eq!(comparable(&uploaded.body), comparable(&referred.body));
    assert_eq!(api.get("/v1/openapi.json").await.body, document);
    assert_eq!(api.stop().await.unwrap().events, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_status_and_its_code() {
    let troubles = [(13, Trouble::Fails)];
    let mut scene = Scene::with_engine(1, move || noop::engine(&troubles)).await;
    let strict = PolicySettings { score_min: Some(6.0), ..PolicySettings::default() };
    scene.method.policies.named.insert("strict".to_owned(), strict);
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let document = serve::openapi();
    let mut truncated = png(64, 64);
    truncated.truncate(60);
    let uri = |uri: &str| json!({ "uri": uri }).to_string().into_bytes();
    let large_json =
        json!({ "uri": "s3://photos/a.png", "metadata": { "a": "x".repeat(1 << 20) } });
    let none: &[(&str, &str)] = &[];
    let json: &[(&str, &str)] = &[JSON];
    let cases: Vec<Case<'_>> = vec![
        ("?Policy=strict", none, png(8, 8), 400, "request.invalid_query"),
        ("", &[("dogiqa-deadline-ms", "soon")], png(8, 8), 400, "request.invalid_header"),
        ("?policy=lax", none, png(8, 8), 400, "policy.unknown"),
        ("", json, b"{".to_vec(), 400, "reference.invalid_json"),
        ("", json, b"{\"url\": \"s3://photos/a.png\"}".to_vec(), 400, "reference.missing_uri"),
        ("", json, uri("ftp://photos/a.png"), 400, "uri.unsupported_scheme"),
        ("", json, uri("s3://photos/absent.png"), 404, "fetch.not_found"),
        ("", none, vec![0; 65 << 10], 413, "request.too_large"),
        ("", json, large_json.to_string().into_bytes(), 413, "request.too_large"),
        ("", none, b"<html></html>".to_vec(), 415, "decode.unsupported_format"),
        ("", &[("content-encoding", "gzip")], png(8, 8), 415, "request.unsupported_content"),
        (
            "",
            &[("content-type", "multipart/form-data; boundary=b")],
            png(8, 8),
            415,
            "request.unsupported_content",
        ),
        (
            "",
            &[("content-type", "application/cloudevents+json")],
            b"{\"specversion\": \"2.0\"}".to_vec(),
            400,
            "reference.unsupported_specversion",
        ),
        ("", none, Vec::new(), 422, "decode.empty"),
        ("", none, truncated, 422, "decode.truncated"),
        ("", json, uri("s3://elsewhere/a.png"), 422, "uri.forbidden_bucket"),
        ("", json, uri("http://169.254.169.254/latest/meta-data"), 422, "uri.forbidden_host"),
        ("", json, uri("https://169.254.169.254/latest/meta-data"), 422, "uri.forbidden_host"),
        ("", json, uri("file:///etc/passwd"), 422, "uri.outside_roots"),
        ("", none, png(13, 9), 500, "segment.failed"),
        ("", json, uri("s3://photos/down/a.png"), 503, "fetch.unavailable"),
    ];
    for (query, headers, body, status, code) in cases {
        let response = api.score(query, headers, body).await;
        assert_eq!((response.status, response.code()), (status, code), "{response:?}");
        assert_documented(&document, &response);
        assert_eq!(response.body["request_id"], response.header("x-request-id"));
        let waits = response.headers.contains_key("retry-after");
        assert_eq!(waits, status == 503, "{response:?}");
    }
    let unknown = api.score("?policy=lax", &[], png(8, 8)).await;
    assert!(unknown.body["detail"].as_str().unwrap().contains("known are: strict"), "{unknown:?}");
    let known = api.score("?policy=strict", &[], png(8, 8)).await;
    assert_eq!(known.body["verdict"]["policy"], "strict");
    // The length of a chunked body is not known before it is read.
    let pieces =
        futures::stream::iter([0; 2].map(|byte| Ok::<_, std::io::Error>(vec![byte; 40 << 10])));
    let chunked = api.score("", &[], reqwest::Body::wrap_stream(pieces.boxed())).await;
    assert_eq!((chunked.status, chunked.code()), (413, "request.too_large"));

    let absent = api.get("/v2/score").await;
    assert_eq!((absent.status, absent.code()), (404, "request.not_found"));
    let wrong = api.get("/v1/score").await;
    assert_eq!((wrong.status, wrong.code()), (405, "request.method_not_allowed"));
    assert_eq!(wrong.header("allow"), "POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_current_key_are_answered_and_keys_are_rotated() {
    const OLD: &str = "planted-old-key-0123456789";
    const NEW: &str = "planted-new-key-0123456789";
    let scene = Scene::new(1).await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("# clients\nrotating-shop {OLD}\n")).unwrap();
    let path = file.path().to_owned();
    let change = |settings: &mut serve::Settings| settings.api_keys_file = Some(path);
    let api = ServedApi::start(&scene.journey().await, change).await;
    let ask = async |name: &str, value: &str| api.score("", &[(name, value)], png(8, 8)).await;
    let (bearer_old, bearer_new) = (format!("Bearer {OLD}"), format!("Bearer {NEW}"));
    for (name, value, status) in [
        ("x-other", OLD, 401),
        ("x-api-key", NEW, 401),
        ("authorization", "Bearer ", 401),
        ("authorization", OLD, 401),
        ("x-api-key", OLD, 200),
        ("authorization", &bearer_old, 200),
    ] {
        let response = ask(name, value).await;
        assert_eq!(response.status, status, "{name}: {value}");
        assert_documented(&serve::openapi(), &response);
        if status == 401 {
            assert_eq!(response.code(), "request.unauthorized");
            assert_eq!(response.header("www-authenticate"), "Bearer");
            assert!(!response.body.to_string().contains("planted"), "{response:?}");
        }
    }
    assert_eq!(api.get("/v1/openapi.json").await.status, 200, "the contract is public");
    // Both keys are valid until the clients have changed theirs.
    fs::write(file.path(), format!("rotating-shop {OLD}\nrotating-shop {NEW}\n")).unwrap();
    until_status(200, async || ask("authorization", &bearer_new).await).await;
    assert_eq!(ask("x-api-key", OLD).await.status, 200);
    fs::write(file.path(), format!("rotating-shop {NEW}\n")).unwrap();
    until_status(401, async || ask("x-api-key", OLD).await).await;
    assert!(counter("dogiqa_requests_total{client=\"rotating-shop\",status=\"200\"}") >= 4);
    assert!(!metrics().render().contains("planted"), "no key is in the metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_deadline_ends_the_work_and_frees_its_slot() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |settings| {
        settings.requests_max = NonZeroUsize::MIN;
    })
    .await;
    let body = json!({ "uri": "s3://photos/gated/a.png" }).to_string();
    let response = api.score("", &[JSON, ("dogiqa-deadline-ms", "2000")], body).await;
    assert_eq!((response.status, response.code()), (504, "request.deadline"));
    assert!(response.body["detail"].as_str().unwrap().contains("its 2s"), "{response:?}");
    assert_documented(&serve::openapi(), &response);
    scene.gates.until_entered(1).await;
    assert_eq!(api.refer("a.png").await.status, 200, "the only slot is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_answered_with_429_and_those_in_it_are_answered() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |settings| {
        settings.requests_max = NonZeroUsize::MIN;
        settings.queue_max = 1;
    })
    .await;
    let is_full = AtomicBool::new(false);
    let second = async {
        scene.gates.until_inside(1).await;
        // The only place may be taken by the probe below, until the probe's deadline.
        until_status(200, async || {
            let response = api.refer("gated/a.png").await;
            assert!(response.status == 200 || !is_full.load(Ordering::Acquire), "{response:?}");
            response
        })
        .await
    };
    let too_many = async {
        scene.gates.until_inside(1).await;
        let full = until_status(429, async || {
            let body = json!({ "uri": "s3://photos/gated/a.png" }).to_string();
            api.score("", &[JSON, ("dogiqa-deadline-ms", "300")], body).await
        })
        .await;
        // The second request is in the queue now and must not be refused any more.
        is_full.store(true, Ordering::Release);
        scene.gates.open();
        full
    };
    let (first, second, full) = futures::join!(api.refer("gated/a.png"), second, too_many);
    assert_eq!((first.status, second.status), (200, 200), "{first:?} {second:?}");
    assert_eq!(full.code(), "request.queue_full");
    assert!(full.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_documented(&serve::openapi(), &full);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_frees_its_slot_and_its_work() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |settings| {
        settings.requests_max = NonZeroUsize::MIN;
    })
    .await;
    let body = json!({ "uri": "s3://photos/gated/a.png" }).to_string();
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    scene.gates.until_inside(1).await;
    drop(stream);
    assert_eq!(api.refer("a.png").await.status, 200, "the only slot is free");
    until("the read is dropped", || scene.gates.inside() == 0).await;
    assert!(counter("dogiqa_requests_total{client=\"-\",status=\"disconnected\"}") >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_wait_for_memory_before_they_are_read_and_pass_one_at_a_time() {
    let scene = Scene::new(1).await;
    let settings =
        pipeline::Settings { bytes_budget: ByteSize::b(1), ..pipeline::Settings::default() };
    let api = ServedApi::start(&scene.journey_with(settings).await, |_| {}).await;
    // This client holds the whole budget and never sends the rest of its body.
    let mut slow = TcpStream::connect(api.address).await.unwrap();
    let head = "POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000\r\n\r\n\x01";
    slow.write_all(head.as_bytes()).await.unwrap();
    let blocked = until_status(504, async || {
        api.score("", &[("dogiqa-deadline-ms", "300")], png(8, 8)).await
    })
    .await;
    assert_eq!(blocked.code(), "request.deadline");
    drop(slow);
    let all = join_all((0..10).map(|_| api.score("", &[], png(8, 8)))).await;
    assert!(all.iter().all(|response| response.status == 200), "{all:?}");
}
