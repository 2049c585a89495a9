//! Ratings by a server: the answers that it may give, and the errors of each misbehaviour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dog_iqa::engine::{Engine, EngineError, HttpSettings, OutageKind, ServerError, ServerOutage};
use dog_iqa::imaging::{Crop, CropSource, crop_whole};
use dog_iqa::method::LevelDistribution;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::cli::{command, photo, text};
use crate::conformance::pictures;
use crate::models_pull::certificate;
use crate::scoring_server::{
    FINGERPRINT, MODEL, ScoringServer, completion, engine, error, grey, level, parsed, settings_for,
};
use crate::web_server::{Answer, WebServer, head};

/// Longer than any test waits.
const LIMIT: Duration = Duration::from_mins(5);

async fn open(settings: HttpSettings) -> Engine {
    tokio::task::spawn_blocking(move || engine(settings)).await.unwrap()
}

async fn rate(engine: &Engine, brightness: u8) -> Result<LevelDistribution, EngineError> {
    let crop =
        Crop { source: CropSource::Whole, pixels: Arc::new(grey(brightness)), picture: None };
    engine.rate(crop, LIMIT).await
}

/// Returns the error of the server for a picture.
async fn server_error(engine: &Engine, brightness: u8) -> ServerError {
    match rate(engine, brightness).await.unwrap_err() {
        EngineError::Server(error) => error,
        other => panic!("{other}"),
    }
}

async fn outage(engine: &Engine, brightness: u8) -> Arc<ServerOutage> {
    match server_error(engine, brightness).await {
        ServerError::Outage(outage) => outage,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_crop_has_its_own_rating_and_the_same_one_again() {
    let server = ScoringServer::start();
    let engine = open(server.settings()).await;
    for brightness in [0, 40, 90, 130, 170, 200, 255] {
        let rating = rate(&engine, brightness).await.unwrap();
        assert_eq!(rating.level(), level(brightness));
        assert!((rating.confidence() - 1.0).abs() < 1e-9);
        assert!((rating.off_level().unwrap() - 0.1).abs() < 1e-6);
        let served = rating.served().unwrap();
        assert!((served.unreported.unwrap() - 0.1).abs() < 1e-6);
        assert_eq!(served.by.model.as_deref(), Some(MODEL));
        assert_eq!(served.by.system_fingerprint.as_deref(), Some(FINGERPRINT));
    }
    let crops: Vec<Crop> = pictures().iter().map(crop_whole).collect();
    let together = join_all(crops.iter().map(|crop| engine.rate(crop.clone(), LIMIT))).await;
    for (crop, together) in crops.into_iter().zip(together) {
        assert_eq!(engine.rate(crop, LIMIT).await.unwrap(), together.unwrap());
    }
}

#[tokio::test]
async fn requests_at_the_same_time_are_limited() {
    let server = ScoringServer::start();
    // Answers nothing before four requests have arrived.
    server.gather(4);
    let settings = HttpSettings { concurrency: 4.try_into().unwrap(), ..server.settings() };
    let engine = open(settings).await;
    for rating in join_all((0..40).map(|number| rate(&engine, number * 6))).await {
        rating.unwrap();
    }
    assert_eq!(server.concurrency(), 4);
}

#[tokio::test]
async fn a_server_without_probabilities_gives_its_level_alone() {
    let server = ScoringServer::start();
    server.misbehave(|_| Some(completion(" 6", &Value::Null)));
    let engine = open(server.settings()).await;
    let rating = rate(&engine, 0).await.unwrap();
    assert_eq!((rating.level(), rating.served().unwrap().unreported), (6, None));
}

#[tokio::test]
async fn faults_that_pass_are_retried() {
    for fault in [
        error(500, "asked to"),
        error(503, "Loading model"),
        Answer::status(429, "Retry-After: 0\r\n", "slower"),
        Answer::ok("{\"choices\": ["),
        Answer::Reset(Vec::new()),
        Answer::Send(head(200, "Content-Length: 900\r\n", "{\"choices\"")),
    ] {
        let server = ScoringServer::start();
        let first = std::sync::atomic::AtomicBool::new(true);
        let shown = format!("{fault:?}");
        server.misbehave(move |_| {
            first.swap(false, std::sync::atomic::Ordering::SeqCst).then(|| fault.clone())
        });
        let engine = open(server.settings()).await;
        let rating = rate(&engine, 90).await;
        assert_eq!(rating.unwrap_or_else(|error| panic!("{shown}: {error}")).level(), level(90));
        assert_eq!(server.requests().len(), 2, "{shown}");
    }
}

/// Each fault concerns every picture, so it is an outage with this kind and code.
#[tokio::test]
async fn a_fault_of_every_picture_is_an_outage_that_is_named() {
    use OutageKind::{Refused, Throttled, Unavailable};
    let huge = "x".repeat(3 << 20);
    for (fault, kind, code, part) in [
        (error(500, "out of memory"), Unavailable, "score.unavailable", "out of memory"),
        (Answer::Reset(Vec::new()), Unavailable, "score.unavailable", "connection"),
        (Answer::ok("<html>"), Unavailable, "score.unexpected_answer", "not JSON"),
        (Answer::ok("{\"choices\": []}"), Unavailable, "score.unexpected_answer", "no choice"),
        (Answer::ok(huge), Unavailable, "score.unexpected_answer", "1048576 bytes"),
        (
            Answer::Send(head(200, "Content-Length: 900\r\n", "{\"cho")),
            Unavailable,
            "score.unavailable",
            "connection",
        ),
        (error(401, "bad key"), Refused, "score.credentials", "bad key"),
        (error(403, "no access"), Refused, "score.credentials", "api_key"),
        (error(404, "model `x` does not exist"), Refused, "score.misconfigured", "model `x`"),
        (Answer::redirect(307, "http://elsewhere/"), Refused, "score.misconfigured", "redirects"),
        (error(400, "top_logprobs is 5 at most"), Refused, "score.misconfigured", "5 at most"),
        (
            Answer::status(429, "Retry-After: 3600\r\n", "later"),
            Throttled,
            "score.throttled",
            "429 \"later\"",
        ),
    ] {
        let server = ScoringServer::start();
        server.misbehave(move |_| Some(fault.clone()));
        let engine = open(server.settings()).await;
        let outage = outage(&engine, 90).await;
        assert_eq!((outage.kind, outage.code), (kind, code), "{outage}");
        assert!(outage.message.contains(part), "{outage}");
        assert!(outage.to_string().starts_with(&server.server.url("/v1")), "{outage}");
        let sent = server.requests().len();
        // The breaker is open, so nothing more is sent now.
        assert_eq!(engine.server().unwrap().outage().map(|known| known.attempts), Some(0));
        assert_eq!(outage_now(&engine).await, code);
        assert_eq!(server.requests().len(), sent);
    }
}

/// Returns the code of an outage that is reported without a request.
async fn outage_now(engine: &Engine) -> &'static str {
    let outage = outage(engine, 90).await;
    assert_eq!(outage.attempts, 0);
    outage.code
}

#[tokio::test]
async fn a_server_that_is_too_slow_or_not_there_is_an_outage() {
    let server = ScoringServer::start();
    server.misbehave(|_| Some(Answer::Stall(Vec::new())));
    let settings = HttpSettings {
        timeout: Duration::from_millis(200),
        attempts_max: 2.try_into().unwrap(),
        ..server.settings()
    };
    let slow = outage(&open(settings).await, 90).await;
    assert_eq!((slow.kind, slow.code), (OutageKind::Unavailable, "score.unavailable"));
    assert!(slow.message.contains("200ms (engine.dog_iqa.http.timeout)"), "{slow}");
    assert_eq!((slow.attempts, server.requests().len()), (2, 3), "two attempts and a test");

    // Bound but not listening: the port is refused, and no other test has it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/v1", socket.local_addr().unwrap());
    let engine = open(settings_for(&url)).await;
    let away = outage(&engine, 90).await;
    assert_eq!((away.kind, away.attempts), (OutageKind::Unavailable, 3));
    assert!(away.message.contains("cannot be reached"), "{away}");
}

#[tokio::test]
async fn a_server_that_returns_is_found_by_a_trial() {
    let server = ScoringServer::start();
    server.misbehave(|_| Some(error(401, "expired")));
    let engine = open(server.settings()).await;
    outage(&engine, 90).await;
    server.behave();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut waits = tokio::time::interval(Duration::from_millis(20));
    while rate(&engine, 90).await.is_err() {
        assert!(Instant::now() < deadline, "no trial was admitted");
        waits.tick().await;
    }
    assert!(engine.server().unwrap().outage().is_none());
}

#[tokio::test]
async fn a_fault_of_one_picture_is_not_one_of_the_server() {
    let server = ScoringServer::start();
    server.misbehave(|brightness| match brightness {
        10 => Some(error(400, "this image is odd")),
        20 => Some(error(413, "this image is large")),
        30 => Some(completion("<think>", &Value::Null)),
        50 => Some(error(500, "this image crashes")),
        _ => None,
    });
    let engine = open(server.settings()).await;
    for (brightness, code, part) in [
        (10, "score.refused", "status 400 \"this image is odd\""),
        (20, "score.refused", "this image is large"),
        (30, "score.no_level", "names no level: `<think>`"),
    ] {
        let error = server_error(&engine, brightness).await;
        assert!(!matches!(error, ServerError::Outage(_)), "{error}");
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(part), "{error}");
    }
    let crash = outage(&engine, 50).await;
    assert_eq!((crash.kind, crash.code), (OutageKind::OnThisCrop, "score.unavailable"));
    assert!(crash.last_rated.is_some() && crash.message.contains("another picture"), "{crash}");
    assert_eq!(rate(&engine, 90).await.unwrap().level(), level(90), "the breaker is closed");
}

/// Returns flags of a command that rates on a server.
fn flags(url: &str) -> Vec<String> {
    let settings = [
        "engine.dog_iqa.segmenter=classic".to_owned(),
        "engine.dog_iqa.scorer=http".to_owned(),
        format!("engine.dog_iqa.http.url={url}"),
        "engine.dog_iqa.http.model=brightness".to_owned(),
    ];
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

#[test]
fn an_event_names_the_server_and_no_output_has_its_key() {
    let server = ScoringServer::start();
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("key");
    std::fs::write(&file, "planted-file-key\n").unwrap();
    let by_file = format!("--set engine.dog_iqa.http.api_key_file={}", file.display());
    let by_url = server.server.url("/v1").replace("http://", "http://me:planted-password@");
    for (url, more, variable, authorization) in [
        (server.server.url("/v1"), "", Some("planted-key"), "Bearer planted-key"),
        (server.server.url("/v1"), by_file.as_str(), None, "Bearer planted-file-key"),
        (by_url, "", None, "Basic bWU6cGxhbnRlZC1wYXNzd29yZA=="),
    ] {
        for fault in [None, Some(401)] {
            let name = authorization.to_owned();
            match fault {
                None => server.behave(),
                // An unkind server repeats the key.
                Some(status) => server.misbehave(move |_| Some(error(status, &name))),
            }
            let mut command = command(&["score", "--format", "jsonl"]);
            command.args(flags(&url)).args(more.split_whitespace()).arg(photo("cat.jpg"));
            if let Some(key) = variable {
                command.env("DOGIQA_ENGINE__DOG_IQA__HTTP__API_KEY", key);
            }
            let output = command.env("RUST_LOG", "trace").output().unwrap();
            let (shown, errors) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.success(), fault.is_none(), "{errors}");
            let sent = server.requests().pop().unwrap();
            assert_eq!(sent.header("authorization"), Some(authorization));
            assert_eq!(sent.target, "/v1/chat/completions");
            for (stream, text) in [("output", shown), ("errors", errors)] {
                for secret in ["planted", "bWU6cGxhbnRlZ"] {
                    assert!(!text.contains(secret), "{stream}: {text}");
                }
            }
            if fault.is_some() {
                assert!(errors.contains("[score.credentials]"), "{errors}");
                continue;
            }
            let event: Value = serde_json::from_str(shown).unwrap();
            let by = json!([{"model": MODEL, "system_fingerprint": FINGERPRINT}]);
            assert_eq!(event["engine"]["servers"], by);
            let scorer = event["engine"]["scorer"].as_str().unwrap();
            assert!(scorer.starts_with("brightness/1-http-"), "{scorer}");
            assert!(event["engine"]["segmenter"].as_str().unwrap().starts_with("felzenszwalb/"));
            assert_eq!(
                event["global"]["unreported"].as_f64().map(|x| (x * 1e6).round()),
                Some(1e5)
            );
            assert!(event["objects"].as_array().unwrap().len() > 1);
        }
    }
    let request = parsed(&server.requests()[0]);
    assert_eq!((&request["model"], &request["max_tokens"]), (&json!("brightness"), &json!(1)));
}

/// Returns the line of `dogiqa check` about the server.
fn check_line(url: &str) -> String {
    let mut command = command(&["check"]);
    command.args(flags(url));
    command.args([
        "--set",
        "kafka.bootstrap_servers=127.0.0.1:9",
        "--set",
        "kafka.probe_timeout=10ms",
    ]);
    let output = command.output().unwrap();
    let lines = text(&output.stdout).lines().map(str::to_owned);
    lines.into_iter().find(|line| line.contains(" scorer: ")).unwrap()
}

#[test]
fn check_shows_the_model_the_probabilities_and_the_latency() {
    let server = ScoringServer::start();
    let line = || check_line(&server.server.url("/v1"));
    let fine = line();
    assert!(fine.starts_with("ok "), "{fine}");
    for part in [MODEL, FINGERPRINT, " ms", "2 tokens", "80.0 % are on levels"] {
        assert!(fine.contains(part), "{part}: {fine}");
    }
    server.misbehave(|_| Some(completion("5", &Value::Null)));
    let without = line();
    assert!(without.starts_with("warning") && without.contains("no probabilities"), "{without}");
    server.misbehave(|_| Some(completion("I", &Value::Null)));
    let no_level = line();
    assert!(no_level.starts_with("broken") && no_level.contains("`I`"), "{no_level}");
    server.misbehave(|_| Some(error(404, "The model `brightness` does not exist.")));
    let missing = line();
    assert!(missing.starts_with("broken") && missing.contains("does not exist"), "{missing}");
}

#[test]
fn a_server_with_tls_is_trusted_by_its_authority_only() {
    let (tls, pem) = certificate();
    let server = ScoringServer::start_with(|answer| WebServer::start_tls(tls, answer));
    let url = format!("https://localhost:{}/v1", server.server.port());
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, pem).unwrap();
    let score = |trusted: bool| {
        let mut command = command(&["score", "--format", "jsonl"]);
        command.args(flags(&url)).arg(photo("cat.jpg"));
        if trusted {
            command.env("SSL_CERT_FILE", &authority);
        }
        command.output().unwrap()
    };
    let refused = score(false);
    let errors = text(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("cannot be reached"), "{errors}");
    assert!(server.requests().is_empty());
    let accepted = score(true);
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
}

#[test]
fn settings_without_a_server_are_named() {
    let output = command(&["score", &photo("cat.jpg")]).args(flags("")).output().unwrap();
    let errors = text(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("engine.dog_iqa.http: url names no server"), "{errors}");
}
