//! The page of `dogiqa monitor` on a real socket, with events as they are on the wire.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dog_iqa::evaluation::{EnginePairs, ScoreValue};
use dog_iqa::event::QualityEvent;
use dog_iqa::imaging;
use dog_iqa::monitor::{
    Aggregator, Board, Connection, Filter, Interruption, Lag, PageServer, Settings,
};
use dog_iqa::storage::{self, Stores};
use proptest::prelude::*;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const EXAMPLE: &str = include_str!("../../schemas/examples/quality-event.json");
const LIMIT: Duration = Duration::from_secs(30);

/// A page on a free port, and the folder that its thumbnails may be read from.
struct Page {
    board: Arc<Board>,
    origin: String,
    client: Client,
    folder: TempDir,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Page {
    async fn open(settings: Settings) -> Self {
        Self::open_with(settings, imaging::Settings::default(), Connection::default()).await
    }

    async fn open_with_shadow(settings: Settings) -> Self {
        let shadow_topic = Some("image-quality-shadow".to_owned());
        let connection = Connection { shadow_topic, ..Connection::default() };
        Self::open_with(settings, imaging::Settings::default(), connection).await
    }

    async fn open_with(
        mut settings: Settings,
        imaging: imaging::Settings,
        connection: Connection,
    ) -> Self {
        settings.listen.set_port(0);
        let folder = TempDir::new().unwrap();
        let roots = vec![folder.path().canonicalize().unwrap()];
        let storage = storage::Settings { file_roots: roots, ..storage::Settings::default() };
        let stores = Stores::new(&storage).unwrap();
        let board = Arc::new(Board::new(&settings, connection));
        let stop = CancellationToken::new();
        let server = PageServer::bind(Arc::clone(&board), stores, imaging, stop.clone());
        let server = server.await.unwrap();
        let origin = format!("http://{}", server.address());
        let served = tokio::spawn(server.serve());
        let client = Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        Self { board, origin, client, folder, stop, served }
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.origin)).send().await.unwrap()
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let response = self.get(path).await;
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn state(&self, query: &str) -> Value {
        let (status, text) = self.text(&format!("/api/state?{query}")).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    fn add(&self, event: &Value, at_ms: Option<i64>) {
        self.board.add_event(event.to_string().as_bytes(), at_ms);
    }

    /// Writes a file and adds an event that rejects it. Returns the number of the rejected image.
    async fn reject(&self, name: &str, bytes: &[u8]) -> u64 {
        let path = self.folder.path().canonicalize().unwrap().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut event = event("shop", "reject", 2.0);
        event["reference"]["uri"] = json!(format!("file://{}", path.display()));
        event["image"]["sha256"] = json!(hex::encode(Sha256::digest(bytes)));
        self.reject_event(&event).await
    }

    async fn reject_event(&self, event: &Value) -> u64 {
        self.add(event, None);
        // A snapshot serves all requests within half a second, except those with another filter.
        let id = event["reference"]["id"].as_str().unwrap();
        let policy = event["verdict"]["policy"].as_str().unwrap();
        let number = || async {
            let state = self.state(&format!("policy={policy}")).await;
            let rejected = state["rejected"].as_array().unwrap().clone();
            rejected.iter().find(|card| card["id"] == id).map(|card| card["number"].clone())
        };
        let mut found = None;
        let is_found = crate::wait::until_async(
            async || {
                found = number().await;
                found.is_some()
            },
            LIMIT,
        );
        assert!(is_found.await, "{id} is among the rejected images");
        found.unwrap().as_u64().unwrap()
    }
}

/// Returns the example of the contract with this verdict, without its reasons.
fn event(policy: &str, outcome: &str, score: f64) -> Value {
    let mut event: Value = serde_json::from_str(EXAMPLE).unwrap();
    event.as_object_mut().unwrap().remove("reasons").expect("the example has reasons");
    event["score"] = json!(score);
    event["verdict"] = json!({"policy": policy, "outcome": outcome, "reasons": ["too low"]});
    event["reference"]["id"] = json!(format!("{policy}-{outcome}-{}", fastrand::u64(..)));
    event
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn photo() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photos");
    let mut photos: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|it| it.unwrap().path()).collect();
    photos.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    photos.sort();
    std::fs::read(&photos[0]).unwrap()
}

#[tokio::test]
async fn events_are_counted_by_policy_and_metadata() {
    let metadata = vec!["market".to_owned()];
    let page = Page::open(Settings { metadata, ..Settings::default() }).await;
    for (policy, outcome, market, reasons) in [
        ("shop", "pass", json!("de"), json!([])),
        ("shop", "reject", json!("de"), json!([{"code": "blurred", "strength": 0.8}])),
        ("shop", "review", json!("fr"), json!([{"code": "blurred"}, {"code": "blurred"}])),
        ("gallery", "pass", json!(7), Value::Null),
        ("gallery", "reject", json!({"nested": 1}), json!([{"code": "noisy", "scope": 3}])),
    ] {
        let mut event = event(policy, outcome, 4.0);
        event["reference"]["metadata"] = json!({"market": market, "other": "x"});
        event["reasons"] = reasons;
        page.add(&event, None);
    }
    let mut without_verdict = event("shop", "pass", 5.0);
    without_verdict.as_object_mut().unwrap().remove("verdict");
    page.add(&without_verdict, None);
    page.board.add_event(b"{}", None);
    for code in ["fetch.not_found", "decode.empty", "fetch.not_found"] {
        page.board.add_dead_letter(code, None);
    }
    let all = page.state("").await;
    assert_eq!(
        (&all["events"], &all["foreign"], &all["dead_letters"]),
        (&json!(6), &json!(1), &json!(3))
    );
    let verdicts: BTreeMap<_, _> = all["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["policy"].as_str().unwrap(),
                ["pass", "review", "reject", "none"].map(|name| row[name].as_u64().unwrap()),
            )
        })
        .collect();
    assert_eq!(verdicts["shop"], [1, 1, 1, 0]);
    assert_eq!(verdicts["gallery"], [1, 0, 1, 0]);
    assert_eq!(verdicts["(none)"], [0, 0, 0, 1]);
    assert_eq!(
        all["reasons"],
        json!([{"code": "blurred", "count": 2}, {"code": "noisy", "count": 1}])
    );
    assert_eq!(all["with_reasons"], 4);
    assert_eq!(all["dead_letter_codes"][0], json!({"code": "fetch.not_found", "count": 2}));
    assert_eq!(all["policies"], json!(["(none)", "gallery", "shop"]));
    assert_eq!(all["metadata"], json!([{"name": "market", "values": ["(none)", "7", "de", "fr"]}]));

    let filtered = page.state("policy=shop&metadata.market=de").await;
    assert_eq!((&filtered["events"], &filtered["events_unfiltered"]), (&json!(2), &json!(6)));
    assert_eq!(filtered["rejected"].as_array().unwrap().len(), 1);
    assert_eq!(filtered["dead_letters"], 3, "dead letters have no policy");
    assert_eq!(page.state("metadata.market=7").await["events"], 1);
    assert_eq!(page.state("policy=unknown").await["events"], 0);
    assert_eq!(page.state("policy=").await["events"], 6);
    for (query, part) in
        [("verdict=a", "unknown parameter `verdict`"), ("metadata.shop=a", "monitor.metadata")]
    {
        let (status, text) = page.text(&format!("/api/state?{query}")).await;
        assert_eq!(status, 400);
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_change_of_the_scores_alerts_once_both_windows_have_enough_events() {
    let settings = Settings { drift_events_min: 100, ..Settings::default() };
    let page = Page::open(settings.clone()).await;
    let half_an_hour_ago = now_ms() - 30 * 60 * 1000;
    for number in 0..200 {
        page.add(
            &event("shop", "pass", 5.0 + f64::from(number % 10) / 4.0),
            Some(half_an_hour_ago),
        );
    }
    for number in 0..99 {
        page.add(&event("shop", "pass", 5.0 + f64::from(number % 10) / 4.0), None);
    }
    let drift = &page.state("").await["drift"];
    assert_eq!(
        (&drift["state"], &drift["reference_events"]),
        (&json!("too_few_events"), &json!(200))
    );
    assert!(drift["psi"].as_f64().unwrap() < 0.1, "{drift}");
    page.add(&event("shop", "pass", 5.0), None);
    // Another filter, so that the state is computed again.
    assert_eq!(page.state("policy=shop").await["drift"]["state"], "stable");

    let shifted = Page::open(settings).await;
    for number in 0..200 {
        shifted.add(
            &event("shop", "pass", 5.0 + f64::from(number % 10) / 4.0),
            Some(half_an_hour_ago),
        );
        shifted.add(&event("shop", "pass", 4.0 + f64::from(number % 10) / 4.0), None);
    }
    let state = shifted.state("").await;
    assert_eq!(state["drift"]["state"], "drift");
    let mean = |name: &str| state["scores"][name].as_f64().unwrap();
    assert!((mean("reference_mean") - mean("mean") - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_page_receives_one_snapshot_a_second_and_ends_with_the_server() {
    let page = Page::open(Settings::default()).await;
    page.board.set_lag(Ok(Lag {
        at_ms: 1,
        records: 12,
        partitions: vec![5, 7],
        is_committed: true,
    }));
    let started = std::time::Instant::now();
    let mut stream = page.get("/api/events?policy=shop").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = next_snapshot(&mut stream).await.unwrap();
    assert_eq!((&first["events"], &first["kafka"]["lag"]["records"]), (&json!(0), &json!(12)));
    let event = event("shop", "pass", 4.0).to_string();
    for _ in 0..5000 {
        page.board.add_event(event.as_bytes(), None);
    }
    page.board.set_problem(Some("no broker".to_owned()));
    page.board.set_interruption(Interruption { since_ms: 1, until_ms: 2, is_skipped: true });
    let mut snapshots = vec![first];
    let is_current = |snapshot: &Value| {
        snapshot["events"] == 5000 && snapshot["kafka"]["problem"]["text"] == "no broker"
    };
    // Adding may take longer than a second, so that a snapshot has a part of the events.
    while snapshots.len() < 3 || !is_current(&snapshots[snapshots.len() - 1]) {
        assert!(started.elapsed() < LIMIT, "{:?}", snapshots.last());
        snapshots.push(next_snapshot(&mut stream).await.unwrap());
    }
    let seconds = u32::try_from(snapshots.len() - 1).unwrap();
    let elapsed = started.elapsed();
    assert!(elapsed > seconds * Duration::from_millis(990), "{seconds} more in {elapsed:?}");
    assert_eq!(
        snapshots[snapshots.len() - 1]["kafka"]["interruption"],
        json!({"since_ms": 1, "until_ms": 2, "is_skipped": true})
    );
    assert!(snapshots.is_sorted_by_key(|snapshot| snapshot["now_ms"].as_i64()));
    assert_eq!(page.text("/api/events?verdict=shop").await.0, 400);
    page.stop.cancel();
    assert_eq!(next_snapshot(&mut stream).await, None, "the stream ends");
    drop(stream);
    drop(page.client);
    page.served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_delay_the_end() {
    let page = Page::open(Settings::default()).await;
    let address = page.origin.strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET /page.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000);
    // The server reads no more once it cannot write.
    let is_stuck = async {
        while timeout(Duration::from_secs(1), client.write_all(&request)).await.is_ok() {}
    };
    timeout(LIMIT, is_stuck).await.expect("the server stops reading");
    page.stop.cancel();
    timeout(LIMIT, page.served).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn an_open_page_does_not_delay_the_end() {
    let page = Page::open(Settings::default()).await;
    let mut client =
        TcpStream::connect(page.origin.strip_prefix("http://").unwrap()).await.unwrap();
    client.write_all(b"GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("data: ") {
        assert_ne!(client.read_buf(&mut read).await.unwrap(), 0, "the stream ended");
    }
    page.stop.cancel();
    // The client neither reads nor closes its connection.
    timeout(LIMIT, page.served).await.expect("the server ends").unwrap();
    client.read_to_end(&mut read).await.unwrap();
}

/// The clock is paused, so it moves to the time limit as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_header_is_cut() {
    let page = Page::open(Settings::default()).await;
    let address = page.origin.strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /api/state HTTP/1.1\r\nhost: local").await.unwrap();
    let started = tokio::time::Instant::now();
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    assert!(!String::from_utf8_lossy(&read).contains("200 OK"));
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn the_engines_are_compared_over_pairs_that_the_filter_accepts() {
    let metadata = vec!["market".to_owned()];
    let page = Page::open_with_shadow(Settings { metadata, ..Settings::default() }).await;
    let add = |id: &str, market: &str, live: Option<(f64, &str)>, shadow: Option<(f64, &str)>| {
        for (scored, is_shadow) in [(live, false), (shadow, true)] {
            let Some((score, outcome)) = scored else { continue };
            let mut event = event("shop", outcome, score);
            event["reference"]["id"] = json!(id);
            event["reference"]["metadata"] = json!({"market": market});
            if is_shadow {
                event["engine"]["name"] = json!("dog-iqa");
                event["engine"]["weights"] = json!([{"name": "w", "sha256": "0a".repeat(32)}]);
                page.board.add_shadow_event(event.to_string().as_bytes(), None);
            } else {
                page.add(&event, None);
            }
        }
    };
    add("a", "de", Some((4.0, "pass")), Some((5.0, "pass")));
    add("b", "de", Some((5.0, "pass")), Some((6.5, "reject")));
    add("c", "fr", Some((6.0, "review")), Some((6.0, "review")));
    add("d", "fr", Some((7.0, "pass")), None);
    add("e", "fr", None, Some((1.0, "pass")));
    page.board.add_shadow_event(b"{}", None);
    let state = page.state("").await;
    assert_eq!((&state["events"], &state["foreign"]), (&json!(4), &json!(1)));
    let shadow = &state["shadow"];
    assert_eq!(shadow["events"], 4);
    assert_eq!(
        shadow["engine"],
        json!({
            "name": "dog-iqa", "version": "0.1.0", "segmenter": "felzenszwalb",
            "scorer": "no-reference-measures", "settings": "5f0c19aa", "weights": ["0a0a0a0a0a0a"],
        })
    );
    assert_eq!(
        (&shadow["live_engine"]["name"], &shadow["is_mixed"]),
        (&json!("classic"), &json!(false))
    );
    assert_eq!(shadow["mean"], 18.5 / 4.0);
    assert!(shadow["psi"].as_f64().unwrap() > 0.1, "{shadow}");
    let scores = shadow["scores"].as_array().unwrap();
    assert_eq!((scores.len(), &scores[4], &scores[26]), (80, &json!(1), &json!(1)));
    let mut pairs = shadow["pairs"].clone();
    let srcc = pairs.as_object_mut().unwrap().remove("srcc").unwrap();
    // 1 − 6 · (1 + 1) / (3 · 8)
    assert!((srcc.as_f64().unwrap() - 0.5).abs() < 1e-12, "{srcc}");
    assert_eq!(
        pairs,
        json!({
            "pairs": 3, "is_limited": false, "mean_difference": 2.5 / 3.0,
            "mean_absolute_difference": 2.5 / 3.0, "verdicts": 3, "changed_verdicts": 1,
        })
    );
    let of_market = page.state("metadata.market=de").await["shadow"].clone();
    assert_eq!((&of_market["events"], &of_market["pairs"]["pairs"]), (&json!(2), &json!(2)));
    assert_eq!(of_market["pairs"]["changed_verdicts"], 1);
    assert_eq!(page.state("policy=other").await["shadow"]["pairs"]["srcc"], Value::Null);
}

#[tokio::test]
async fn without_a_shadow_topic_there_is_no_comparison() {
    let page = Page::open(Settings::default()).await;
    page.board.add_shadow_event(EXAMPLE.as_bytes(), None);
    let state = page.state("").await;
    assert_eq!((&state["shadow"], &state["events"]), (&Value::Null, &json!(0)));
}

/// `dogiqa evaluate --engines` compares the same events in files.
#[test]
fn the_comparison_equals_that_of_evaluate() {
    let mut random = fastrand::Rng::with_seed(7);
    let events = |random: &mut fastrand::Rng| -> Vec<Value> {
        let event = |number: u32| {
            let outcome = OUTCOMES[random.usize(..3)];
            let mut event = event("shop", outcome, f64::from(random.u32(8..64)) / 8.0);
            event["reference"]["id"] = json!(format!("upload-{number}"));
            event
        };
        (0..100).map(event).collect()
    };
    let (live, shadow) = (events(&mut random), events(&mut random));
    let mut aggregator = Aggregator::new(&Settings::default()).with_shadow();
    for event in &live {
        aggregator.add_event(event.to_string().as_bytes(), NOW_MS, NOW_MS).unwrap();
    }
    for event in &shadow[20..] {
        aggregator.add_shadow_event(event.to_string().as_bytes(), NOW_MS, NOW_MS).unwrap();
    }
    let state = aggregator.snapshot(&Filter::default(), NOW_MS).to_json();
    let state: Value = serde_json::from_str(&state).unwrap();
    let read = |events: &[Value]| -> Vec<QualityEvent> {
        events.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect()
    };
    let expected = EnginePairs::of(&read(&live), &read(&shadow[20..]), ScoreValue::Score).unwrap();
    let pairs = &state["shadow"]["pairs"];
    assert_eq!((&pairs["pairs"], &pairs["verdicts"]), (&json!(80), &json!(expected.verdicts)));
    let close = |name: &str, expected: f64| {
        assert!((pairs[name].as_f64().unwrap() - expected).abs() < 1e-12, "{name}: {pairs}");
    };
    close("srcc", expected.srcc);
    close("mean_difference", expected.mean_difference);
    let changed = expected.changed_verdicts_share.unwrap() * expected.verdicts as f64;
    close("changed_verdicts", changed);
}

#[test]
fn a_change_of_the_shadow_engine_is_reported_while_the_window_has_both() {
    let mut aggregator = Aggregator::new(&Settings::default()).with_shadow();
    let add = |aggregator: &mut Aggregator, name: &str, at_ms: i64| {
        let mut event = event("shop", "pass", 4.0);
        event["engine"]["name"] = json!(name);
        aggregator.add_shadow_event(event.to_string().as_bytes(), at_ms, at_ms).unwrap();
        let state = aggregator.snapshot(&Filter::default(), at_ms).to_json();
        let state: Value = serde_json::from_str(&state).unwrap();
        let shadow = &state["shadow"];
        (shadow["engine"]["name"].clone(), shadow["is_mixed"].clone(), shadow["events"].clone())
    };
    let minute = 60_000;
    for (name, at_ms, is_mixed, events) in [
        ("one", 0, false, 1),
        ("one", minute, false, 2),
        ("two", 2 * minute, true, 3),
        ("two", 7 * minute, false, 1),
    ] {
        let found = add(&mut aggregator, name, NOW_MS + at_ms);
        assert_eq!(found, (json!(name), json!(is_mixed), json!(events)), "after {at_ms} ms");
    }
}

/// Reads the next event of a stream; `None` at its end.
async fn next_snapshot(stream: &mut Response) -> Option<Value> {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let chunk = stream.chunk().await.unwrap()?;
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    Some(serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap())
}

#[tokio::test]
async fn a_thumbnail_is_a_small_jpeg_of_an_allowed_and_unchanged_image() {
    let page = Page::open(Settings { thumbnail_side_px: 64, ..Settings::default() }).await;
    let photo = photo();
    let number = page.reject("photo.jpg", &photo).await;
    let path = format!("/api/thumbnail/{number}");
    let response = page.get(&path).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"image/jpeg".parse().unwrap())
    );
    let jpeg = response.bytes().await.unwrap();
    let picture = imaging::decode(&jpeg, &imaging::Settings::default()).unwrap();
    assert_eq!(picture.width().max(picture.height()), 64);
    // It is kept: the store is not asked again.
    std::fs::remove_file(page.folder.path().join("photo.jpg")).unwrap();
    assert_eq!(page.get(&path).await.bytes().await.unwrap(), jpeg);

    let outlines: Value =
        serde_json::from_str(&page.text(&format!("/api/outlines/{number}")).await.1).unwrap();
    assert_eq!(outlines["regions"].as_array().unwrap().len(), 2);

    let mut replaced = event("replaced", "reject", 2.0);
    std::fs::write(page.folder.path().join("other.jpg"), &photo).unwrap();
    let root = page.folder.path().canonicalize().unwrap();
    replaced["reference"]["uri"] = json!(format!("file://{}/other.jpg", root.display()));
    let forbidden = |uri: &str, policy: &str| {
        let mut event = event(policy, "reject", 2.0);
        event["reference"]["uri"] = json!(uri);
        event
    };
    let text = page.reject("text.txt", b"not an image").await;
    let numbers = [
        (page.reject_event(&replaced).await, 409, "fetch.sha256_mismatch: "),
        (
            page.reject_event(&forbidden("s3://secret/a.jpg", "bucket")).await,
            403,
            "uri.forbidden_bucket: ",
        ),
        (page.reject_event(&forbidden("http://169.254.169.254/latest", "host")).await, 403, "uri."),
        (page.reject_event(&forbidden("file:///etc/passwd", "file")).await, 403, "uri."),
        (text, 422, "decode.unsupported_format: "),
        (999, 404, "no longer among the latest"),
    ];
    for (number, status, part) in numbers {
        let (found, text) = page.text(&format!("/api/thumbnail/{number}")).await;
        assert_eq!(found, status, "{text}");
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("root:"), "{text}");
    }
    assert_eq!(page.text("/api/thumbnail/..%2f..%2fetc").await.0, 400);
    assert_eq!(page.text("/api/outlines/999").await.0, 404);
}

#[tokio::test]
async fn an_image_above_the_pixel_limit_is_not_decoded() {
    let imaging = imaging::Settings { pixels_max: 100, ..imaging::Settings::default() };
    let page = Page::open_with(Settings::default(), imaging, Connection::default()).await;
    let number = page.reject("large.jpg", &photo()).await;
    let (status, text) = page.text(&format!("/api/thumbnail/{number}")).await;
    assert_eq!(status, 422);
    assert!(text.starts_with("decode.too_large: "), "{text}");
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_other_hosts_are_refused() {
    let page = Page::open(Settings::default()).await;
    let mut texts = String::new();
    for path in ["/", "/page.css", "/page.js", "/icon.svg", "/healthz", "/api/state", "/absent"] {
        let response = page.get(path).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["cache-control"], "no-store");
        texts += &response.text().await.unwrap();
    }
    // The name of SVG's elements is not loaded.
    texts = texts.replace("http://www.w3.org/2000/svg", "");
    for banned in [
        "http://",
        "https://",
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        " onclick",
        " onerror=",
        " style=",
        "<style",
        "javascript:",
    ] {
        assert!(!texts.contains(banned), "`{banned}`");
    }
    for (host, status) in
        [("example.com", 421), ("localhost:1", 200), ("[::1]", 200), ("127.0.0.1.example.com", 421)]
    {
        let request = page.client.get(format!("{}/api/state", page.origin)).header("host", host);
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn text_of_events_stays_text() {
    let page = Page::open(Settings::default()).await;
    let hostile = "<img src=x onerror=alert(1)>\u{1b}[2J";
    let mut event = event(hostile, "reject", 3.0);
    event["reference"]["id"] = json!(hostile);
    event["reference"]["uri"] = json!("https://user:hunter2@host/a.jpg?X-Amz-Signature=hunter2");
    event["reasons"] = json!([{"code": hostile, "text": hostile}]);
    page.add(&event, None);
    page.board.add_dead_letter(hostile, None);
    let response = page.get("/api/state").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let text = response.text().await.unwrap();
    assert!(
        !text.contains("hunter2") && !text.contains('\u{1b}') && !text.contains("u001b"),
        "{text}"
    );
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["rejected"][0]["id"], "<img src=x onerror=alert(1)>[2J");
}

#[test]
fn hostile_labels_and_texts_do_not_fill_the_memory() {
    let metadata = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let settings = Settings { metadata, ..Settings::default() };
    let mut aggregator = Aggregator::new(&settings).with_shadow();
    let long = "x".repeat(5000);
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    let objects = format!("\"objects\":{}", json!(vec![&example["objects"][0]; 10]));
    let mut add = |from: u64, to: u64| {
        for number in from..to {
            let at = i64::try_from(1_000_000 + number).unwrap();
            let value = format!("{number}{long}");
            let mut event = event(&value, "reject", 3.0);
            event["reference"]["metadata"] =
                json!({"a": value, "b": number, "c": number % 20, "d": number / 20 % 20});
            event["reasons"] = json!(
                (0..20)
                    .map(|reason| json!({"code": format!("{value}{reason}")}))
                    .collect::<Vec<_>>()
            );
            event["engine"] = json!({
                "name": value, "scorer": value,
                "weights": vec![json!({"name": value, "sha256": value}); 20],
            });
            aggregator.add_shadow_event(event.to_string().as_bytes(), at, at).unwrap();
            event["objects"] = json!([]);
            let payload = event.to_string().replace("\"objects\":[]", &objects);
            aggregator.add_event(payload.as_bytes(), at, at).unwrap();
            aggregator.add_dead_letter(&value, at, at);
        }
        let state = aggregator.snapshot(&Filter::default(), i64::try_from(1_000_000 + to).unwrap());
        serde_json::from_str::<Value>(&state.to_json()).unwrap()
    };
    let first = allocation_counter::measure(|| drop(add(0, 300)));
    assert!(first.bytes_current < 40 << 20, "{} bytes", first.bytes_current);
    let mut state = Value::Null;
    let second = allocation_counter::measure(|| state = add(300, 900));
    let size = i64::try_from(state.to_string().len()).unwrap();
    assert!(second.bytes_current < 20 * size, "{} bytes more", second.bytes_current);
    assert_eq!((&state["events"], &state["dead_letters"]), (&json!(900), &json!(900)));
    assert_eq!(state["verdicts"].as_array().unwrap().len(), 31, "30 policies and the rest");
    let codes = state["dead_letter_codes"].as_array().unwrap();
    assert_eq!(codes.len(), 63);
    assert_eq!(codes[0]["code"], "(other)");
    let total: u64 = codes.iter().map(|code| code["count"].as_u64().unwrap()).sum();
    assert_eq!(total, 900);
    assert!(
        state["metadata"].as_array().unwrap().iter().all(|name| name["values"]
            .as_array()
            .unwrap()
            .len()
            <= 31)
    );
    assert!(state["events_without_series"].as_u64().unwrap() > 0);
    assert!(size < 200_000, "{size} bytes");
}

/// An answer of the property test.
#[derive(Debug, Clone)]
struct Answer {
    /// Seconds before the end.
    age_s: i64,
    policy: usize,
    outcome: usize,
    market: usize,
    score: f64,
    reasons: Vec<usize>,
    is_dead: bool,
}

const POLICIES: [&str; 3] = ["shop", "gallery", "avatar"];
const OUTCOMES: [&str; 3] = ["pass", "review", "reject"];
const MARKETS: [&str; 3] = ["de", "fr", "uk"];
const CODES: [&str; 3] = ["blurred", "noisy", "too_dark"];

fn answer() -> impl Strategy<Value = Answer> {
    let parts = (
        0_i64..900,
        0_usize..3,
        0_usize..3,
        0_usize..3,
        0_u32..90,
        prop::collection::vec(0_usize..3, 0..4),
        prop::bool::weighted(0.2),
    );
    parts.prop_map(|(age_s, policy, outcome, market, score, reasons, is_dead)| Answer {
        age_s,
        policy,
        outcome,
        market,
        score: f64::from(score) / 8.0,
        reasons,
        is_dead,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_snapshot_equals_the_counts_of_a_list(
        answers in prop::collection::vec(answer(), 0..120),
        policy in prop::option::of(0_usize..3),
        market in prop::option::of(0_usize..3),
    ) {
        assert_snapshot_equals_list(&answers, policy, market);
    }
}

/// The time of the snapshot in milliseconds.
const NOW_MS: i64 = 1_000_000_000;

/// Returns the state after these answers, by windows with buckets of a second and of ten seconds.
fn state_after(answers: &[Answer], parameters: &[(String, String)]) -> Value {
    let settings = Settings {
        window: Duration::from_mins(1),
        reference: Duration::from_mins(10),
        metadata: vec!["market".to_owned()],
        rejected: 100.try_into().unwrap(),
        ..Settings::default()
    };
    let mut aggregator = Aggregator::new(&settings);
    for answer in answers {
        let at = NOW_MS - 1000 * answer.age_s;
        if answer.is_dead {
            aggregator.add_dead_letter(CODES[answer.policy], at, NOW_MS);
            continue;
        }
        let codes = answer.reasons.iter().map(|code| json!({"code": CODES[*code]}));
        let metadata = json!({"market": MARKETS[answer.market]});
        let event = json!({
            "score": answer.score,
            "reasons": codes.collect::<Vec<_>>(),
            "reference": {"id": "a", "uri": "s3://b/c", "metadata": metadata},
            "verdict": {"policy": POLICIES[answer.policy], "outcome": OUTCOMES[answer.outcome]},
        });
        aggregator.add_event(event.to_string().as_bytes(), at, NOW_MS).unwrap();
    }
    let filter = Filter::from_parameters(parameters, &settings.metadata).unwrap();
    serde_json::from_str(&aggregator.snapshot(&filter, NOW_MS).to_json()).unwrap()
}

fn assert_snapshot_equals_list(answers: &[Answer], policy: Option<usize>, market: Option<usize>) {
    let parameters: Vec<_> = policy
        .map(|it| ("policy", POLICIES[it]))
        .into_iter()
        .chain(market.map(|it| ("metadata.market", MARKETS[it])))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let state = state_after(answers, &parameters);
    let now = NOW_MS;
    let recent = |it: &&Answer| it.age_s < 60;
    // The reference's last bucket is that of the last second before the window.
    let reference =
        |it: &&Answer| it.age_s >= 60 && (now / 1000 - it.age_s) / 10 > (now / 1000 - 60) / 10 - 60;
    let accepted = |it: &&Answer| {
        !it.is_dead
            && policy.is_none_or(|wanted| wanted == it.policy)
            && market.is_none_or(|wanted| wanted == it.market)
    };
    let events: Vec<_> = answers.iter().filter(recent).filter(accepted).collect();
    assert_eq!(&state["events"], &json!(events.len()));
    let in_reference = answers.iter().filter(reference).filter(accepted).count();
    assert_eq!(&state["drift"]["reference_events"], &json!(in_reference));
    let dead = answers.iter().filter(recent).filter(|it| it.is_dead).count();
    assert_eq!(&state["dead_letters"], &json!(dead));
    let rate = state["rate"]["events"].as_array().unwrap();
    let sum: u64 = rate.iter().map(|it| it.as_u64().unwrap()).sum();
    assert_eq!(sum, events.len() as u64);
    for row in state["verdicts"].as_array().unwrap() {
        for (outcome, name) in OUTCOMES.iter().enumerate() {
            let count = events
                .iter()
                .filter(|it| it.outcome == outcome && row["policy"] == POLICIES[it.policy])
                .count();
            assert_eq!(&row[name], &json!(count));
        }
    }
    for (code, name) in CODES.iter().enumerate() {
        let count = events.iter().filter(|it| it.reasons.contains(&code)).count();
        let counted = state["reasons"].as_array().unwrap().iter().find(|row| row["code"] == *name);
        assert_eq!(counted.map_or(0, |row| row["count"].as_u64().unwrap()), count as u64);
    }
    for (bin, count) in state["scores"]["now"].as_array().unwrap().iter().enumerate() {
        let (low, high) = (bin as f64 / 4.0, (bin + 1) as f64 / 4.0);
        let expected = events.iter().filter(|it| low <= it.score && it.score < high).count();
        assert_eq!(count, &json!(expected));
    }
    let rejected = answers
        .iter()
        .filter(|it| recent(it) || reference(it))
        .filter(accepted)
        .filter(|it| it.outcome == 2)
        .count();
    assert_eq!(state["rejected"].as_array().unwrap().len(), rejected.min(100));
}
