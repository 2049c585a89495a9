//! `http(s):` references to a server on loopback. Loopback is forbidden by default, so the settings
//! allow the server in `allow_private_hosts`. Canaries are servers that they do not allow.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::storage::{FetchError, FetchRequest, FetchedImage, Settings, Stores};

use crate::web_server::{Answer, WebServer, head};

const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn settings(server: &WebServer) -> Settings {
    Settings {
        allow_private_hosts: vec![server.place()],
        allow_http: true,
        bytes_max: ByteSize(1000),
        backoff_base: Duration::ZERO,
        ..Settings::default()
    }
}

fn attempts(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

async fn fetch(settings: &Settings, uri: &str) -> Result<FetchedImage, FetchError> {
    Stores::new(settings).unwrap().fetch(&FetchRequest::new(uri)).await
}

async fn fails(settings: &Settings, uri: &str) -> FetchError {
    match fetch(settings, uri).await {
        Ok(image) => panic!("{uri} was read: {image:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn an_image_has_its_etag_and_type() {
    let server = WebServer::start(|_, _| {
        Answer::status(200, "ETag: \"v1\"\r\nContent-Type: image/jpeg\r\n", "abc")
    });
    let image = fetch(&settings(&server), &server.url("/a.jpg")).await.unwrap();
    assert_eq!(image.bytes, "abc");
    assert_eq!(image.etag.as_deref(), Some("\"v1\""));
    assert_eq!(image.content_type.as_deref(), Some("image/jpeg"));
    assert_eq!(image.attempts, 1);
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.header("if-match")), ("GET", None));
    assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("dogiqa/")));
}

#[tokio::test]
async fn a_body_needs_no_declared_length() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        "/chunked" => Answer::Send(head(
            200,
            "Transfer-Encoding: chunked\r\n",
            "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        )),
        _ => Answer::Send(head(200, "", "abc")),
    });
    for target in ["/chunked", "/until-close"] {
        let image = fetch(&settings(&server), &server.url(target)).await.unwrap();
        assert_eq!(image.bytes, "abc", "{target}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_read_to_its_end() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        // The declared length is enough for the refusal.
        "/declared" => Answer::Stall(head(200, "Content-Length: 1001\r\n", "")),
        "/chunked" => {
            let chunk = format!("3e9\r\n{}\r\n", "x".repeat(1001));
            Answer::Stall(head(200, "Transfer-Encoding: chunked\r\n", chunk))
        }
        "/until-close" => Answer::Stall(head(200, "", "x".repeat(1001))),
        _ => Answer::ok("x".repeat(1000)),
    });
    let settings = settings(&server);
    for target in ["/declared", "/chunked", "/until-close"] {
        let error = fails(&settings, &server.url(target)).await;
        assert_eq!((error.code(), error.attempts()), ("fetch.too_large", 1), "{target}: {error}");
        assert!(!error.is_transient() && error.to_string().contains("storage.bytes_max"));
    }
    assert_eq!(fetch(&settings, &server.url("/exact")).await.unwrap().bytes.len(), 1000);
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        "/head" => Answer::Stall(Vec::new()),
        _ => Answer::Stall(head(200, "Content-Length: 100\r\n", "abc")),
    });
    let limits = settings(&server);
    let settings =
        Settings { read_timeout: Duration::from_millis(40), attempts_max: attempts(2), ..limits };
    for target in ["/head", "/body"] {
        let error = fails(&settings, &server.url(target)).await;
        assert_eq!((error.code(), error.attempts()), ("fetch.timeout", 2), "{target}: {error}");
        assert!(error.is_transient() && error.to_string().contains("storage.read_timeout"));
    }
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn the_fetch_timeout_limits_all_attempts_together() {
    let server = WebServer::start(|_, _| Answer::Stall(Vec::new()));
    let limits = settings(&server);
    let settings = Settings {
        fetch_timeout: Duration::from_millis(60),
        attempts_max: attempts(1000),
        ..limits
    };
    let error = fails(&settings, &server.url("/a.jpg")).await;
    assert_eq!((error.code(), error.attempts()), ("fetch.timeout", 1));
    assert!(error.to_string().contains("storage.fetch_timeout"), "{error}");
}

#[tokio::test]
async fn the_fetch_timeout_includes_the_backoff() {
    let server = WebServer::start(|_, _| Answer::status(503, "", ""));
    let limits = settings(&server);
    let settings = Settings {
        fetch_timeout: Duration::from_millis(500),
        backoff_base: Duration::from_hours(1 << 30),
        backoff_max: Duration::from_hours(1 << 30),
        ..limits
    };
    let error = fails(&settings, &server.url("/a.jpg")).await;
    assert_eq!((error.code(), error.attempts()), ("fetch.unavailable", 1));
}

#[tokio::test]
async fn a_broken_transfer_is_retried() {
    for broken in ["reset", "cut", "chunk cut", "reset before the head"] {
        let server = WebServer::start(move |_, earlier| match (earlier, broken) {
            (1.., _) => Answer::ok("abc"),
            (_, "reset") => Answer::Reset(head(200, "Content-Length: 3\r\n", "a")),
            (_, "cut") => Answer::Send(head(200, "Content-Length: 3\r\n", "a")),
            (_, "chunk cut") => {
                Answer::Send(head(200, "Transfer-Encoding: chunked\r\n", "5\r\nab"))
            }
            _ => Answer::Reset(Vec::new()),
        });
        let image = fetch(&settings(&server), &server.url("/a.jpg")).await.unwrap();
        assert_eq!((image.bytes.as_ref(), image.attempts), (b"abc".as_ref(), 2), "{broken}");
    }
}

#[tokio::test]
async fn a_permanent_error_is_not_retried() {
    let check = async |status: u16, code: &str| {
        let server = WebServer::start(move |_, _| Answer::status(status, "", "<html>sorry</html>"));
        let error = fails(&settings(&server), &server.url("/a.jpg")).await;
        assert_eq!((error.code(), error.attempts()), (code, 1), "{status}: {error}");
        assert!(!error.is_transient());
        assert_eq!(server.requests().len(), 1);
    };
    check(404, "fetch.not_found").await;
    check(410, "fetch.not_found").await;
    check(401, "fetch.forbidden").await;
    check(403, "fetch.forbidden").await;
    check(412, "fetch.etag_mismatch").await;
    check(400, "fetch.unexpected_answer").await;
    check(418, "fetch.unexpected_answer").await;
    check(204, "fetch.unexpected_answer").await;
    check(206, "fetch.unexpected_answer").await;
    check(302, "fetch.unexpected_answer").await;
    check(304, "fetch.unexpected_answer").await;
}

#[tokio::test]
async fn an_expired_presigned_url_and_a_throttled_request_have_their_own_codes() {
    let check = async |status: u16, body: &'static str, code: &str| {
        let server = WebServer::start(move |_, _| Answer::status(status, "", body));
        let url = server.url("/a.jpg?X-Amz-Signature=planted-signature");
        let error = fails(&settings(&server), &url).await;
        assert_eq!((error.code(), error.attempts()), (code, 1), "{error}");
        assert!(!error.to_string().contains("planted"), "{error}");
        error.to_string()
    };
    let expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let error = check(403, expired, "fetch.presigned_url").await;
    assert!(error.contains("403 AccessDenied \"Request has expired\""), "{error}");
    let echo = "<Error><Code>SignatureDoesNotMatch</Code><Message>not planted-signature</Message>";
    check(403, echo, "fetch.presigned_url").await;
    check(404, "<Error><Code>NoSuchBucket</Code></Error>", "fetch.no_such_bucket").await;
    check(429, "slow down", "fetch.throttled").await;
}

#[tokio::test]
async fn a_transient_error_is_retried_up_to_the_limit() {
    for status in [408, 425, 500, 502, 503, 504] {
        let server = WebServer::start(move |_, earlier| match earlier {
            0 => Answer::status(status, "", "later"),
            _ => Answer::ok("abc"),
        });
        let image = fetch(&settings(&server), &server.url("/a.jpg")).await.unwrap();
        assert_eq!(image.attempts, 2, "{status}");

        let server = WebServer::start(move |_, _| Answer::status(status, "", "later"));
        let error = fails(&settings(&server), &server.url("/a.jpg")).await;
        assert_eq!((error.code(), error.attempts()), ("fetch.unavailable", 3), "{status}");
        assert!(error.is_transient());
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let server = WebServer::start(|_, _| Answer::ok("abc"));
    let (settings, url) = (settings(&server), server.url("/a.jpg"));
    drop(server);
    let error = fails(&settings, &url).await;
    assert_eq!((error.code(), error.attempts()), ("fetch.unavailable", 3), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_to_allowed_hosts() {
    let target = WebServer::start(|_, _| Answer::ok("abc"));
    let location = target.url("/there.jpg?key=a%2Fb");
    let server = WebServer::start(move |request, _| match request.target.as_str() {
        "/a/b.jpg" => Answer::redirect(301, "../c.jpg#fragment"),
        "/c.jpg" => Answer::redirect(308, "?d=1"),
        _ => Answer::redirect(307, &location),
    });
    let mut settings = settings(&server);
    settings.allow_private_hosts.push(target.place());
    let image = fetch(&settings, &server.url("/a/b.jpg")).await.unwrap();
    assert_eq!(image.bytes, "abc");
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/a/b.jpg", "/c.jpg", "/c.jpg?d=1"]);
    assert_eq!(target.requests()[0].target, "/there.jpg?key=a%2Fb");
}

#[tokio::test]
async fn a_redirect_loop_ends_at_the_limit() {
    let server = WebServer::start(|_, _| Answer::redirect(302, "/again"));
    let error = fails(&settings(&server), &server.url("/a.jpg")).await;
    assert_eq!((error.code(), error.is_transient()), ("fetch.too_many_redirects", false));
    assert_eq!(server.requests().len(), 4);
    let none = Settings { redirects_max: 0, ..settings(&server) };
    assert_eq!(fails(&none, &server.url("/a.jpg")).await.code(), "fetch.too_many_redirects");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn an_allowed_private_server_is_reached_by_name_and_over_ipv6() {
    let server = WebServer::start(|_, _| Answer::ok("abc"));
    let authority = format!("localhost:{}", server.port());
    let by_name = Settings { allow_private_hosts: vec![authority.clone()], ..settings(&server) };
    let image = fetch(&by_name, &format!("http://{authority}/a.jpg")).await.unwrap();
    assert_eq!(image.bytes, "abc");
    let error = fails(&by_name, &server.url("/a.jpg")).await;
    assert_eq!(error.code(), "uri.forbidden_host");

    // Some machines have no IPv6.
    if let Ok(server) = WebServer::start_at(Ipv6Addr::LOCALHOST.into(), |_, _| Answer::ok("abc")) {
        let image = fetch(&settings(&server), &server.url("/a.jpg")).await.unwrap();
        assert_eq!(image.bytes, "abc");
    }
}

#[tokio::test]
async fn plain_http_needs_to_be_allowed() {
    let canary = WebServer::canary();
    let settings = Settings { allow_http: false, ..settings(&canary) };
    let error = fails(&settings, &canary.url("/a.jpg")).await;
    assert_eq!((error.code(), canary.connections()), ("uri.unsupported_scheme", 0));
}

#[tokio::test]
async fn the_etag_of_the_reference_is_sent_and_compared() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        "/strict" if request.header("if-match") == Some("\"v1\"") => {
            Answer::status(200, "ETag: \"v1\"\r\n", "abc")
        }
        "/strict" => Answer::status(412, "", ""),
        "/weak" => Answer::status(200, "ETag: W/\"v1\"\r\n", "abc"),
        "/careless" => Answer::status(200, "ETag: \"v2\"\r\n", "abc"),
        _ => Answer::ok("abc"),
    });
    let stores = Stores::new(&settings(&server)).unwrap();
    let check = async |target: &str, etag: &str, code: Option<&str>| {
        let uri = server.url(target);
        let request = FetchRequest { etag: Some(etag), ..FetchRequest::new(&uri) };
        let outcome = stores.fetch(&request).await;
        let refused = outcome.as_ref().err().map(FetchError::code);
        assert_eq!(refused, code, "{target} with {etag}: {outcome:?}");
    };
    let mismatch = Some("fetch.etag_mismatch");
    check("/strict", "v1", None).await;
    check("/strict", "\"v1\"", None).await;
    check("/strict", "v2", mismatch).await;
    check("/careless", "v1", mismatch).await;
    check("/without", "v1", mismatch).await;
    check("/weak", "W/\"v1\"", None).await;
    check("/weak", "v1", mismatch).await;
    check("/strict", "v1\r\nX-Evil: 1", mismatch).await;
    assert!(server.requests().iter().all(|request| request.header("x-evil").is_none()));
}

#[tokio::test]
async fn the_sha256_of_the_reference_is_compared() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        "/large" => Answer::ok(vec![b'a'; 1_000_000]),
        _ => Answer::ok("abc"),
    });
    let settings = Settings { bytes_max: ByteSize::mib(1), ..settings(&server) };
    let stores = Stores::new(&settings).unwrap();
    let check = async |target: &str, sha256: &str, code: Option<&str>| {
        let uri = server.url(target);
        let request = FetchRequest { sha256: Some(sha256), ..FetchRequest::new(&uri) };
        let outcome = stores.fetch(&request).await;
        let refused = outcome.as_ref().err().map(FetchError::code);
        assert_eq!(refused, code, "{target} with {sha256}");
        assert!(outcome.err().is_none_or(|error| !error.is_transient()));
    };
    let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    let mismatch = Some("fetch.sha256_mismatch");
    check("/a.jpg", SHA256_OF_ABC, None).await;
    check("/a.jpg", &SHA256_OF_ABC.to_uppercase(), None).await;
    check("/a.jpg", million, mismatch).await;
    check("/a.jpg", "abc", mismatch).await;
    check("/large", million, None).await;
    check("/large", SHA256_OF_ABC, mismatch).await;
}

#[tokio::test]
async fn a_presigned_url_is_sent_unchanged() {
    let target = "/b/a%2Fb%20c+d.jpg?X-Amz-Credential=A%2Fb&X-Amz-Signature=0f%2B+%7e&e=";
    let server = WebServer::start(|_, _| Answer::status(404, "", ""));
    let error = fails(&settings(&server), &server.url(target)).await;
    assert_eq!(server.requests()[0].target, target);
    let text = format!("{error} {error:?}");
    assert!(text.contains("/b/a%2Fb%20c+d.jpg") && !text.contains("Signature"), "{text}");
}

#[tokio::test]
async fn errors_show_no_secrets_of_the_uri() {
    let canary = WebServer::canary();
    for uri in [
        "https://me:s3cret@127.0.0.1/a?s3cret",
        "http://me:s3cret@127.0.0.1:99999/a",
        "http:me:s3cret@127.0.0.1/a#s3cret",
        "s3://AKIA:s3cret@photos/a?X-Amz-Signature=s3cret",
        "ftp://me:s3cret@host/",
        "me:s3cret@host",
    ] {
        let error = fails(&settings(&canary), uri).await;
        assert_eq!(error.attempts(), 0);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
