//! URIs that try to reach forbidden locations.

use std::borrow::Cow;

use fastrand::Rng;

use super::campaign::{Bytes, Target, run};
use super::text::{disturbed, text};
use super::uri::{Locations, memory_max};

/// A password or a signature.
const SECRET: &str = "hunter2";

struct UriInput {
    uri: String,
    etag: Option<String>,
    /// True if the secret is in a part of the URI that messages must redact.
    has_secret: bool,
}

impl Bytes for UriInput {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(
            [&self.uri, "\0", self.etag.as_deref().unwrap_or_default()].concat().into_bytes(),
        )
    }
}

#[test]
fn hostile_uris() {
    let locations = Locations::new();
    let root = locations.root();
    run(&Target {
        name: "hostile_uris",
        cost: 1,
        generate: &|rng| uri_input(rng, &root),
        check: &|input: &UriInput| {
            let message = locations.check(&input.uri, input.etag.as_deref());
            let is_accepted = message.is_none();
            let shows = message.filter(|message| input.has_secret && message.contains(SECRET));
            assert_eq!(shows, None, "a message shows a secret");
            is_accepted
        },
        memory_max: &|input| memory_max(&input.uri, input.etag.as_deref()),
    });
}

fn uri_input(rng: &mut Rng, root: &str) -> UriInput {
    const ETAGS: [&str; 6] = ["abc", "W/\"abc\"", "\"", "0", "", "\u{85}\u{85}"];
    let has_secret = rng.u8(..4) == 0;
    let mut uri = match rng.u8(..8) {
        0..3 => file(rng, root),
        3 => object(rng),
        4 => text(rng),
        _ => web(rng, has_secret),
    };
    let is_disturbed = rng.bool();
    if is_disturbed {
        for _ in 0..rng.u8(1..4) {
            uri = disturbed(rng, &uri);
        }
    }
    let etag = match rng.u8(..8) {
        0 => Some(text(rng)),
        1 => Some(ETAGS[rng.usize(..ETAGS.len())].to_owned()),
        _ => None,
    };
    UriInput { uri, etag, has_secret: has_secret && !is_disturbed }
}

fn file(rng: &mut Rng, root: &str) -> String {
    const STARTS: [&str; 7] = [
        "file://",
        "file:",
        "FILE://localhost",
        "file://LOCALHOST",
        "file:///",
        "file:////",
        "file://host",
    ];
    const STEPS: [&str; 16] = [
        "cat.jpg",
        "a b",
        "a%20b",
        "é.jpg",
        "%C3%A9.jpg",
        "..",
        "%2e%2e",
        "%2E.",
        ".",
        "",
        "out",
        "up",
        "loop",
        "in",
        "secret",
        "%252e",
    ];
    let start = STARTS[rng.usize(..STARTS.len()).min(rng.usize(..STARTS.len()))];
    let mut uri = format!("{start}{root}");
    for _ in 0..rng.u8(..5) {
        uri.push_str(if rng.u8(..12) == 0 { "%2f" } else { "/" });
        uri.push_str(STEPS[rng.usize(..STEPS.len())]);
    }
    uri
}

fn object(rng: &mut Rng) -> String {
    const BUCKETS: [&str; 8] =
        ["photos", "Photos", "photos.", "me@photos", "photos:80", "private", "photos%2f", "phоtos"];
    const KEYS: [&str; 8] =
        ["cat.jpg", "a/b.jpg", "../private/x", "a//b", "./a", "a?versionId=1", "%2e%2e/x", "a/"];
    let scheme = ["s3", "S3", "gs", "az"][rng.usize(..4).min(rng.usize(..4))];
    let bucket = BUCKETS[rng.usize(..BUCKETS.len()).min(rng.usize(..BUCKETS.len()))];
    format!("{scheme}://{bucket}/{}", KEYS[rng.usize(..KEYS.len())])
}

fn web(rng: &mut Rng, has_secret: bool) -> String {
    const HOSTS: [&str; 26] = [
        "images.example.com",
        "images.example.com:8443",
        "IMAGES.EXAMPLE.COM:443",
        "images.example.com.",
        "images.example.com:80",
        "bücher.example",
        "BÜCHER.example",
        "xn--bcher-kva.example",
        "images。example。com",
        "ｉｍａｇｅｓ.example.com",
        "images.example.com%00.evil.example",
        "images.example.com\\@evil.example",
        "evil.example#@images.example.com",
        "evil.example",
        "10.1.2.3:8080",
        "10.1.2.3",
        "0x0a.1.2.3:8080",
        "167838211:8080",
        "127.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:10.1.2.3]:8080",
        "[fe80::1%25eth0]",
        "[2001:db8::1]",
        "169.254.169.254",
        "localhost",
    ];
    const SLASHES: [&str; 4] = ["//", "/", "\\\\", "///"];
    let scheme = ["https", "HTTPS", "http", "ftp"][rng.usize(..4).min(rng.usize(..4))];
    let slashes = SLASHES[rng.usize(..4).min(rng.usize(..4)).min(rng.usize(..4))];
    let host = HOSTS[rng.usize(..HOSTS.len())];
    if !has_secret {
        return format!("{scheme}:{slashes}{host}/a/../b?c=d#e");
    }
    if rng.bool() {
        format!("{scheme}:{slashes}me:{SECRET}@{host}/a.jpg")
    } else {
        format!("{scheme}:{slashes}{host}/a.jpg?signature={SECRET}")
    }
}
