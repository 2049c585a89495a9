//! Buckets: a store in memory for our own rules, a server on loopback for the answers of S3.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::storage::{
    FetchError, FetchRequest, FetchedImage, S3Settings, Scheme, Secret, Settings, Stores,
};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tempfile::TempDir;

use crate::web_server::{Answer, WebServer, head};

/// A key of the usual client, and one that another client sends.
const KEYS: [&str; 2] = ["s3://photos/a.jpg", "s3://photos/a/../b.jpg"];

/// Returns settings for a bucket `photos` whose endpoint is the server.
pub(crate) fn settings(server: &WebServer) -> Settings {
    Settings {
        allow_buckets: vec!["s3://photos".to_owned()],
        bytes_max: ByteSize(1000),
        backoff_base: Duration::ZERO,
        s3: S3Settings { session_token: Some(Secret::new("s3cret-token")), ..server.as_s3() },
        ..Settings::default()
    }
}

pub(crate) fn s3_error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    Answer::status(status, "Content-Type: application/xml\r\n", body)
}

pub(crate) fn s3_object(body: &str) -> Answer {
    let headers = "ETag: \"v1\"\r\nContent-Type: image/png\r\n\
                   Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    Answer::status(200, headers, body)
}

pub(crate) async fn fetch(settings: &Settings, uri: &str) -> Result<FetchedImage, FetchError> {
    Stores::new(settings).unwrap().fetch(&FetchRequest::new(uri)).await
}

async fn in_memory(objects: &[(&str, &'static str)]) -> Stores {
    let memory = InMemory::new();
    for (key, body) in objects {
        memory.put(&Path::parse(key).unwrap(), (*body).into()).await.unwrap();
    }
    let settings = Settings { bytes_max: ByteSize(10), ..Settings::default() };
    Stores::new(&settings).unwrap().with_store(Scheme::S3, "photos", Arc::new(memory))
}

#[tokio::test]
async fn a_declared_size_above_the_limit_is_refused_without_a_request() {
    let stores = in_memory(&[("a.jpg", "abc")]).await;
    let fetch = async |uri, declared_bytes| {
        let request = FetchRequest { declared_bytes, ..FetchRequest::new(uri) };
        stores.fetch(&request).await.map_err(|error| (error.code(), error.attempts()))
    };
    assert_eq!(fetch("s3://photos/a.jpg", Some(10)).await.unwrap().bytes, "abc");
    let refused = fetch("s3://photos/a.jpg", Some(11)).await.unwrap_err();
    assert_eq!(refused, ("fetch.too_large", 0));
    let elsewhere = fetch("s3://private/a.jpg", Some(u64::MAX)).await.unwrap_err();
    assert_eq!(elsewhere, ("uri.forbidden_bucket", 0), "the allow-list is first");
}

#[tokio::test]
async fn the_media_type_of_a_response_is_judged_before_its_body_is_read() {
    // A body that never comes, and is above the limit.
    let server = WebServer::start(|_, _| {
        Answer::Stall(head(
            200,
            "ETag: \"v1\"\r\nContent-Length: 9000\r\nContent-Type: text/html; \
                                 charset=utf-8\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
            "",
        ))
    });
    let stores = Stores::new(&settings(&server)).unwrap();
    for uri in KEYS {
        let request = FetchRequest { judge_content_type: true, ..FetchRequest::new(uri) };
        let error = stores.fetch(&request).await.unwrap_err();
        assert_eq!((error.code(), error.attempts()), ("fetch.other_content_type", 1), "{uri}");
        assert!(error.to_string().contains("text/html") && error.store_failure().is_none());
        let error = stores.fetch(&FetchRequest::new(uri)).await.unwrap_err();
        assert_eq!(error.code(), "fetch.too_large", "a reference is not judged");
    }
    let server = WebServer::start(|_, _| s3_object("abc"));
    let stores = Stores::new(&settings(&server)).unwrap();
    let request = FetchRequest { judge_content_type: true, ..FetchRequest::new(KEYS[0]) };
    assert_eq!(stores.fetch(&request).await.unwrap().bytes, "abc");
}

#[test]
fn a_container_of_another_account_is_not_read() {
    let mut settings = Settings::default();
    assert_eq!(Stores::new(&settings).unwrap().admit_account("any"), Ok(()));
    settings.azure.account = Some("shop".to_owned());
    let stores = Stores::new(&settings).unwrap();
    assert_eq!(stores.admit_account("shop"), Ok(()));
    assert_eq!(stores.admit_account("evil").unwrap_err().code(), "uri.forbidden_bucket");
}

#[tokio::test]
async fn only_the_allowed_bucket_is_read() {
    let stores = in_memory(&[("a.jpg", "abc"), ("large", "01234567890")]).await;
    let code = async |uri: &str| match stores.fetch(&FetchRequest::new(uri)).await {
        Ok(_) => "read",
        Err(error) => error.code(),
    };
    assert_eq!(code("s3://photos/a.jpg").await, "read");
    assert_eq!(code("s3://photos/b.jpg").await, "fetch.not_found");
    assert_eq!(code("s3://photos/large").await, "fetch.too_large");
    for uri in [
        "s3://photo/a.jpg",
        "s3://photos2/a.jpg",
        "s3://Photos/a.jpg",
        "s3://photos./a.jpg",
        "s3://my.photos/a.jpg",
        "gs://photos/a.jpg",
        "az://photos/a.jpg",
        "s3://pho-tos/a.jpg",
    ] {
        assert_eq!(code(uri).await, "uri.forbidden_bucket", "{uri}");
    }
    for uri in ["s3://photos@evil/a.jpg", "s3://photos:80/a.jpg", "s3://photos%2f/a.jpg"] {
        assert_eq!(code(uri).await, "uri.invalid", "{uri}");
    }
    assert!(stores.admit("s3://photos/a.jpg").is_ok() && stores.admit("s3://other/a").is_err());
}

#[tokio::test]
async fn a_key_is_percent_encoded_once() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let settings = settings(&server);
    for (key, target) in [
        ("a/b c+d.jpg", "/photos/a/b%20c%2Bd.jpg"),
        ("50%25.jpg", "/photos/50%2525.jpg"),
        ("a?b#c=d&e", "/photos/a%3Fb%23c%3Dd%26e"),
        ("ü/%2e%2e/x", "/photos/%C3%BC/%252e%252e/x"),
    ] {
        let image = fetch(&settings, &format!("s3://photos/{key}")).await.unwrap();
        assert_eq!(image.bytes, "abc");
        assert_eq!(server.requests().last().unwrap().target, target);
    }
}

#[tokio::test]
async fn a_version_in_the_uri_is_explained_and_one_of_a_web_page_is_refused() {
    let server = WebServer::start(|_, _| s3_error(404, "NoSuchKey"));
    let error = fetch(&settings(&server), "s3://photos/a.jpg?versionId=1").await.unwrap_err();
    assert_eq!(error.code(), "fetch.not_found");
    assert!(error.to_string().contains("field version_id"), "{error}");
    let settings = Settings {
        allow_private_hosts: vec![server.place()],
        allow_http: true,
        ..settings(&server)
    };
    let url = server.url("/a.jpg");
    let request = FetchRequest { version_id: Some("1"), ..FetchRequest::new(&url) };
    let error = Stores::new(&settings).unwrap().fetch(&request).await.unwrap_err();
    assert_eq!(error.code(), "uri.invalid", "{error}");
}

#[tokio::test]
async fn a_request_to_s3_is_signed_and_the_object_has_its_properties() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let image = fetch(&settings(&server), "s3://photos/a.jpg").await.unwrap();
    assert_eq!(image.etag.as_deref(), Some("\"v1\""));
    assert_eq!(image.content_type.as_deref(), Some("image/png"));
    let request = &server.requests()[0];
    let signature = request.header("authorization").unwrap();
    assert!(signature.contains("AKIATEST") && signature.contains("eu-west-1"), "{signature}");
    assert!(!signature.contains("s3cret"));

    let anonymous = Settings {
        s3: S3Settings { anonymous: true, ..settings(&server).s3 },
        ..settings(&server)
    };
    fetch(&anonymous, "s3://photos/a.jpg").await.unwrap();
    assert!(server.requests()[1].header("authorization").is_none());
}

#[tokio::test]
async fn errors_of_s3_become_codes() {
    let check = async |status: u16, name: &'static str, code: &str, attempts: u32| {
        let requests = async |key: &str| {
            let server = WebServer::start(move |_, _| s3_error(status, name));
            let error = fetch(&settings(&server), key).await.unwrap_err();
            assert_eq!((error.code(), error.attempts()), (code, attempts), "{name}: {error}");
            assert!(error.to_string().contains(&format!("{status} {name}")), "{error}");
            server.requests().len()
        };
        let [usual, unusual] = KEYS.map(requests);
        let (usual, unusual) = (usual.await, unusual.await);
        assert_eq!(usual, unusual, "{name}");
        usual
    };
    assert_eq!(check(404, "NoSuchKey", "fetch.not_found", 1).await, 1);
    assert_eq!(check(404, "NoSuchBucket", "fetch.no_such_bucket", 1).await, 1);
    assert_eq!(check(403, "AccessDenied", "fetch.forbidden", 1).await, 1);
    assert_eq!(check(412, "PreconditionFailed", "fetch.etag_mismatch", 1).await, 1);
    assert_eq!(check(400, "RequestTimeout", "fetch.unavailable", 3).await, 3);
    assert_eq!(check(500, "InternalError", "fetch.unavailable", 3).await, 3);
    // The caller waits for the store's turn before it repeats a throttled request.
    assert_eq!(check(429, "TooManyRequests", "fetch.throttled", 1).await, 1);
    assert_eq!(check(503, "SlowDown", "fetch.throttled", 1).await, 1);
    // A second request is sent with a client that has read its credentials again.
    assert_eq!(check(401, "Unauthorized", "fetch.credentials", 1).await, 2);
    assert_eq!(check(400, "ExpiredToken", "fetch.credentials", 1).await, 2);
    assert_eq!(check(403, "SignatureDoesNotMatch", "fetch.credentials", 1).await, 2);
    assert_eq!(check(301, "PermanentRedirect", "fetch.credentials", 1).await, 2);
}

#[tokio::test]
async fn an_error_of_s3_names_its_reason_and_the_region_of_the_bucket() {
    let server = WebServer::start(|_, _| {
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region is wrong; \
                    expecting 'eu-north-1'</Message><Region>eu-north-1</Region></Error>";
        Answer::status(400, "x-amz-bucket-region: eu-north-1\r\n", body)
    });
    let error = fetch(&settings(&server), "s3://photos/a.jpg").await.unwrap_err().to_string();
    for part in ["AuthorizationHeaderMalformed", "expecting", "region eu-north-1", "storage.s3"] {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

#[tokio::test]
async fn transient_errors_of_s3_are_retried() {
    let faults = ["internal error", "stall", "stall in the body", "reset", "cut"];
    for (fault, key) in faults.into_iter().flat_map(|fault| KEYS.map(|key| (fault, key))) {
        let server = WebServer::start(move |_, earlier| match (earlier, fault) {
            (1.., _) => s3_object("abc"),
            (_, "internal error") => s3_error(500, "InternalError"),
            (_, "stall") => Answer::Stall(Vec::new()),
            (_, "stall in the body") => Answer::Stall(truncated_object()),
            (_, "reset") => Answer::Reset(truncated_object()),
            _ => Answer::Send(truncated_object()),
        });
        let settings = Settings { read_timeout: Duration::from_millis(200), ..settings(&server) };
        let image = fetch(&settings, key).await.unwrap();
        assert_eq!((image.bytes.as_ref(), image.attempts), (b"abc".as_ref(), 2), "{fault} {key}");
    }
    let server = WebServer::start(|_, _| Answer::Stall(truncated_object()));
    let settings = Settings {
        read_timeout: Duration::from_millis(40),
        attempts_max: NonZeroU32::MIN,
        ..settings(&server)
    };
    for key in KEYS {
        let error = fetch(&settings, key).await.unwrap_err();
        assert_eq!((error.code(), error.is_transient()), ("fetch.timeout", true), "{error}");
        assert!(error.to_string().contains("storage.read_timeout"), "{error}");
    }
}

/// Returns the head of an object and the first of its three bytes.
fn truncated_object() -> Vec<u8> {
    let headers = "Content-Length: 3\r\nETag: \"v1\"\r\n\
                   Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    head(200, headers, "a")
}

#[tokio::test]
async fn a_large_object_and_a_long_error_are_not_read_to_their_end() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        "/photos/large" | "/photos/./large" => {
            let headers = "Content-Length: 1001\r\nETag: \"v1\"\r\n\
                           Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
            Answer::Stall(head(200, headers, ""))
        }
        _ => Answer::Stall(head(404, "", "x".repeat(9000))),
    });
    for (key, code) in [
        ("s3://photos/large", "fetch.too_large"),
        ("s3://photos/./large", "fetch.too_large"),
        ("s3://photos/error", "fetch.not_found"),
        ("s3://photos/./error", "fetch.not_found"),
    ] {
        let error = fetch(&settings(&server), key).await.unwrap_err();
        assert_eq!(error.code(), code, "{key}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_of_a_bucket_is_not_followed() {
    let canary = WebServer::canary();
    let location = canary.url("/photos/a.jpg");
    let server = WebServer::start(move |_, _| Answer::redirect(307, &location));
    for key in KEYS {
        let error = fetch(&settings(&server), key).await.unwrap_err();
        assert_eq!(error.code(), "fetch.unexpected_answer");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn the_etag_is_sent_to_s3_and_compared() {
    let server = WebServer::start(|request, _| match request.header("if-match") {
        Some("\"v0\"") => s3_error(412, "PreconditionFailed"),
        _ => s3_object("abc"),
    });
    let stores = Stores::new(&settings(&server)).unwrap();
    let memory = in_memory(&[("a.jpg", "abc")]).await;
    let own = memory.fetch(&FetchRequest::new("s3://photos/a.jpg")).await.unwrap().etag.unwrap();
    for (stores, etag, is_right) in [
        (&stores, "v1", true),
        (&stores, "\"v1\"", true),
        (&stores, "v0", false),
        (&stores, "v2", false),
        (&memory, own.as_str(), true),
        (&memory, "v2", false),
    ] {
        let request = FetchRequest { etag: Some(etag), ..FetchRequest::new("s3://photos/a.jpg") };
        let refused = stores.fetch(&request).await.err().map(|error| error.code());
        assert_eq!(refused, (!is_right).then_some("fetch.etag_mismatch"), "{etag}");
    }
}

#[tokio::test]
async fn a_bucket_may_have_its_own_endpoint_and_be_part_of_the_host_name() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let mut settings = settings(&server);
    let own_endpoint = settings.s3.clone();
    settings.s3.endpoint = Some("https://nowhere.invalid".to_owned());
    settings.s3_buckets.insert("photos".to_owned(), own_endpoint.clone());
    fetch(&settings, "s3://photos/a.jpg").await.unwrap();

    // Most systems resolve names below `localhost`. The others fail before the request.
    let endpoint = format!("http://localhost:{}", server.port());
    settings.s3_buckets.insert(
        "photos".to_owned(),
        S3Settings { virtual_hosted: true, endpoint: Some(endpoint), ..own_endpoint },
    );
    if fetch(&settings, "s3://photos/a.jpg").await.is_ok() {
        let host = format!("photos.localhost:{}", server.port());
        let request = server.requests().pop().unwrap();
        assert_eq!((request.header("host"), request.target.as_str()), (Some(&*host), "/a.jpg"));
    }
}

#[tokio::test]
async fn no_text_contains_a_secret() {
    let server = WebServer::start(|_, _| s3_error(403, "SignatureDoesNotMatch"));
    let settings = settings(&server);
    let stores = Stores::new(&settings).unwrap();
    let error = stores.fetch(&FetchRequest::new("s3://photos/a.jpg")).await.unwrap_err();
    let unusual = stores.fetch(&FetchRequest::new("s3://photos/a/../b.jpg")).await.unwrap_err();
    let findings = stores.check().await;
    let errors = format!("{error:?} {error} {unusual:?} {unusual}");
    let text = format!("{settings:?} {stores:?} {errors} {findings:?}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn invalid_settings_are_refused_at_the_start() {
    let server = WebServer::canary();
    let check = |change: fn(&mut Settings), text: &str| {
        let mut settings = settings(&server);
        change(&mut settings);
        let error = Stores::new(&settings).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    check(|it| it.allow_buckets.push("photos".to_owned()), "storage.allow_buckets: `photos`");
    check(|it| it.s3.allow_http = false, "is without TLS");
    check(|it| it.s3.endpoint = Some("photos.internal".to_owned()), "storage.s3.endpoint");
    let with_key = |it: &mut Settings| it.s3.endpoint = Some("https://me:s3cret@s3.x/".to_owned());
    check(with_key, "storage.s3.endpoint: `https:***@s3.x/` holds more than an address");
    check(|it| it.allow_hosts.push("me:s3cret@a.com".to_owned()), "`***@a.com` is not of");
    check(|it| it.allow_buckets.push("s3://me:s3cret@b".to_owned()), "`s3:***@b` is not of");
    check(|it| it.s3.virtual_hosted = true, "virtual_hosted = false");
    check(|it| it.s3.secret_access_key = None, "s3://photos cannot be set up");
    check(|it| it.allow_buckets.push("az://photos".to_owned()), "az://photos cannot be set up");
    check(
        |it| drop(it.s3_buckets.insert("other".into(), S3Settings::default())),
        "storage.s3_buckets",
    );
    check(|it| it.read_timeout = Duration::ZERO, "storage.read_timeout");
    check(|it| it.allow_hosts.push("10.0.0.1".to_owned()), "storage.allow_private_hosts");
}

/// The parser's own message would repeat the content of the file.
#[test]
fn an_invalid_key_file_is_refused_without_its_content() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gcs.json");
    for content in ["\"s3cret\"", "s3cret", "{\"private_key\": [\"s3cret\"]}", "{\"s3cret\": 1"] {
        std::fs::write(&path, content).unwrap();
        let mut settings =
            Settings { allow_buckets: vec!["gs://photos".to_owned()], ..Settings::default() };
        settings.gcs.service_account_path = Some(path.clone());
        let error = Stores::new(&settings).unwrap_err().to_string();
        assert!(error.starts_with("gs://photos cannot be set up: "), "{error}");
        assert!(error.contains("line 1") && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn the_check_reports_every_location_with_its_problem() {
    let server = WebServer::start(|request, _| match request.target.as_str() {
        target if target.starts_with("/photos/") => s3_error(404, "NoSuchKey"),
        target if target.starts_with("/missing/") => s3_error(404, "NoSuchBucket"),
        target if target.starts_with("/closed/") => s3_error(403, "AccessDenied"),
        _ => Answer::status(404, "", ""),
    });
    let absent = WebServer::canary();
    let absent_authority = absent.place();
    drop(absent);
    let folder = TempDir::new().unwrap();
    let mut settings = settings(&server);
    settings.allow_buckets.extend(["s3://missing".to_owned(), "s3://closed".to_owned()]);
    settings.allow_private_hosts = vec![server.place(), absent_authority.clone()];
    settings.allow_http = true;
    // The check tries TLS first, which this server does not support.
    settings.connect_timeout = Duration::from_millis(200);
    settings.file_roots = vec![folder.path().to_owned()];
    let findings = Stores::new(&settings).unwrap().check().await;
    let mut verdicts: Vec<_> = findings
        .iter()
        .map(|finding| (finding.location.clone(), finding.problem.is_none()))
        .collect();
    verdicts.sort();
    let mut expected = vec![
        ("s3://photos".to_owned(), true),
        ("s3://missing".to_owned(), false),
        ("s3://closed".to_owned(), false),
        (server.place(), true),
        (absent_authority, false),
        (folder.path().display().to_string(), true),
    ];
    expected.sort();
    assert_eq!(verdicts, expected, "{findings:?}");
}

#[test]
fn fetch_and_check_are_send_futures() {
    fn assert_send<T: Send + 'static>(_: impl Fn(Stores) -> T) {}
    assert_send(|stores| async move { stores.fetch(&FetchRequest::new("s3://b/k")).await });
    assert_send(|stores| async move { stores.check().await });
}
