//! Downloads one file of the Hub into the cache.
//!
//! Text from a server becomes part of a path only if it is a valid digest. The client sends the
//! token to the Hub only. A file is renamed to its digest only after the digest is verified.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use url::Url;

use crate::backoff::Backoff;
use crate::checkpoints::hub::cache::{CachedCommit, cache_error};
use crate::checkpoints::hub::client::{HubClient, REDIRECTS_MAX};
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::weights::{compute_digest, is_digest};
use crate::etag::Etag;

/// Consecutive attempts without a new byte before a download fails.
const ATTEMPTS_MAX: u32 = 5;
/// Delays before the next attempt.
const RETRY: Backoff =
    Backoff { initial: Duration::from_millis(300), max: Duration::from_secs(10), jitter: 0.5 };

/// The progress of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes on this machine.
    pub bytes_done: u64,
    /// Size of the file in bytes.
    pub bytes_total: u64,
}

/// Downloads files of one commit of a repository.
pub(crate) struct Downloader<'a> {
    pub(crate) client: &'a HubClient,
    pub(crate) model: &'a HubModel,
    pub(crate) commit: &'a CachedCommit<'a>,
}

/// A file as the Hub describes it.
struct RemoteFile {
    digest: String,
    /// The address of its bytes, after all redirects.
    url: Url,
}

impl Downloader<'_> {
    /// Downloads a file, or the rest of it, and returns its path in the snapshot.
    pub(crate) fn download(
        &self,
        name: &str,
        report: &mut impl FnMut(DownloadProgress<'_>),
    ) -> Result<PathBuf, HubError> {
        let RemoteFile { digest, url } = self.describe(name)?;
        let blob = self.commit.blob(&digest);
        let _lock = self.commit.lock(&digest)?;
        if !blob.is_file() {
            let part = blob.with_file_name(format!("{digest}.part"));
            self.complete(&url, &part, |bytes_done, bytes_total| {
                report(DownloadProgress { file: name, bytes_done, bytes_total });
            })?;
            if compute_digest(&digest, &part)? != digest {
                std::fs::remove_file(&part).map_err(|reason| cache_error(&part, reason))?;
                let (model, file) = (self.model.clone(), name.to_owned());
                return Err(HubError::Damaged { model, file });
            }
            std::fs::rename(&part, &blob).map_err(|reason| cache_error(&blob, reason))?;
        }
        self.commit.link(name, &digest)
    }

    /// Requests one byte of a file, because the headers of the response describe the file.
    fn describe(&self, name: &str) -> Result<RemoteFile, HubError> {
        let request_error = |error: io::Error| HubError::request(self.model, &error);
        let path = format!("{}/resolve/{}/{name}", self.model.repo, self.commit.id());
        let mut url = self.client.url(&path).map_err(request_error)?;
        let mut digest = None;
        for _ in 0..REDIRECTS_MAX {
            let response = self.client.get(&url, Some("bytes=0-0")).map_err(request_error)?;
            if !response.is_success() && !response.is_redirection() {
                let status = response.status();
                return Err(HubError::Refused { model: self.model.clone(), status });
            }
            // Only the Hub itself is trusted with the digest.
            if self.client.is_hub(&url) && digest.is_none() {
                let etag = response.header("x-linked-etag").or_else(|| response.header("etag"));
                let is_commit = response.header("x-repo-commit") == Some(self.commit.id());
                digest = etag.filter(|_| is_commit).and_then(digest_of_etag);
            }
            if response.is_success() {
                let Some(digest) = digest else {
                    let message = format!(
                        "it sends neither the commit nor the digest of {name}; is it a Hub?"
                    );
                    return Err(HubError::request(self.model, &message));
                };
                return Ok(RemoteFile { digest, url });
            }
            url = response.redirect_target(&url).map_err(request_error)?;
        }
        let message = format!("{name} is redirected endlessly");
        Err(HubError::request(self.model, &message))
    }

    /// Appends to a partial file until it is complete.
    fn complete(
        &self,
        url: &Url,
        part: &Path,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let file_error = |reason| cache_error(part, reason);
        let mut failures = 0;
        loop {
            let mut file =
                OpenOptions::new().create(true).append(true).open(part).map_err(file_error)?;
            let before = file.metadata().map_err(file_error)?.len();
            let message = match self.append(url, &mut file, before, &mut on_progress) {
                Ok(true) => return Ok(()),
                Ok(false) => "the connection ended early".to_owned(),
                Err(error) => error.to_string(),
            };
            let after = file.metadata().map_err(file_error)?.len();
            failures = if after > before { 0 } else { failures + 1 };
            if failures >= ATTEMPTS_MAX {
                return Err(HubError::request(self.model, &message));
            }
            thread::sleep(RETRY.delay(failures + 1));
        }
    }

    /// Sends one request for the bytes from `start`. Returns true if the file is complete.
    fn append(
        &self,
        url: &Url,
        file: &mut File,
        start: u64,
        on_progress: &mut impl FnMut(u64, u64),
    ) -> io::Result<bool> {
        let mut response = self.client.get(url, Some(&format!("bytes={start}-")))?;
        let status = response.status();
        let range = response.header("content-range").unwrap_or_default();
        let size = range.rsplit('/').next().and_then(|size| size.parse::<u64>().ok());
        let mut done = match status {
            206 if range.starts_with(&format!("bytes {start}-")) => start,
            // The file is complete, or has a wrong end. The digest decides.
            416 if size == Some(start) => return Ok(true),
            200 | 206 | 416 => {
                file.set_len(0)?;
                if status != 200 {
                    return Ok(false);
                }
                0
            }
            status => return Err(io::Error::other(format!("the server answers {status}"))),
        };
        let length = response.header("content-length").and_then(|text| text.parse::<u64>().ok());
        let total = size.or_else(|| Some(done + length?)).unwrap_or_default();
        on_progress(done, total);
        while let Some(chunk) = response.next_chunk()? {
            file.write_all(&chunk)?;
            done += chunk.len() as u64;
            on_progress(done, total);
        }
        Ok(total > 0 && done == total)
    }
}

/// Returns the digest in an entity tag, or `None` if the tag is not one.
fn digest_of_etag(etag: &str) -> Option<String> {
    let digest = Etag::parse(etag)?.opaque.to_ascii_lowercase();
    is_digest(&digest).then_some(digest)
}
