//! A Hugging Face Hub on loopback: the paths, headers and redirects of the real one, with files in
//! memory.
//!
//! As the real one it compresses documents and small files for each client that does not forbid it,
//! redirects to relative paths, and links large files with signed addresses elsewhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::ServerConfig;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::web_server::{Answer, Request, WebServer, head};

/// The commit of every branch.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Larger files have a SHA-256 as entity tag and are served elsewhere, as with Git LFS.
const LARGE_BYTES: usize = 20_000;

/// The form of a file's bytes on the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The requested range with its length.
    #[default]
    Ranges,
    /// The whole file with its length, whatever range is requested.
    Whole,
    /// The whole file in chunks without any length.
    Chunked,
    /// Compressed even for a client that forbids it.
    Compressed,
}

/// A fault of the first requests with a word in their target.
#[derive(Clone)]
struct Fault {
    word: String,
    answer: Answer,
    times: usize,
}

/// Counts what a running server has done.
#[derive(Default)]
struct Counts {
    /// Answers of each fault.
    faults: BTreeMap<usize, usize>,
    /// Uses of each signature.
    signatures: BTreeMap<String, usize>,
    signed: usize,
}

/// A repository `owner/model` with these files.
#[derive(Clone, Default)]
pub(crate) struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    /// A file whose bytes do not match its digest.
    damaged: Option<String>,
    /// A file whose connection closes after this number of bytes, unless a range is requested.
    cut: Option<(String, usize)>,
    /// The required token. `None` allows every request.
    token: Option<String>,
    /// Another server, which has the large files.
    elsewhere: Option<String>,
    /// The value of every digest, if the Hub reports wrong ones.
    lie: Option<String>,
    delivery: Delivery,
    /// The form of entity tags, with `{}` for the digest.
    tag: Option<String>,
    /// Another Hub, to which every request is redirected.
    moved: Option<String>,
    /// Uses after which a signed address is refused.
    signature_uses_max: Option<usize>,
    /// Files and the sizes that the Hub states for them.
    claims: BTreeMap<String, u64>,
    /// True if the server speaks TLS.
    has_tls: bool,
    faults: Vec<Fault>,
}

impl Repository {
    pub(crate) fn with(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.files.insert(name.to_owned(), bytes);
        self
    }

    pub(crate) fn with_file(self, name: &str, path: &Path) -> Self {
        self.with(name, std::fs::read(path).unwrap())
    }

    pub(crate) fn damaged(mut self, name: &str) -> Self {
        self.damaged = Some(name.to_owned());
        self
    }

    pub(crate) fn cut(mut self, name: &str, after: usize) -> Self {
        self.cut = Some((name.to_owned(), after));
        self
    }

    pub(crate) fn gated(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Allows every request.
    pub(crate) fn public(mut self) -> Self {
        self.token = None;
        self
    }

    /// Serves large files from another server.
    pub(crate) fn elsewhere(mut self, authority: String) -> Self {
        self.elsewhere = Some(authority);
        self
    }

    /// Reports this digest for every file.
    pub(crate) fn lying(mut self, digest: &str) -> Self {
        self.lie = Some(digest.to_owned());
        self
    }

    /// Returns the Hub's digest of a file: SHA-256 for a large one, else git's SHA-1.
    pub(crate) fn digest(&self, name: &str) -> String {
        let bytes = &self.files[name];
        if bytes.len() > LARGE_BYTES {
            return hex::encode(Sha256::digest(bytes));
        }
        let head = format!("blob {}\0", bytes.len());
        hex::encode(Sha1::new().chain_update(head).chain_update(bytes).finalize())
    }

    pub(crate) fn delivered(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Writes entity tags in this form, with `{}` for the digest.
    pub(crate) fn tagged(mut self, form: &str) -> Self {
        self.tag = Some(form.to_owned());
        self
    }

    /// Redirects every request to the same path of another Hub.
    pub(crate) fn moved(mut self, origin: &str) -> Self {
        self.moved = Some(origin.to_owned());
        self
    }

    /// Refuses a signed address after this number of uses.
    pub(crate) fn expiring(mut self, uses_max: usize) -> Self {
        self.signature_uses_max = Some(uses_max);
        self
    }

    /// States this size for a file.
    pub(crate) fn claiming(mut self, name: &str, bytes: u64) -> Self {
        self.claims.insert(name.to_owned(), bytes);
        self
    }

    /// Gives this answer to the first requests with a word in their target.
    pub(crate) fn failing(mut self, word: &str, answer: Answer, times: usize) -> Self {
        self.faults.push(Fault { word: word.to_owned(), answer, times });
        self
    }

    /// Serves the repository under every owner and name.
    pub(crate) fn serve(self) -> WebServer {
        let counts = Mutex::new(Counts::default());
        WebServer::start(move |request, _| self.answer(request, &mut counts.lock().unwrap()))
    }

    /// As `serve`, with TLS.
    pub(crate) fn serve_tls(mut self, tls: Arc<ServerConfig>) -> WebServer {
        self.has_tls = true;
        let counts = Mutex::new(Counts::default());
        let answer = move |request: &Request, _| self.answer(request, &mut counts.lock().unwrap());
        WebServer::start_tls(tls, answer)
    }

    fn answer(&self, request: &Request, counts: &mut Counts) -> Answer {
        // A proxy receives the whole address.
        let target = request.target.trim_start_matches("http://");
        let target = target.split_once('/').map_or("", |(_, target)| target);
        for (index, fault) in self.faults.iter().enumerate() {
            let count = counts.faults.entry(index).or_default();
            if target.contains(&fault.word) && *count < fault.times {
                *count += 1;
                return fault.answer.clone();
            }
        }
        if let Some(origin) = &self.moved {
            return Answer::redirect(308, &format!("{origin}/{target}"));
        }
        let authorization = request.header("authorization").unwrap_or_default();
        if self.token.as_ref().is_some_and(|token| authorization != format!("Bearer {token}")) {
            return Answer::status(401, "", "{\"error\": \"gated\"}");
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.split('/').collect();
        match &parts[..] {
            ["api", "models", owner, name, "revision", "main" | "v1" | COMMIT] => {
                self.document(request, &format!("{owner}/{name}"), query == "blobs=true")
            }
            ["api", "models", _, _, "tree", COMMIT] => self.tree(),
            [_, _, "resolve", COMMIT, name] if self.files.contains_key(*name) => {
                self.resolve(request, path, name, counts)
            }
            ["api", "resolve-cache", .., COMMIT, name] => {
                let headers = format!("x-repo-commit: {COMMIT}\r\netag: {}\r\n", self.tag(name));
                self.bytes(request, name, &headers)
            }
            ["cdn", name] => {
                let uses = counts.signatures.entry(query.to_owned()).or_default();
                *uses += 1;
                if self.signature_uses_max.is_some_and(|uses_max| *uses > uses_max) {
                    return Answer::status(403, "", "<Error>Request has expired</Error>");
                }
                self.bytes(request, name, "")
            }
            _ => Answer::status(404, "", "{\"error\": \"not found\"}"),
        }
    }

    /// Describes the revision, with sizes and digests on request.
    fn document(&self, request: &Request, id: &str, with_blobs: bool) -> Answer {
        let sibling = |(name, bytes): (&String, &Vec<u8>)| {
            let size = self.claims.get(name).copied().unwrap_or(bytes.len() as u64);
            if !with_blobs {
                return serde_json::json!({"rfilename": name});
            }
            let lfs = (bytes.len() > LARGE_BYTES)
                .then(|| serde_json::json!({"sha256": self.digest(name), "size": size}));
            let blob = "e".repeat(40);
            serde_json::json!({"rfilename": name, "size": size, "blobId": blob, "lfs": lfs})
        };
        let siblings: Vec<_> = self.files.iter().map(sibling).collect();
        let info = serde_json::json!({"id": id, "sha": COMMIT, "siblings": siblings}).to_string();
        if accepts_gzip(request) {
            return compressed("", info.as_bytes());
        }
        if self.delivery == Delivery::Chunked {
            return chunked("", info.as_bytes());
        }
        Answer::ok(info)
    }

    /// Lists the files of the commit.
    fn tree(&self) -> Answer {
        let entry = |(name, bytes): (&String, &Vec<u8>)| {
            let size = bytes.len();
            let mut entry = serde_json::json!({
                "type": "file", "path": name, "size": size, "oid": "e".repeat(40),
            });
            if size > LARGE_BYTES {
                entry["lfs"] = serde_json::json!({
                    "oid": self.digest(name), "size": size, "pointerSize": 134,
                });
            }
            entry
        };
        let entries: Vec<_> = self.files.iter().map(entry).collect();
        Answer::ok(serde_json::json!(entries).to_string())
    }

    /// Redirects to a cache on the Hub, or to the storage of large files.
    fn resolve(&self, request: &Request, path: &str, name: &str, counts: &mut Counts) -> Answer {
        let len = self.files[name].len();
        let tag = self.tag(name);
        if len <= LARGE_BYTES {
            let path = path.replace("/resolve/", "/");
            let location = format!("Location: /api/resolve-cache/models/{path}\r\n");
            return Answer::status(307, &location, "Temporary Redirect");
        }
        counts.signed += 1;
        let headers = format!(
            "x-repo-commit: {COMMIT}\r\nx-linked-etag: {tag}\r\nx-linked-size: {len}\r\n\
             x-xet-hash: {hash}\r\n\
             Link: <https://xet.example/auth>; rel=\"xet-auth\", <https://xet.example/{hash}>; rel=\"xet-reconstruction-info\"\r\n\
             Location: {scheme}://{host}/cdn/{name}?signature={signature}\r\n",
            scheme = if self.has_tls { "https" } else { "http" },
            hash = "f".repeat(64),
            host = self.elsewhere.as_deref().unwrap_or_else(|| request.header("host").unwrap()),
            signature = counts.signed,
        );
        Answer::status(302, &headers, "")
    }

    /// Returns the entity tag of a file.
    fn tag(&self, name: &str) -> String {
        let digest = self.lie.clone().unwrap_or_else(|| self.digest(name));
        self.tag.as_deref().unwrap_or("\"{}\"").replace("{}", &digest)
    }

    /// Returns the requested range of a file.
    fn bytes(&self, request: &Request, name: &str, headers: &str) -> Answer {
        let mut bytes = self.files[name].clone();
        let len = bytes.len();
        if self.damaged.as_deref() == Some(name) {
            bytes[len / 2] ^= 1;
        }
        match self.delivery {
            Delivery::Compressed => return compressed(headers, &bytes),
            _ if accepts_gzip(request) => return compressed(headers, &bytes),
            Delivery::Chunked => return chunked(headers, &bytes),
            Delivery::Whole => return Answer::status(200, headers, &bytes),
            Delivery::Ranges => {}
        }
        let Some(range) = request.header("range") else {
            return Answer::status(200, headers, &bytes);
        };
        let range = range.trim_start_matches("bytes=");
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        if start >= len {
            return Answer::status(416, &format!("Content-Range: bytes */{len}\r\n"), "");
        }
        let end = end.parse().map_or(len, |last: usize| last + 1);
        let part = &bytes[start..end];
        let headers = format!(
            "{headers}Content-Range: bytes {start}-{}/{len}\r\nContent-Length: {}\r\n",
            end - 1,
            part.len()
        );
        match &self.cut {
            Some((cut, after)) if cut == name && start == 0 && end == len => {
                Answer::Send(head(206, &headers, &part[..*after]))
            }
            _ => Answer::Send(head(206, &headers, part)),
        }
    }
}

fn accepts_gzip(request: &Request) -> bool {
    request.header("accept-encoding") != Some("identity")
}

/// Returns a 200 without a length, in chunks.
fn chunked(headers: &str, bytes: &[u8]) -> Answer {
    let mut body = Vec::new();
    for part in bytes.chunks(60_000) {
        write!(body, "{:x}\r\n", part.len()).unwrap();
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    Answer::Send(head(200, &format!("{headers}Transfer-Encoding: chunked\r\n"), body))
}

fn compressed(headers: &str, bytes: &[u8]) -> Answer {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    chunked(&format!("{headers}Content-Encoding: gzip\r\n"), &encoder.finish().unwrap())
}
