//! Keys with empty, `.` and `..` segments: read under their own names, with valid signatures.

use std::io::{BufRead, BufReader, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dog_iqa::storage::{AzureSettings, FetchRequest, S3Settings, Secret, Settings, Stores};
use sha2::{Digest, Sha256};

use crate::cli::{command, text};
use crate::models_pull::certificate;
use crate::storage_buckets::{fetch, s3_error, s3_object, settings};
use crate::web_server::{Request, WebServer};

/// Returns the signature that S3 computes for a request.
fn signature_of(request: &Request) -> String {
    let sent = request.header("authorization").unwrap();
    let (_, signed) = sent.split_once("SignedHeaders=").unwrap();
    let (signed, _) = signed.split_once(", Signature=").unwrap();
    let mut lines = vec![request.method.clone()];
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    lines.extend([path.to_owned(), query.to_owned()]);
    for name in signed.split(';') {
        lines.push(format!("{name}:{}", request.header(name).unwrap()));
    }
    lines.extend([String::new(), signed.to_owned()]);
    lines.push(request.header("x-amz-content-sha256").unwrap().to_owned());
    let date = request.header("x-amz-date").unwrap();
    let (day, _) = date.split_once('T').unwrap();
    let scope = format!("{day}/eu-west-1/s3/aws4_request");
    let canonical = hex::encode(Sha256::digest(lines.join("\n")));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let mut key = b"AWS4s3cret-key".to_vec();
    for part in [day, "eu-west-1", "s3", "aws4_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    hex::encode(hmac_sha256(&key, to_sign.as_bytes()))
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |byte: u8| block.map(|key| key ^ byte);
    let inner = Sha256::digest([&padded(0x36)[..], message].concat());
    Sha256::digest([&padded(0x5c)[..], &inner[..]].concat()).to_vec()
}

#[tokio::test]
async fn an_unusual_key_is_read_under_its_own_name_with_a_valid_signature() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let stores = Stores::new(&settings(&server)).unwrap();
    for (key, target) in [
        ("plain.jpg", "/photos/plain.jpg"),
        ("a//b c.jpg", "/photos/a//b%20c.jpg"),
        ("/a.jpg", "/photos//a.jpg"),
        ("a/", "/photos/a/"),
        ("//a?b//", "/photos///a%3Fb//"),
        ("a/../b ü.jpg", "/photos/a/../b%20%C3%BC.jpg"),
        ("./a.jpg", "/photos/./a.jpg"),
        ("a/..", "/photos/a/.."),
        ("a//./%2e%2e/?b#c", "/photos/a//./%252e%252e/%3Fb%23c"),
    ] {
        let uri = format!("s3://photos/{key}");
        let request = FetchRequest {
            etag: Some("v1"),
            version_id: Some("3/L4+x"),
            ..FetchRequest::new(&uri)
        };
        assert_eq!(stores.fetch(&request).await.unwrap().bytes, "abc", "{key}");
        let sent = server.requests().pop().unwrap();
        assert_eq!(sent.target, format!("{target}?versionId=3%2FL4%2Bx"));
        assert_eq!(sent.header("host"), Some(&*server.place()));
        assert_eq!(sent.header("if-match"), Some("\"v1\""));
        assert_eq!(sent.header("x-amz-security-token"), Some("s3cret-token"));
        assert!(sent.header("user-agent").unwrap().starts_with("dogiqa/"));
        let signature = sent.header("authorization").unwrap().rsplit_once('=').unwrap().1;
        assert_eq!(signature, signature_of(&sent), "{key}");
    }
}

#[tokio::test]
async fn an_unusual_key_is_read_without_a_signature_from_a_public_bucket() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let s3 = S3Settings { anonymous: true, ..settings(&server).s3 };
    let anonymous = Settings { s3, ..settings(&server) };
    for key in ["a//b", "a/../b"] {
        fetch(&anonymous, &format!("s3://photos/{key}")).await.unwrap();
        let sent = server.requests().pop().unwrap();
        assert_eq!(sent.target, format!("/photos/{key}"));
        assert_eq!(sent.header("authorization"), None);
    }
}

/// A server or a proxy that resolves the segments of a path must not reach another bucket.
#[tokio::test]
async fn a_key_that_would_leave_its_bucket_sends_no_request() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    for uri in [
        "s3://photos/../private/a.jpg",
        "s3://photos//..",
        "s3://photos/a/../../private/a.jpg",
        "s3://other/a/../b.jpg",
        "az://photos/a/../b.jpg",
    ] {
        assert!(fetch(&settings(&server), uri).await.is_err(), "{uri}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_bucket_may_be_part_of_the_host_of_an_unusual_key() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let endpoint = Some(format!("http://localhost:{}", server.port()));
    let s3 = S3Settings { virtual_hosted: true, endpoint, ..settings(&server).s3 };
    let settings = Settings { s3, ..settings(&server) };
    // Most systems resolve names below `localhost`. The others fail before the request.
    if fetch(&settings, "s3://photos/a/../b.jpg").await.is_ok() {
        let sent = server.requests().pop().unwrap();
        let host = format!("photos.localhost:{}", server.port());
        assert_eq!((sent.target.as_str(), sent.header("host")), ("/a/../b.jpg", Some(&*host)));
        let signature = sent.header("authorization").unwrap().rsplit_once('=').unwrap().1;
        assert_eq!(signature, signature_of(&sent));
    }
}

#[tokio::test]
async fn a_server_that_accepts_no_connection_is_given_up_in_time() {
    // It never answers the handshake.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = WebServer::canary();
    let endpoint = Some(format!("https://{}", silent.local_addr().unwrap()));
    let s3 = S3Settings { endpoint, ..settings(&server).s3 };
    let settings = Settings {
        s3,
        connect_timeout: Duration::from_millis(100),
        attempts_max: std::num::NonZeroU32::MIN,
        ..settings(&server)
    };
    for key in ["a.jpg", "a/../b.jpg"] {
        let error = fetch(&settings, &format!("s3://photos/{key}")).await.unwrap_err();
        assert_eq!(error.code(), "fetch.timeout");
        assert!(error.to_string().contains("storage.connect_timeout"), "{error}");
    }
}

/// Azure signs the path as it is sent: account, container and blob, percent-encoded.
#[tokio::test]
async fn an_unusual_name_of_a_blob_is_signed_as_azure_expects() {
    let server = WebServer::start(|_, _| s3_object("abc"));
    let key = [7; 32];
    let azure = AzureSettings {
        account: Some("shop".to_owned()),
        endpoint: Some(server.url("")),
        access_key: Some(Secret::new(BASE64_STANDARD.encode(key))),
        allow_http: true,
        ..AzureSettings::default()
    };
    let settings =
        Settings { allow_buckets: vec!["az://photos".to_owned()], azure, ..settings(&server) };
    for (name, target) in [
        ("plain.jpg", "/photos/plain.jpg"),
        ("a//b c.jpg", "/photos/a//b%20c.jpg"),
        ("/a", "/photos//a"),
        ("a/", "/photos/a/"),
    ] {
        let uri = format!("az://photos/{name}");
        assert_eq!(fetch(&settings, &uri).await.unwrap().bytes, "abc", "{name}");
        let sent = server.requests().pop().unwrap();
        assert_eq!(sent.target, target);
        let header = |name: &str| sent.header(name).unwrap_or_default();
        let version = header("x-ms-version");
        let signed = format!(
            "GET\n\n\n\n\n\n{}\n\n\n\n\n\nx-ms-version:{version}\n/shop{target}",
            header("date"),
        );
        let signature = BASE64_STANDARD.encode(hmac_sha256(&key, signed.as_bytes()));
        assert_eq!(header("authorization"), format!("SharedKey shop:{signature}"), "{name}");
    }
}

/// Starts a proxy that connects every client to one port of this machine. Returns its address and
/// the requests that it has received.
fn tunnel_to(port: u16) -> (String, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://user:pass@{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
            let head = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
            let Ok(()) = sender.send(head.collect::<Vec<_>>().join("\n")) else { return };
            let mut client = client;
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            spawn(move || copy(&mut up, &mut down));
            spawn(move || copy(&mut { server }, &mut client));
        }
    });
    (address, receiver)
}

#[test]
fn an_unusual_key_is_read_over_tls_and_through_the_proxy_of_the_environment() {
    let (tls, pem) = certificate();
    let server = WebServer::start_tls(tls, |_, _| s3_error(404, "NoSuchKey"));
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, pem).unwrap();
    let (proxy, tunnelled) = tunnel_to(server.port());
    for key in ["a.jpg", "a/../b.jpg"] {
        let score = |endpoint: &str, more: &[(&str, &str)]| {
            let mut command = command(&["score", &format!("s3://photos/{key}")]);
            command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "eu-west-1");
            command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", "s3cret-key");
            command.envs(more.iter().copied());
            text(&command.output().unwrap().stderr).to_owned()
        };
        let trusted = ("SSL_CERT_FILE", authority.to_str().unwrap());
        let direct = format!("https://localhost:{}", server.port());
        let refused = score(&direct, &[]);
        assert!(refused.contains("[fetch.unavailable]"), "{refused}");
        assert!(server.requests().is_empty() || key != "a.jpg");
        let answered = score(&direct, &[trusted]);
        assert!(answered.contains("[fetch.not_found]"), "{answered}");
        // Only the proxy knows this port.
        let through = [trusted, ("HTTPS_PROXY", proxy.as_str())];
        let answered = score("https://localhost:9", &through);
        assert!(answered.contains("[fetch.not_found]"), "{answered}");
        let connect = tunnelled.try_recv().unwrap();
        assert!(connect.starts_with("CONNECT localhost:9 "), "{connect}");
        assert!(connect.to_lowercase().contains("proxy-authorization: basic "), "{connect}");
        let sent = server.requests();
        assert!(sent.iter().rev().take(2).all(|it| it.target == format!("/photos/{key}")));
        let signed = sent.last().unwrap();
        let signature = signed.header("authorization").unwrap().rsplit_once('=').unwrap().1;
        assert_eq!(signature, signature_of(signed), "{key}");
    }
}
