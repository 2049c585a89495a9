//! References that must not be fetched. The settings allow one server on loopback, one folder and
//! one bucket. Canary servers listen at the targets of the attacks, and must not receive a
//! connection.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::storage::{FetchRequest, S3Settings, Secret, Settings, Stores};
use serde_json::json;
use tempfile::TempDir;

use crate::cli::{command, text};
use crate::stream::{Record, Scene, header};
use crate::web_server::{Answer, WebServer};

/// Hosts that are 127.0.0.1, or resolve or translate to it.
const LOOPBACK: &str = "127.0.0.1 127.1 127.0.1 127.0.0.1. 2130706433 0x7f000001 0x7f.1 0X7F.0X0.0.1 \
    0177.0.0.1 017700000001 00000177.1 0 0x0 0.0.0.0 %31%32%37.0.0.1 127%2e0%2E0.1 1２7.0.0.1 \
    １２７.０.０.１ 127。0。0。1 127．0．0．1 ①②⑦.0.0.1 [::ffff:127.0.0.1] [::FFFF:7f00:1] \
    [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] \
    [64:ff9b:1::7f00:1] [2002:7f00:1::] [2001:0:7f00:1::] localhost. LOCALHOST. 127.0.0.1.nip.io \
    localhost.localdomain localtest.me";

/// Hosts that are `::1`.
const LOOPBACK_V6: &str = "[::1] [0:0:0:0:0:0:0:1] [0000::0001] [::0.0.0.1] [::] ip6-localhost";

/// Hosts of the machine's own networks, and public hosts that no list allows.
const ELSEWHERE: &str = "169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.43518 \
    [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [fd00:ec2::254] metadata.google.internal metadata \
    10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.257 100.64.0.1 \
    100.127.255.255 127.255.255.254 192.0.0.8 192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 \
    198.19.255.255 192.88.99.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 0.1.2.3 [fe80::1] \
    [febf::1] [fec0::1] [fc00::1] [fdff::1] [ff02::1] [ff05::1:3] [2001:db8::1] [2001::1] \
    [2001:20::1] [3fff::1] [5f00::1] [100::1] [2002:a00:1::1] [2002:c0a8:1::1] [64:ff9b::a00:1] \
    [::ffff:10.0.0.1] [::ffff:8.8.8.8] 1.1.1.1 [2606:4700::1111] example.com photos.example \
    images.example.com.evil.example evil-images.example.com images.example.com. \
    xn--mages-8fa.example.com";

/// Malformed URLs. `PORT` is a canary's.
const MALFORMED: [&str; 26] = [
    "http://images.example.com@127.0.0.1:PORT/",
    "http://images.example.com:80@127.0.0.1:PORT/",
    "http://images.example.com%40x@127.0.0.1:PORT/",
    "http://me:pw@localhost:PORT/",
    "http://:pw@localhost:PORT/",
    "http://a@b@127.0.0.1:PORT/",
    "http://[fe80::1%25eth0]:PORT/",
    "http://[fe80::1%eth0]:PORT/",
    "http://[::1%lo]:PORT/",
    "http://[::1:PORT/",
    "http://[127.0.0.1]:PORT/",
    "http://256.0.0.1:PORT/",
    "http://127.0.0.1.1:PORT/",
    "http://0x7f.0x0.0x0.0x0.0x1:PORT/",
    "http://127.0.0.1:99999/",
    "http://localhost%00.images.example.com:PORT/",
    "http://127.0.0.1 images.example.com:PORT/",
    "http://127.0.0.1:PORT/\t",
    "http://127.0.0.1\t:PORT/",
    "ht\ntp://127.0.0.1:PORT/",
    " http://127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:\\\\127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "127.0.0.1:PORT/",
];

/// URLs whose host differs from the apparent one.
const DISGUISED: [&str; 10] = [
    "http://127.0.0.1:PORT#@images.example.com/",
    "http://127.0.0.1:PORT?@images.example.com/",
    "http://127.0.0.1:PORT/@images.example.com/",
    "http://127.0.0.1:PORT\\@images.example.com/",
    "http://127.0.0.1:PORT\\.images.example.com/",
    "http:///127.0.0.1:PORT/",
    "http://///127.0.0.1:PORT/",
    "http://\\127.0.0.1:PORT/",
    "HTTP://127.0.0.1:PORT/",
    // The list has this host by its name, but it resolves to an address that is not public.
    "http://localhost:PORT\\@127.0.0.1:PORT/",
];

/// Schemes that other clients support.
const SCHEMES: [&str; 20] = [
    "gopher://127.0.0.1:PORT/_GET%20/",
    "ftp://127.0.0.1:PORT/a.jpg",
    "ftps://127.0.0.1:PORT/a.jpg",
    "sftp://127.0.0.1:PORT/a.jpg",
    "dict://127.0.0.1:PORT/d:x",
    "ldap://127.0.0.1:PORT/x",
    "tftp://127.0.0.1:PORT/x",
    "ws://127.0.0.1:PORT/x",
    "smb://127.0.0.1/photos/a.jpg",
    "jar:http://127.0.0.1:PORT/a!/b.jpg",
    "netdoc:///etc/passwd",
    "view-source:http://127.0.0.1:PORT/",
    "blob:http://127.0.0.1:PORT/x",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "php://filter/resource=/etc/passwd",
    "s3a://photos/a.jpg",
    "s3n://photos/a.jpg",
    "abfs://photos/a.jpg",
    "memory://photos/a.jpg",
];

/// Names similar to that of the allowed bucket `photos`.
const LOOK_ALIKES: &str = "s3://photos-/a s3://-photos/a s3://photos./a s3://.photos/a s3://Photos/a \
    s3://PHOTOS/a s3://photo/a s3://photoss/a s3://photos2/a s3://ph0tos/a s3://my.photos/a \
    s3://photos.private/a s3://photos-private/a s3://photos.evil.example/a s3://photos_/a s3://private/a \
    s3://../a s3://./a gs://photos/a az://photos/a S3://private/a";

/// Invalid bucket names. `рhotos` starts with a Cyrillic letter, `ｐhotos` with a full-width one.
const NO_BUCKETS: [&str; 22] = [
    "s3://photos%2f..%2fprivate/a",
    "s3://photos%00/a",
    "s3://ph%6ftos/a",
    "s3://photos@evil/a",
    "s3://evil@photos/a",
    "s3://key:secret@photos/a",
    "s3://photos:443/a",
    "s3://photos\\private/a",
    "s3://рhotos/a",
    "s3://ｐhotos/a",
    "s3://photos\u{200b}/a",
    "s3://photos\u{301}/a",
    "s3://photos /a",
    "s3://photos\n/a",
    "s3://photos?private/a",
    "s3://photos#private/a",
    "s3://photos,private/a",
    "s3://",
    "s3:///photos/a",
    "s3:/photos/a",
    "s3:photos/a",
    "s3://photos",
];

/// Keys that lead out of their bucket where a server resolves `..`.
const PARENT_KEYS: &str = "s3://photos/../private/x s3://photos/a/../../private/x s3://photos/.. \
    s3://photos/./../private/x s3://photos//../private/x s3://photos/a//../.. s3://photos/../";

/// A reference that must be refused with this code.
struct Attack {
    uri: String,
    code: &'static str,
}

/// The allowed locations, the canaries, and the attacks.
struct AttackFixture {
    folder: TempDir,
    /// Servers that must not receive a connection.
    canaries: Vec<WebServer>,
    /// The server that may be read. `/<number>` redirects to the target of redirect `number`.
    allowed_server: WebServer,
    attacks: Vec<Attack>,
    _socket: UnixListener,
}

impl AttackFixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = create_folder(folder.path());
        let mut canaries = vec![WebServer::canary(), WebServer::canary()];
        // Some machines have no IPv6.
        let answer = |_: &_, _: usize| Answer::ok("the canary was read");
        canaries.extend(WebServer::start_at(Ipv6Addr::LOCALHOST.into(), answer));
        let (port, port_v6) = (canaries[0].port(), canaries.last().unwrap().port());

        let mut attacks = web_attacks(port, port_v6);
        let redirects = redirects(port, port_v6);
        let locations: Vec<_> = redirects.iter().map(|attack| attack.uri.clone()).collect();
        let allowed_server =
            WebServer::start(move |request, _| allowed_server_answer(&request.target, &locations));
        attacks.extend(redirects.iter().enumerate().map(|(number, redirect)| Attack {
            uri: allowed_server.url(&format!("/{number}")),
            code: redirect.code,
        }));
        attacks
            .push(Attack { uri: allowed_server.url("/again"), code: "fetch.too_many_redirects" });
        attacks.extend(file_attacks(folder.path()));
        attacks.extend(bucket_attacks());
        Self { folder, canaries, allowed_server, attacks, _socket: socket }
    }

    /// Allows the server, the folder `photos` and the bucket `photos`. A canary is the bucket's
    /// endpoint.
    fn settings(&self) -> Settings {
        let listed = format!("localhost:{}", self.canaries[0].port());
        Settings {
            allow_buckets: vec!["s3://photos".to_owned()],
            allow_hosts: vec!["images.example.com".to_owned(), listed],
            allow_private_hosts: vec![self.allowed_server.place()],
            allow_http: true,
            file_roots: vec![self.root()],
            bytes_max: ByteSize(1000),
            backoff_base: Duration::ZERO,
            s3: S3Settings {
                endpoint: Some(self.canaries[1].url("")),
                region: Some("eu-west-1".to_owned()),
                allow_http: true,
                access_key_id: Some("AKIATEST".to_owned()),
                secret_access_key: Some(Secret::new("s3cret")),
                ..S3Settings::default()
            },
            ..Settings::default()
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("photos")
    }

    fn assert_no_canary_was_reached(&self) {
        for canary in &self.canaries {
            let targets: Vec<_> =
                canary.requests().into_iter().map(|request| request.target).collect();
            assert_eq!((canary.connections(), &targets[..]), (0, &[][..]), "{}", canary.place());
        }
    }
}

/// Creates a folder `photos` with every kind of file in it, and secrets next to it.
fn create_folder(folder: &Path) -> UnixListener {
    let root = folder.join("photos");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir(folder.join("photos-private")).unwrap();
    fs::write(root.join("a.jpg"), "abc").unwrap();
    for secret in ["secret", "photos-private/secret"] {
        fs::write(folder.join(secret), "the secret was read").unwrap();
    }
    for (target, link) in [
        ("../secret", "to-secret"),
        ("..", "to-folder"),
        ("sub/../../secret", "by-way-of-sub"),
        ("/etc/passwd", "to-passwd"),
        ("/dev/zero", "to-zero"),
        ("/proc/self/environ", "to-environ"),
        ("to-secret", "to-link"),
        ("../to-secret", "sub/to-link"),
        ("loop", "loop"),
        ("pipe", "to-pipe"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    symlink(folder.join("secret"), root.join("absolute")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    UnixListener::bind(root.join("socket")).unwrap()
}

fn allowed_server_answer(target: &str, locations: &[String]) -> Answer {
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    match target.trim_start_matches('/').parse::<usize>() {
        Ok(number) => Answer::redirect(STATUSES[number % STATUSES.len()], &locations[number]),
        Err(_) if target == "/again" => Answer::redirect(302, "/again"),
        Err(_) if target == "/photo" => Answer::ok("abc"),
        Err(_) => Answer::status(404, "", ""),
    }
}

fn web_attacks(port: u16, port_v6: u16) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let mut add = |code, uri: &str| {
        attacks.push(Attack { uri: uri.replace("PORT", &port.to_string()), code });
    };
    for (scheme, host) in
        schemes_and(LOOPBACK).chain(schemes_and("localhost %6cOCALHOST ⓛocalhost"))
    {
        add("uri.forbidden_host", &format!("{scheme}://{host}:PORT/a.jpg"));
    }
    for (scheme, host) in schemes_and(LOOPBACK_V6) {
        add("uri.forbidden_host", &format!("{scheme}://{host}:{port_v6}/a.jpg"));
    }
    for (scheme, host) in schemes_and(ELSEWHERE) {
        add("uri.forbidden_host", &format!("{scheme}://{host}/latest/meta-data/"));
    }
    // The list has this name only with the default ports.
    add("uri.forbidden_host", "http://images.example.com:PORT/");
    for (code, uris) in [
        ("uri.forbidden_host", &DISGUISED[..]),
        ("uri.invalid", &MALFORMED),
        ("uri.unsupported_scheme", &SCHEMES),
    ] {
        for uri in uris {
            add(code, uri);
        }
    }
    attacks
}

fn schemes_and(hosts: &str) -> impl Iterator<Item = (&'static str, &str)> {
    hosts.split_whitespace().flat_map(|host| ["http", "https"].map(|scheme| (scheme, host)))
}

/// Returns the redirects of the allowed server.
fn redirects(port: u16, port_v6: u16) -> Vec<Attack> {
    let mut redirects = Vec::new();
    let mut add = |code, location: &str| {
        redirects.push(Attack { uri: location.replace("PORT", &port.to_string()), code });
    };
    let is_ascii = |host: &&str| host.is_ascii();
    for host in LOOPBACK.split_whitespace().filter(is_ascii).chain(["localhost"]) {
        add("uri.forbidden_host", &format!("http://{host}:PORT/"));
        add("uri.forbidden_host", &format!("//{host}:PORT/"));
    }
    for host in LOOPBACK_V6.split_whitespace() {
        add("uri.forbidden_host", &format!("http://{host}:{port_v6}/"));
    }
    for host in ELSEWHERE.split_whitespace() {
        add("uri.forbidden_host", &format!("https://{host}/latest/meta-data/"));
    }
    for location in [
        "\\\\127.0.0.1:PORT/",
        "/\\127.0.0.1:PORT/",
        "http:///127.0.0.1:PORT/",
        "http:\\\\127.0.0.1:PORT/",
        "http://127.0.0.1:PORT\\@images.example.com/",
        "http://127.0.0.1:PORT#@images.example.com/",
    ] {
        add("uri.forbidden_host", location);
    }
    for location in [
        "http://me:pw@127.0.0.1:PORT/",
        "//images.example.com@127.0.0.1:PORT/",
        "http://images.example.com:80@127.0.0.1:PORT/",
    ] {
        add("uri.invalid", location);
    }
    for location in [
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "gopher://127.0.0.1:PORT/",
        "ftp://127.0.0.1:PORT/a.jpg",
        "data:image/png;base64,iVBORw0KGgo=",
        "jar:http://127.0.0.1:PORT/a!/b",
        "javascript:alert(1)",
        "s3://photos/a.jpg",
    ] {
        add("uri.unsupported_scheme", location);
    }
    for location in
        ["http://", "http://[::1", "http://127.0.0.1:99999/", "http://%00/", "///127.0.0.1:PORT/"]
    {
        add("fetch.unexpected_answer", location);
    }
    // Without slashes this is a relative path on the allowed server.
    add("fetch.not_found", "http:127.0.0.1:PORT/");
    redirects
}

fn file_attacks(folder: &Path) -> Vec<Attack> {
    let root = folder.join("photos");
    let (root, folder) = (root.to_str().unwrap(), folder.to_str().unwrap());
    let mut attacks = Vec::new();
    let mut add = |code, uris: &[&str]| {
        let expand = |uri: &&str| uri.replace("ROOT", root).replace("FOLDER", folder);
        attacks.extend(uris.iter().map(|uri| Attack { uri: expand(uri), code }));
    };
    let outside = [
        "file://FOLDER/secret file://FOLDER/photos-private/secret file://FOLDER file:///",
        "file://ROOT/../secret file://ROOT/%2e%2e/secret file://ROOT/.%2E/secret",
        "file://ROOT/..%2Fsecret file://ROOT%2f..%2fsecret file://ROOT/sub/../../secret",
        "file:ROOT/../secret file://localhostROOT/../secret file://ROOT/sub/..%2f..%2fsecret",
        "file:///etc/passwd file:////etc/passwd file:///%65tc/passwd FILE:/etc/passwd",
        "file:///dev/zero file:///dev/stdin file:///proc/self/environ file:///proc/1/root/etc/passwd",
        "file:///sys/kernel/notes file:///proc/self/cwd/Cargo.toml",
        "file://ROOT/to-secret file://ROOT/to-folder/secret file://ROOT/by-way-of-sub",
        "file://ROOT/to-passwd file://ROOT/to-zero file://ROOT/to-environ file://ROOT/to-link",
        "file://ROOT/sub/to-link file://ROOT/absolute file://ROOT/to-folder/photos-private/secret",
    ];
    for uris in outside {
        add("uri.outside_roots", &uris.split(' ').collect::<Vec<_>>());
    }
    let upper = format!("file://{}/a.jpg", root.to_uppercase());
    add("uri.outside_roots", &[&upper]);
    add(
        "fetch.not_found",
        // A URI is decoded once, and a backslash is part of a file name.
        &["file://ROOT/%252e%252e/secret", "file://ROOT/..%5Csecret", "file://ROOT/..\\secret"],
    );
    add(
        "uri.invalid",
        &[
            "file://evil.example/ROOT/a.jpg",
            "file://127.0.0.1ROOT/a.jpg",
            "file://localhost:80ROOT/a.jpg",
            "file://me@localhostROOT/a.jpg",
            "file:a.jpg",
            "file:../secret",
            "file://../secret",
            "file://ROOT/a.jpg%00.png",
            "file://ROOT/%2",
            "file://ROOT/a.jpg?x",
            "file://ROOT/a.jpg#x",
            "ROOT/a.jpg",
        ],
    );
    let others = ["file://ROOT/pipe", "file://ROOT/to-pipe", "file://ROOT/socket"];
    add("fetch.not_a_file", &others);
    add(
        "fetch.not_a_file",
        &["file://ROOT", "file://ROOT/sub", "file://ROOT/sub/", "file://ROOT/loop"],
    );
    // Creating a device file needs root.
    let device = Path::new(root).join("zero");
    let made = Command::new("mknod").arg(&device).args(["c", "1", "5"]).output();
    if made.is_ok_and(|output| output.status.success()) {
        add("fetch.not_a_file", &["file://ROOT/zero"]);
    }
    attacks
}

fn bucket_attacks() -> Vec<Attack> {
    let attack = |code| move |uri: &str| Attack { uri: uri.to_owned(), code };
    let forbidden = LOOK_ALIKES.split_whitespace().map(attack("uri.forbidden_bucket"));
    let invalid = NO_BUCKETS.into_iter().map(attack("uri.invalid"));
    let parents = PARENT_KEYS.split_whitespace().map(attack("fetch.unsupported_key"));
    let control = ["s3://photos/a\nb", "s3://photos/\0", "s3://photos/a\u{85}b"];
    let control = control.into_iter().map(attack("fetch.unsupported_key"));
    forbidden.chain(invalid).chain(parents).chain(control).collect()
}

#[tokio::test]
async fn only_allowed_locations_are_read_and_no_other_server_is_reached() {
    let fixture = AttackFixture::new();
    let stores = Stores::new(&fixture.settings()).unwrap();
    let read = async |uri: &str| stores.fetch(&FetchRequest::new(uri)).await;
    // The allowed locations can be read, so the refusals below are not due to a broken fixture.
    for uri in
        [fixture.allowed_server.url("/photo"), format!("file://{}/a.jpg", fixture.root().display())]
    {
        assert_eq!(read(&uri).await.unwrap().bytes, "abc");
    }
    let mut faults = String::new();
    for Attack { uri, code } in &fixture.attacks {
        let outcome = read(uri).await;
        let is_right =
            outcome.as_ref().is_err_and(|error| error.code() == *code && !error.is_transient());
        if !is_right {
            writeln!(faults, "{uri:?} is not {code}: {outcome:?}").unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
    fixture.assert_no_canary_was_reached();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_becomes_a_dead_letter_with_its_code() {
    let fixture = AttackFixture::new();
    let mut scene = Scene::new(1).await;
    scene.storage = fixture.settings();
    // The worker has a bucket of the same name in memory, which no attack may reach either.
    let records = fixture.attacks.iter().enumerate().map(|(number, attack)| Record {
        key: Some(number.to_string().into_bytes()),
        payload: Some(json!({"uri": attack.uri}).to_string().into_bytes()),
        ..Record::default()
    });
    scene.write(records.collect()).await;
    let worker = scene.start().await;
    let dead_letters = scene.dead_letters(fixture.attacks.len()).await;
    let summary = worker.stop().await;
    assert_eq!((summary.events, summary.unanswered), (0, 0));
    assert_eq!(dead_letters.len(), fixture.attacks.len());
    for letter in &dead_letters {
        let key = str::from_utf8(rdkafka::Message::key(letter).unwrap()).unwrap();
        let Attack { uri, code } = &fixture.attacks[key.parse::<usize>().unwrap()];
        assert_eq!(header(letter, "dogiqa.error.code").as_deref(), Some(*code), "{uri:?}");
    }
    fixture.assert_no_canary_was_reached();
}

/// A URI on the command line allows its own location, and no other.
#[test]
fn score_reads_only_the_given_location_and_uses_no_proxy() {
    let fixture = AttackFixture::new();
    let proxy = fixture.canaries[0].url("");
    let root = fixture.root();
    let root = root.display();
    for (uri, code) in [
        (fixture.allowed_server.url("/0"), "uri.forbidden_host"),
        (fixture.allowed_server.url("/again"), "fetch.too_many_redirects"),
        (format!("file://{root}/to-secret"), "uri.outside_roots"),
        (format!("file://{root}/to-zero"), "uri.outside_roots"),
        (format!("file://{root}/pipe"), "fetch.not_a_file"),
    ] {
        let mut score = command(&["score", &uri]);
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
            score.env(variable, &proxy);
        }
        let output = score.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{uri}");
        let errors = text(&output.stderr);
        assert!(errors.contains(&format!("[{code}]")), "{uri}: {errors}");
    }
    for uri in [format!("file://{root}/../secret"), "http://a@127.0.0.1/".to_owned()] {
        assert_eq!(command(&["score", &uri]).output().unwrap().status.code(), Some(1), "{uri}");
    }
    fixture.assert_no_canary_was_reached();
}

/// A hard link cannot be distinguished from the file. Users who can create one below a root decide
/// which files are read, as SECURITY.md states.
#[tokio::test]
async fn a_hard_link_below_a_root_is_read() {
    let fixture = AttackFixture::new();
    fs::hard_link(fixture.folder.path().join("secret"), fixture.root().join("hard")).unwrap();
    let stores = Stores::new(&fixture.settings()).unwrap();
    let uri = format!("file://{}/hard", fixture.root().display());
    assert!(stores.fetch(&FetchRequest::new(&uri)).await.is_ok());
}
