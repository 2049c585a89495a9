//! One file of the Hub into the cache.
//!
//! Nothing that a server says becomes a path before it was found to be a digest, the token is shown to the Hub
//! alone, and a file gets its name only when its digest is right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use url::Url;

use super::cache::CachedCommit;
use super::environment::Environment;
use super::error::HubError;
use super::name::HubModel;
use super::pull::DownloadProgress;
use crate::checkpoints::weights::{compute_digest, is_digest};

/// Attempts in a row that may bring nothing.
const ATTEMPTS: u32 = 5;
/// Wait after the first of them; doubled each time.
const WAIT: Duration = Duration::from_millis(300);
/// For a connection, and for the beginning of an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// For a whole answer: a stalled one ends then and is continued, as is a slow one.
const BODY: Duration = Duration::from_mins(10);
/// Redirects before the file itself.
const REDIRECTS_MAX: usize = 5;
const BUFFER_BYTES: usize = 1 << 18;

/// Asks a Hub for files of one commit of a repository.
pub(super) struct Downloader<'a> {
    model: &'a HubModel,
    layout: &'a CachedCommit,
    endpoint: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// What the Hub says of a file.
struct Described {
    digest: String,
    /// Where its bytes are.
    url: Url,
}

impl<'a> Downloader<'a> {
    pub(super) fn new(
        model: &'a HubModel,
        layout: &'a CachedCommit,
        environment: &Environment,
    ) -> Self {
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .timeout_recv_body(Some(BODY))
            .user_agent(concat!("dogiqa/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            model,
            layout,
            endpoint: environment.endpoint.clone(),
            token: environment.token.clone(),
            agent: config.into(),
        }
    }

    /// Fetches a file, or what is missing of it; gives its place in the snapshot.
    pub(super) fn fetch(
        &self,
        name: &str,
        report: &mut impl FnMut(DownloadProgress<'_>),
    ) -> Result<PathBuf, HubError> {
        let Described { digest, url } = self.describe(name)?;
        let blob = self.layout.blob(&digest);
        let _lock = self.layout.lock(&digest)?;
        if !blob.is_file() {
            let part = blob.with_file_name(format!("{digest}.part"));
            self.download(&url, &part, |done, of| {
                report(DownloadProgress { file: name, done, of })
            })?;
            let found = compute_digest(&digest, &part)?;
            if found != digest {
                std::fs::remove_file(&part)
                    .map_err(|source| CachedCommit::failed(&part, source))?;
                let (model, file) = (self.model.clone(), name.to_owned());
                return Err(HubError::Damaged { model, file });
            }
            std::fs::rename(&part, &blob).map_err(|source| CachedCommit::failed(&blob, source))?;
        }
        self.layout.link(name, &digest)
    }

    /// Asks for one byte of the file: what the Hub says of it stands in the headers.
    fn describe(&self, name: &str) -> Result<Described, HubError> {
        let HubModel { repo, .. } = self.model;
        let text = format!("{}/{repo}/resolve/{}/{name}", self.endpoint, self.layout.commit());
        let mut url = self.url(&text)?;
        let mut digest = None;
        for _ in 0..REDIRECTS_MAX {
            let response =
                self.get(&url, "bytes=0-0").map_err(|error| self.odd(&error.to_string()))?;
            let header =
                |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
            let status = response.status();
            if !status.is_success() && !status.is_redirection() {
                return Err(self.refused(status.as_u16()));
            }
            // Only the Hub itself may say what the file is.
            if self.is_hub(&url) && digest.is_none() {
                let tag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
                let tag = tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
                let is_ours = header("x-repo-commit").as_deref() == Some(self.layout.commit());
                digest = (is_ours && is_digest(&tag)).then_some(tag);
            }
            if status.is_success() {
                let digest = digest.ok_or_else(|| {
                    self.odd(&format!("it says of {name} neither commit nor digest; is it a Hub?"))
                })?;
                return Ok(Described { digest, url });
            }
            let location = header("location").unwrap_or_default();
            url = url.join(&location).map_err(|error| self.odd(&format!("{location}: {error}")))?;
        }
        Err(self.odd(&format!("{name} is redirected without end")))
    }

    /// Appends to what is there until it is whole.
    fn download(
        &self,
        url: &Url,
        part: &Path,
        mut tell: impl FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let failed = |source| CachedCommit::failed(part, source);
        let mut failures = 0;
        loop {
            let mut file =
                OpenOptions::new().create(true).append(true).open(part).map_err(failed)?;
            let before = file.metadata().map_err(failed)?.len();
            let message = match self.append(url, (&mut file, before), &mut tell) {
                Ok(true) => return Ok(()),
                Ok(false) => "the connection ended early".to_owned(),
                Err(error) => error.to_string(),
            };
            let after = file.metadata().map_err(failed)?.len();
            failures = if after > before { 0 } else { failures + 1 };
            if failures >= ATTEMPTS {
                return Err(HubError::Request { model: self.model.clone(), message });
            }
            thread::sleep(WAIT * 2_u32.pow(failures));
        }
    }

    /// One request for what is missing; true when nothing is any more.
    fn append(
        &self,
        url: &Url,
        (file, start): (&mut File, u64),
        tell: &mut impl FnMut(u64, u64),
    ) -> io::Result<bool> {
        let response = self.get(url, &format!("bytes={start}-")).map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
        let range = range.map(str::to_owned).unwrap_or_default();
        let of = range.rsplit('/').next().and_then(|of| of.parse::<u64>().ok());
        let mut done = match status {
            206 if range.starts_with(&format!("bytes {start}-")) => start,
            // It has all of it, or was left by something else: the digest decides, or it begins anew.
            416 if of == Some(start) => return Ok(true),
            200 | 206 | 416 => {
                file.set_len(0)?;
                if status != 200 {
                    return Ok(false);
                }
                0
            }
            status => return Err(io::Error::other(format!("the server answers {status}"))),
        };
        let length = response.headers().get("content-length").and_then(|text| text.to_str().ok());
        let of = of.or_else(|| Some(done + length?.parse::<u64>().ok()?)).unwrap_or_default();
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        tell(done, of);
        loop {
            let count = body.read(&mut buffer)?;
            if count == 0 {
                return Ok(of > 0 && done == of);
            }
            file.write_all(&buffer[..count])?;
            done += count as u64;
            tell(done, of);
        }
    }

    fn get(&self, url: &Url, range: &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = self.agent.get(url.as_str()).header("Range", range);
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call()
    }

    /// Whether an address is of the Hub that was asked, and not of whom it sends us to.
    fn is_hub(&self, url: &Url) -> bool {
        Url::parse(&self.endpoint).is_ok_and(|endpoint| endpoint.origin() == url.origin())
    }

    fn url(&self, text: &str) -> Result<Url, HubError> {
        Url::parse(text).map_err(|error| self.odd(&format!("{text}: {error}")))
    }

    fn odd(&self, message: &str) -> HubError {
        HubError::Request { model: self.model.clone(), message: message.to_owned() }
    }

    fn refused(&self, status: u16) -> HubError {
        HubError::Refused { model: self.model.clone(), status }
    }
}
