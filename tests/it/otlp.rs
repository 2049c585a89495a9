//! Traces and metrics of a real worker at a collector of the test, decoded from their bytes.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use serde_json::json;
use tempfile::TempDir;

use crate::cli;
use crate::process::Process;
use crate::served_api::{client, send};
use crate::stream::{PATIENCE, Record, Scene, header};
use crate::web_server::{Answer, WebServer, head};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PRODUCER: &str = "b7ad6b7169203331";
/// Header of `telemetry.otlp.headers_file`.
const AUTHORIZATION: Option<&str> = Some("Bearer of-the-test");

/// A field of a message of Protocol Buffers, by its wire type.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(self) -> u64 {
        let Self::Number(number) = self else { panic!("{self:?} is no number") };
        number
    }

    fn bytes(self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("{self:?} has no bytes") };
        bytes
    }

    fn text(self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

/// Returns all fields with this number.
fn fields(message: &[u8], wanted: u64) -> Vec<Field<'_>> {
    let mut rest = message;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)),
            1 => Field::Number(u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap())),
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                Field::Bytes(take(&mut rest, length))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut rest, 4).try_into().unwrap()).into()),
            other => panic!("wire type {other}"),
        };
        if tag >> 3 == wanted {
            found.push(field);
        }
    }
    found
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

/// Returns the messages in a field of each of these messages.
fn inside<'a>(messages: impl IntoIterator<Item = &'a [u8]>, field: u64) -> Vec<&'a [u8]> {
    let fields = messages.into_iter().flat_map(|message| fields(message, field));
    fields.map(Field::bytes).collect()
}

/// Returns the text or the number of an attribute, as text.
fn attribute(attributes: &[&[u8]], key: &str) -> Option<String> {
    let named = |it: &&&[u8]| fields(it, 1)[0].text() == key;
    let value = fields(attributes.iter().find(named)?, 2)[0].bytes();
    let text = fields(value, 1).first().map(|text| text.text());
    text.or_else(|| Some(fields(value, 3).first()?.number().to_string()))
}

#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    is_consumer: bool,
    start: u64,
    end: u64,
    code: Option<String>,
    offset: Option<String>,
    is_error: bool,
}

impl Span {
    fn decode(message: &[u8]) -> Self {
        let hex_of = |field| fields(message, field).first().map(|id| hex::encode(id.bytes()));
        let attributes = inside([message], 9);
        let status = inside([message], 15);
        Self {
            trace: hex_of(1).unwrap(),
            id: hex_of(2).unwrap(),
            parent: hex_of(4).unwrap_or_default(),
            name: fields(message, 5)[0].text(),
            is_consumer: fields(message, 6)[0].number() == 5,
            start: fields(message, 7)[0].number(),
            end: fields(message, 8)[0].number(),
            code: attribute(&attributes, "error.type"),
            offset: attribute(&attributes, "messaging.kafka.offset"),
            is_error: status
                .first()
                .is_some_and(|status| fields(status, 3).first().is_some_and(|it| it.number() == 2)),
        }
    }
}

/// A broker, a folder of images and a collector.
struct Setup {
    scene: Scene,
    folder: TempDir,
}

impl Setup {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let low = |value: u32| value.to_le_bytes()[0];
        let picture = RgbImage::from_fn(96, 64, |x, y| Rgb([low(x * y), low(x), low(y)]));
        picture.save(folder.path().join("a.png")).unwrap();
        std::fs::write(folder.path().join("headers"), "authorization: Bearer of-the-test\n")
            .unwrap();
        Self { scene: Scene::new(1).await, folder }
    }

    fn start(&self, endpoint: &str) -> Process {
        let folder = self.folder.path().to_str().unwrap();
        let bootstrap = self.scene.broker.bootstrap_servers();
        let settings = [
            format!("kafka.bootstrap_servers={bootstrap}"),
            format!("storage.file_roots=[{folder:?}]"),
            "engine.name=classic".to_owned(),
            "pipeline.measures=[\"piqe\"]".to_owned(),
            "telemetry.log.format=json".to_owned(),
            "telemetry.server.address=127.0.0.1:0".to_owned(),
            format!("telemetry.otlp.endpoint={endpoint}"),
            format!("telemetry.otlp.headers_file={folder}/headers"),
            "telemetry.otlp.metrics_interval=1s".to_owned(),
        ];
        let mut command = cli::command(&["run"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        Process::spawn("the worker", &mut command)
    }

    fn record(&self, object: &str, traceparent: Option<&str>) -> Record {
        let uri = url::Url::from_file_path(self.folder.path().join(object)).unwrap();
        let headers = traceparent.map(|it| ("traceparent", Some(it.as_bytes().to_vec())));
        Record {
            partition: Some(0),
            payload: Some(json!({"uri": uri.as_str()}).to_string().into_bytes()),
            headers: headers.into_iter().collect(),
            ..Record::default()
        }
    }
}

/// Returns the bodies that the collector received below a path, with this header.
fn received(collector: &WebServer, path: &str, authorization: Option<&str>) -> Vec<Vec<u8>> {
    let requests = collector.requests().into_iter().filter(|request| request.target == path);
    requests
        .map(|request| {
            assert_eq!(request.header("authorization"), authorization);
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            let mut body = request.body;
            // The server has not read the last byte yet: a zero keeps the lengths right.
            body.push(0);
            body
        })
        .collect()
}

fn spans(collector: &WebServer) -> Vec<Span> {
    spans_of(collector, AUTHORIZATION)
}

fn spans_of(collector: &WebServer, authorization: Option<&str>) -> Vec<Span> {
    let bodies = received(collector, "/v1/traces", authorization);
    let resources = inside(bodies.iter().map(Vec::as_slice), 1);
    for resource in &resources {
        let attributes = inside(inside([*resource], 1), 1);
        assert_eq!(attribute(&attributes, "service.name").unwrap(), "dogiqa");
        let version = attribute(&attributes, "service.version");
        assert_eq!(version.unwrap(), env!("CARGO_PKG_VERSION"));
        assert!(!attribute(&attributes, "service.instance.id").unwrap().is_empty());
    }
    inside(inside(resources, 2), 2).into_iter().map(Span::decode).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_goes_from_the_producers_span_through_every_stage_to_the_answer() {
    let collector = WebServer::start(|_, _| Answer::ok(""));
    let setup = Setup::new().await;
    let parent = |trace: &str, flags: &str| format!("00-{trace}-{PRODUCER}-{flags}");
    let unsampled = TRACE.replace('0', "1");
    setup
        .scene
        .write(vec![
            setup.record("a.png", Some(&parent(TRACE, "01"))),
            setup.record("absent.png", Some(&parent(TRACE, "01"))),
            setup.record("a.png", Some(&parent(&unsampled, "00"))),
            setup.record("a.png", None),
        ])
        .await;
    let worker = setup.start(&collector.url(""));
    let events = setup.scene.read(&[&setup.scene.settings.output_topic], 3).await;
    assert_eq!(setup.scene.dead_letters(1).await.len(), 1);
    worker.terminate();
    let (status, log) = tokio::task::spawn_blocking(|| worker.finish(PATIENCE)).await.unwrap();
    assert!(status.success(), "{log}");
    assert!(!log.contains("of-the-test") && !log.contains("the collector"), "{log}");

    let spans = spans(&collector);
    let children = |of: &Span| -> Vec<Span> {
        spans.iter().filter(|span| span.parent == of.id).cloned().collect()
    };
    let root = |offset: &str| -> Span {
        let is_root = |span: &&Span| span.offset.as_deref() == Some(offset);
        spans.iter().find(is_root).unwrap_or_else(|| panic!("{offset}: {spans:#?}")).clone()
    };
    let scored = root("0");
    assert_eq!((scored.trace.as_str(), scored.parent.as_str()), (TRACE, PRODUCER));
    assert!(scored.is_consumer && !scored.is_error, "{scored:?}");
    let stages = children(&scored);
    let names: BTreeSet<_> = stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(
        names,
        BTreeSet::from(["decode", "fetch", "measure", "publish", "score", "segment"])
    );
    for stage in &stages {
        assert_eq!(stage.trace, TRACE);
        assert!(scored.start <= stage.start && stage.start <= stage.end, "{stage:?}");
        assert!(stage.end <= scored.end && !stage.is_error, "{stage:?} of {scored:?}");
    }
    let sent = events.iter().map(|event| header(event, "traceparent").unwrap());
    let sent: BTreeSet<_> = sent.collect();
    assert!(sent.contains(&format!("00-{TRACE}-{}-01", scored.id)), "{sent:?}");

    let refused = root("1");
    assert_eq!((refused.parent.as_str(), refused.is_error), (PRODUCER, true));
    assert_eq!(refused.code.as_deref(), Some("fetch.not_found"));
    let fetch = children(&refused).into_iter().find(|span| span.name == "fetch").unwrap();
    assert!(fetch.is_error && fetch.code.as_deref() == Some("fetch.not_found"), "{fetch:?}");

    // The producer's decision holds: the trace continues in the answer, but is not exported.
    assert!(spans.iter().all(|span| span.trace != unsampled), "{spans:#?}");
    let continues = |it: &&String| it.contains(&unsampled) && it.ends_with("-00");
    assert!(sent.iter().any(|it| continues(&it)), "{sent:?}");

    let begun = root("3");
    assert!(begun.parent.is_empty() && begun.trace != TRACE, "{begun:?}");
    assert!(sent.contains(&format!("00-{}-{}-01", begun.trace, begun.id)), "{sent:?}");
    check_metrics(&collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_continues_the_trace_of_its_client() {
    let collector = WebServer::start(|_, _| Answer::ok(""));
    let mut keys = tempfile::NamedTempFile::new().unwrap();
    keys.write_all(b"shop planted-api-key-0123456789\n").unwrap();
    let mut command = cli::command(&["serve"]);
    let settings = [
        "engine.name=classic".to_owned(),
        "serve.listen=127.0.0.1:0".to_owned(),
        format!("serve.api_keys_file={}", keys.path().display()),
        "telemetry.log.format=json".to_owned(),
        "telemetry.server.address=127.0.0.1:0".to_owned(),
        format!("telemetry.otlp.endpoint={}", collector.url("")),
    ];
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let server = Process::spawn("the server", &mut command);
    let line = server.wait_for_line("serving POST /v1/score", PATIENCE);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("http://{}", line["address"].as_str().unwrap());
    let parent = format!("00-{TRACE}-{PRODUCER}-01");
    let photo = std::fs::read(cli::photo("cat.jpg")).unwrap();
    let score = client().post(format!("{url}/v1/score")).header("traceparent", &parent);
    // A client without a key does not decide what is exported.
    let refused = send(score.try_clone().unwrap().body(photo.clone())).await.unwrap();
    assert_eq!(refused.status, 401, "{refused:?}");
    let score = score.header("x-api-key", "planted-api-key-0123456789");
    let scored = send(score.body(photo)).await.unwrap();
    assert_eq!(scored.status, 200, "{scored:?}");
    let document = client().get(format!("{url}/v1/openapi.json")).header("traceparent", &parent);
    assert_eq!(send(document).await.unwrap().status, 200);
    server.terminate();
    let (status, log) = tokio::task::spawn_blocking(|| server.finish(PATIENCE)).await.unwrap();
    assert!(status.success(), "{log}");

    let spans = spans_of(&collector, None);
    let requests: Vec<_> = spans.iter().filter(|span| span.parent == PRODUCER).collect();
    let [request] = requests[..] else { panic!("only the score is traced: {spans:#?}") };
    assert_eq!((request.trace.as_str(), request.name.as_str()), (TRACE, "POST /v1/score"));
    assert!(!request.is_error);
    assert_eq!(scored.header("traceparent"), format!("00-{TRACE}-{}-01", request.id));
    let stages = spans.iter().filter(|span| span.parent == request.id);
    let names: BTreeSet<_> = stages.map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["decode", "measure", "score", "segment"]));
}

/// Compares the last export of the metrics, that of the worker's end, with the four answers.
fn check_metrics(collector: &WebServer) {
    let bodies = received(collector, "/v1/metrics", AUTHORIZATION);
    let last = bodies.last().expect("an export of metrics");
    let metrics = inside(inside(inside([last.as_slice()], 1), 2), 2);
    let metric = |name: &str| {
        let found = metrics.iter().find(|metric| fields(metric, 1)[0].text() == name);
        *found.unwrap_or_else(|| panic!("no {name}"))
    };
    let events = inside(inside([metric("dogiqa_events_published_total")], 7), 1);
    assert_eq!(fields(events[0], 6)[0].number(), 3);
    let letters = inside(inside([metric("dogiqa_dead_letters_published_total")], 7), 1);
    assert_eq!(attribute(&inside([letters[0]], 7), "code").unwrap(), "fetch.not_found");
    let stages = inside(inside([metric("dogiqa_stage_in_flight")], 5), 1);
    for stage in stages {
        // The bits of 0.0.
        assert_eq!(fields(stage, 4)[0].number(), 0, "an image is in flight");
    }
    let scores = inside(inside([metric("dogiqa_image_score")], 9), 1);
    assert_eq!(fields(scores[0], 4)[0].number(), 3);
    let bounds = fields(scores[0], 7)[0].bytes().len() / size_of::<f64>();
    assert_eq!(bounds, 15, "the buckets of the score");
    let description = fields(metric("dogiqa_image_score"), 2)[0].text();
    assert_eq!(description, "Scores of the images");
}

/// Answers references with this collector, then stops. Returns the time to stop, and the log.
async fn answer_with(endpoint: &str) -> (Duration, String) {
    let setup = Setup::new().await;
    setup.scene.write((0..20).map(|_| setup.record("a.png", None)).collect()).await;
    let worker = setup.start(endpoint);
    assert_eq!(setup.scene.events(20).await.len(), 20);
    worker.wait_for_line("\"ready\":true", PATIENCE);
    tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        worker.terminate();
        let (status, log) = worker.finish(PATIENCE);
        assert!(status.success(), "{log}");
        (started.elapsed(), log)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_silent_delays_and_fails_nobody() {
    // Bound and closed again, so that nothing listens.
    let away_url = WebServer::start(|_, _| Answer::ok("")).url("");
    let silent = WebServer::start(|_, _| Answer::Stall(head(200, "", "")));
    let silent_url = silent.url("");
    let ((_, away), (stopping, silent)) =
        tokio::join!(answer_with(&away_url), answer_with(&silent_url));
    let warned = away.matches("the collector did not accept an export").count();
    assert!((1..=2).contains(&warned), "once a minute for each signal: {away}");
    assert!(away.contains(&away_url) && away.contains("refused"), "address and cause: {away}");
    assert!(silent.contains("the last traces and metrics were not exported"), "{silent}");
    assert!(stopping < Duration::from_secs(15), "stopped in {stopping:?}");
}
