//! A Hugging Face Hub on loopback: the paths, headers and redirects of the real one, with files in
//! memory.

use std::collections::BTreeMap;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::web_server::{Answer, Request, WebServer, head};

/// The commit of every branch.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Larger files have a SHA-256 as entity tag and are served elsewhere, as with Git LFS.
const LARGE_BYTES: usize = 20_000;

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

    /// Serves the repository under every owner and name.
    pub(crate) fn serve(self) -> WebServer {
        WebServer::start(move |request, _| self.answer(request))
    }

    fn answer(&self, request: &Request) -> Answer {
        let authorization = request.header("authorization").unwrap_or_default();
        if self.token.as_ref().is_some_and(|token| authorization != format!("Bearer {token}")) {
            return Answer::status(401, "", "{\"error\": \"gated\"}");
        }
        let parts: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
        match &parts[..] {
            ["api", "models", _, _, "revision", "main" | "v1" | COMMIT] => {
                let names: Vec<String> = self.files.keys().cloned().collect();
                let siblings: Vec<_> =
                    names.iter().map(|name| serde_json::json!({"rfilename": name})).collect();
                let info = serde_json::json!({"sha": COMMIT, "siblings": siblings});
                Answer::ok(info.to_string())
            }
            [_, _, "resolve", COMMIT, name] if self.files.contains_key(*name) => {
                let digest = self.lie.clone().unwrap_or_else(|| self.digest(name));
                if self.files[*name].len() <= LARGE_BYTES {
                    let headers = format!("x-repo-commit: {COMMIT}\r\netag: \"{digest}\"\r\n");
                    return self.bytes(request, name, &headers);
                }
                let location = format!(
                    "x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{digest}\"\r\nLocation: http://{}/cdn/{name}\r\n",
                    self.elsewhere.as_deref().unwrap_or_else(|| request.header("host").unwrap())
                );
                Answer::status(302, &location, "")
            }
            ["cdn", name] => self.bytes(request, name, ""),
            _ => Answer::status(404, "", "{\"error\": \"not found\"}"),
        }
    }

    /// Returns the requested range of a file.
    fn bytes(&self, request: &Request, name: &str, headers: &str) -> Answer {
        let mut bytes = self.files[name].clone();
        let len = bytes.len();
        if self.damaged.as_deref() == Some(name) {
            bytes[len / 2] ^= 1;
        }
        let range = request.header("range").unwrap().trim_start_matches("bytes=");
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
