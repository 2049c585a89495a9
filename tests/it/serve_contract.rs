//! The `OpenAPI` document and the responses: each declared one is sent, each sent one is declared.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::time::Duration;

use dog_iqa::pipeline::Journey;
use dog_iqa::serve;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::noop::{self, Trouble};
use crate::served_api::{Response, ServedApi, assert_described, assert_documented, client, send};
use crate::stream::{PATIENCE, Scene, png};

/// Headers and body of a request.
type Case<'a> = (&'a [(&'a str, &'a str)], Vec<u8>);

const JSON: (&str, &str) = ("content-type", "application/json");

/// Sends a head of this size and with this number of headers to `/v1/score`, and returns the whole
/// response.
async fn send_head(api: &ServedApi, bytes: usize, headers: usize) -> String {
    let start = "POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\
                 connection: close\r\n";
    let more = (4..headers).map(|index| format!("x-{index}: \r\n")).collect::<Vec<_>>().concat();
    let filler = bytes - start.len() - more.len() - "x: \r\n\r\n".len();
    let head = format!("{start}{more}x: {}\r\n\r\n", "a".repeat(filler));
    assert_eq!((head.len(), head.matches(": ").count()), (bytes, headers));
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    // A server that refuses a head may close the connection before it is sent.
    drop(stream.write_all(head.as_bytes()).await);
    let mut response = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut response)).await.unwrap());
    String::from_utf8(response).unwrap()
}

/// Sends a head whose body never arrives, and returns the response.
async fn send_no_body(journey: &Journey) -> Response {
    let api = ServedApi::start(journey, |settings| {
        settings.body_timeout = Duration::from_millis(100);
    })
    .await;
    let never = reqwest::Body::wrap_stream(futures::stream::pending::<Result<Vec<u8>, String>>());
    api.score("", &[], never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_within_its_limits_is_accepted_and_one_above_is_refused_with_431() {
    const KIB: usize = 1 << 10;
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    for (bytes, headers) in [(32 * KIB, 5), (32 * KIB, 100), (2 * KIB, 100)] {
        let response = send_head(&api, bytes, headers).await;
        // The empty body is no image.
        assert!(response.starts_with("HTTP/1.1 422 "), "{bytes} bytes: {response}");
    }
    for (bytes, headers) in [(64 * KIB + 1, 5), (2 * KIB, 101)] {
        let response = send_head(&api, bytes, headers).await;
        assert!(response.starts_with("HTTP/1.1 431 "), "{bytes} bytes: {response}");
        assert!(response.ends_with("\r\n\r\n"), "it has no body: {response}");
    }
    let described = &serve::openapi()["paths"]["/v1/score"]["post"]["responses"]["431"];
    let text = described["description"].as_str().unwrap();
    assert!(text.contains("32 KiB and 100 headers") && text.contains("64 KiB"), "{text}");
    assert!(described.get("content").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_declared_response_is_sent_and_every_sent_one_is_declared() {
    let troubles = [(13, Trouble::Fails)];
    let scene = Scene::with_engine(1, move || noop::engine(&troubles)).await;
    let journey = scene.journey().await;
    let api = ServedApi::start(&journey, |_| {}).await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "shop planted-key-0123456789\n").unwrap();
    let path = file.path().to_owned();
    let with_keys = ServedApi::start(&journey, |settings| {
        settings.api_keys_file = Some(path);
    })
    .await;
    let without_queue = ServedApi::start(&journey, |settings| {
        settings.requests_max = NonZeroUsize::MIN;
        settings.queue_max = 0;
    })
    .await;
    let document = serve::openapi();
    let uri = |object: &str| json!({ "uri": format!("s3://photos/{object}") }).to_string();
    let gated = || uri("gated/a.png").into_bytes();
    let state = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=1"),
    ];
    let cases: Vec<Case<'_>> = vec![
        (&state, png(8, 8)),
        (&[("dogiqa-deadline-ms", "soon")], png(8, 8)),
        (&[JSON], uri("absent.png").into_bytes()),
        (&[], vec![0; 65 << 10]),
        (&[("content-encoding", "gzip")], png(8, 8)),
        (&[("host", "rebound.example")], png(8, 8)),
        (&[], Vec::new()),
        (&[], png(13, 9)),
        (&[JSON], uri("down/a.png").into_bytes()),
        (&[JSON, ("dogiqa-deadline-ms", "50")], gated()),
    ];
    let mut responses: Vec<Response> = Vec::new();
    for (headers, body) in cases {
        responses.push(api.score("", headers, body).await);
    }
    assert_eq!(responses[0].header("tracestate"), "vendor=1");
    responses.push(send_no_body(&journey).await);
    responses.push(with_keys.score("", &[], png(8, 8)).await);
    let held = without_queue.score("", &[JSON, ("dogiqa-deadline-ms", "5000")], gated());
    let refused = async {
        scene.gates.until_inside(1).await;
        let refused = without_queue.score("", &[], png(8, 8)).await;
        scene.gates.open();
        refused
    };
    let (held, refused) = futures::join!(held, refused);
    responses.extend([held, refused]);
    for response in &responses {
        assert_documented(&document, response);
    }
    let mut sent: BTreeSet<_> = responses.iter().map(|response| response.status).collect();
    // This one has no body; another test sends it.
    sent.insert(431);
    let declared = document["paths"]["/v1/score"]["post"]["responses"].as_object().unwrap();
    assert_eq!(sent, declared.keys().map(|status| status.parse().unwrap()).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_the_refusals_of_other_paths_are_declared() {
    let scene = Scene::new(1).await;
    let api = ServedApi::start(&scene.journey().await, |_| {}).await;
    let document = serve::openapi();
    let responses = "/paths/~1v1~1openapi.json/get/responses";
    let public = api.get("/v1/openapi.json").await;
    assert_described(&document, &format!("{responses}/200"), &public);
    let request = client().get(api.url("/v1/openapi.json")).header("host", "rebound.example");
    let foreign = send(request).await.unwrap();
    assert_described(&document, &format!("{responses}/421"), &foreign);
    let absent = api.get("/v2/score").await;
    assert_described(&document, "/components/responses/NotFound", &absent);
    let other_method = api.get("/v1/score").await;
    assert_described(&document, "/components/responses/MethodNotAllowed", &other_method);
    let statuses = [public, foreign, absent, other_method].map(|response| response.status);
    assert_eq!(statuses, [200, 421, 404, 405]);
}
