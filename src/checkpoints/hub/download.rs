//! Downloads one file of the Hub into the cache.
//!
//! Text from a server becomes part of a path only if it is a valid digest. The client sends the
//! token to the Hub only. A file is renamed to its digest only after the digest is verified.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Access, access};
use url::Url;

use crate::checkpoints::hub::cache::{CachedCommit, cache_error, partial};
use crate::checkpoints::hub::client::{HubClient, HubResponse};
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::fault::{FaultKind, RequestFault, retry};
use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::weights::{
    digest_of_download, has_digest, hub_digest_of, is_digest, store_digest,
};
use crate::etag::Etag;

/// Names of compressions, as proxies append them to entity tags.
const COMPRESSIONS: [&str; 4] = ["gzip", "br", "zstd", "deflate"];

/// The progress of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes on this machine.
    pub bytes_done: u64,
    /// Size of the file in bytes, or 0 if the server does not state it.
    pub bytes_total: u64,
}

/// A report of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullReport<'a> {
    /// The progress of a download.
    Progress(DownloadProgress<'a>),
    /// A sentence for the user.
    Notice(&'a str),
}

/// The files that a pull fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullScope {
    /// Files that are missing or damaged.
    MissingOrDamaged,
    /// All files, even those that are intact.
    Everything,
}

/// Downloads files of one commit of a repository.
pub(crate) struct Downloader<'a> {
    pub(crate) client: &'a HubClient,
    pub(crate) model: &'a HubModel,
    pub(crate) commit: &'a CachedCommit<'a>,
    pub(crate) scope: PullScope,
}

/// A file as the Hub describes it.
struct RemoteFile {
    digest: String,
    /// The address of its bytes, after all redirects.
    url: Url,
    /// Size in bytes, if the server states it.
    bytes: Option<u64>,
}

/// A reason to request the rest of a file again, or to give up.
enum Interruption {
    Request(RequestFault),
    /// The partial file cannot be written.
    Disk(io::Error),
}

impl From<RequestFault> for Interruption {
    fn from(fault: RequestFault) -> Self {
        Self::Request(fault)
    }
}

impl From<io::Error> for Interruption {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Downloader<'_> {
    /// Returns the path of a file in the snapshot, and downloads it if it is missing or damaged.
    pub(crate) fn ensure(
        &self,
        name: &str,
        report: &mut impl FnMut(PullReport<'_>),
    ) -> Result<PathBuf, HubError> {
        if self.scope == PullScope::MissingOrDamaged
            && let Some(path) = self.commit.file(name)
        {
            // A file that another program copied here is no link, so its name states no digest.
            let digest = match hub_digest_of(&path) {
                Some(digest) => digest,
                None => self.describe(name)?.digest,
            };
            if has_digest(&path, &digest)? {
                return Ok(path);
            }
            let notice = format!("{name} is damaged (blob {digest}) and is fetched again");
            report(PullReport::Notice(&notice));
            return self.download(name, self.shared_blob(&path, &digest), report);
        }
        self.download(name, None, report)
    }

    /// Returns the blob behind a link if other repositories share it and it can be replaced: they
    /// are then cured, too.
    fn shared_blob(&self, link: &Path, digest: &str) -> Option<PathBuf> {
        let blob = std::fs::canonicalize(link).ok()?;
        let own = std::fs::canonicalize(self.commit.blob(digest)).ok();
        let is_shared = blob.ends_with(digest) && Some(&blob) != own.as_ref();
        (is_shared && access(blob.parent()?, Access::WRITE_OK).is_ok()).then_some(blob)
    }

    /// Downloads a file, or the rest of it, and returns its path in the snapshot. A blob of its own
    /// is linked, a shared one is linked already.
    fn download(
        &self,
        name: &str,
        shared: Option<PathBuf>,
        report: &mut impl FnMut(PullReport<'_>),
    ) -> Result<PathBuf, HubError> {
        let remote = self.describe(name)?;
        let digest = remote.digest.clone();
        let shared = shared.filter(|blob| blob.ends_with(&digest));
        let blob = shared.clone().unwrap_or_else(|| self.commit.blob(&digest));
        self.commit.create_folders()?;
        let mut on_wait = || {
            let notice = format!("{name}: waiting for another process that downloads it");
            report(PullReport::Notice(&notice));
        };
        let _lock = self.commit.lock(&digest, &mut on_wait)?;
        let _lock_of_shared = match &shared {
            Some(_) => Some(self.commit.lock_shared(&digest, &mut on_wait)?),
            None => None,
        };
        // Another process may have fetched it meanwhile.
        let is_here = self.scope == PullScope::MissingOrDamaged
            && blob.is_file()
            && has_digest(&blob, &digest)?;
        if !is_here {
            self.fetch_blob(name, remote, &blob, report)?;
        }
        if shared.is_some() {
            return Ok(self.commit.folder().join(name));
        }
        self.commit.link(name, &digest)
    }

    /// Downloads a file to its place among the blobs.
    fn fetch_blob(
        &self,
        name: &str,
        mut remote: RemoteFile,
        blob: &Path,
        report: &mut impl FnMut(PullReport<'_>),
    ) -> Result<(), HubError> {
        let part = partial(blob);
        let mut is_resumed = part.is_file();
        if is_resumed && self.scope == PullScope::Everything {
            std::fs::remove_file(&part).map_err(|reason| cache_error(&part, reason))?;
            is_resumed = false;
        }
        loop {
            self.complete(name, &mut remote, &part, |bytes_done, bytes_total| {
                let progress = DownloadProgress { file: name, bytes_done, bytes_total };
                report(PullReport::Progress(progress));
            })?;
            if digest_of_download(&remote.digest, &part)? == remote.digest {
                // A blob is trusted by its name, so its bytes must be on the disk first.
                File::open(&part)
                    .and_then(|file| file.sync_all())
                    .and_then(|()| std::fs::rename(&part, blob))
                    .map_err(|reason| cache_error(blob, reason))?;
                store_digest(blob, &remote.digest);
                return Ok(());
            }
            std::fs::remove_file(&part).map_err(|reason| cache_error(&part, reason))?;
            if !is_resumed {
                let file = format!("{name} (blob {})", remote.digest);
                return Err(HubError::Damaged { model: self.model.clone(), file });
            }
            // The damage may be in the part that an earlier process left.
            is_resumed = false;
        }
    }

    /// Requests one byte of a file, because the headers of the response describe the file.
    fn describe(&self, name: &str) -> Result<RemoteFile, HubError> {
        let path = format!("{}/resolve/{}/{name}", self.model.repo, self.commit.id());
        let described = retry(|| {
            let mut headers = HubHeaders::default();
            let url = self.client.url(&path);
            let response = self.client.get(url, Some("bytes=0-0"), |url, response| {
                // Only the Hub itself is trusted with the digest.
                if self.client.is_trusted(url) {
                    headers.read(response, self.commit.id());
                }
            })?;
            let length = response.number("content-length").filter(|_| response.status() == 200);
            let bytes = headers.bytes.or_else(|| response.size_of_range()).or(length);
            let digest = headers.linked_digest.or(headers.own_digest);
            let Some(digest) = digest.filter(|_| headers.is_of_commit) else {
                let reason = "it sends neither the commit nor the digest; is it a Hub?";
                return Err(RequestFault::new(response.url(), FaultKind::Permanent, reason));
            };
            Ok(RemoteFile { digest, url: response.url().clone(), bytes })
        });
        described.map_err(|fault| HubError::from_fault(self.model, name, fault))
    }

    /// Appends to a partial file until it is complete.
    fn complete(
        &self,
        name: &str,
        remote: &mut RemoteFile,
        part: &Path,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let file_error = |reason| cache_error(part, reason);
        let (mut failures, mut longest) = (0, 0);
        loop {
            let mut file =
                OpenOptions::new().create(true).append(true).open(part).map_err(file_error)?;
            let before = file.metadata().map_err(file_error)?.len();
            let fault = match self.append(remote, &mut file, before, &mut on_progress) {
                Ok(()) => return Ok(()),
                Err(Interruption::Disk(reason)) => return Err(file_error(reason)),
                Err(Interruption::Request(fault)) => fault,
            };
            let after = file.metadata().map_err(file_error)?.len();
            // A server that ignores ranges may send the same bytes again and again.
            failures = if after > before.max(longest) { 0 } else { failures + 1 };
            longest = longest.max(after);
            if failures >= fault.attempts_max() {
                return Err(HubError::from_fault(self.model, name, fault));
            }
            if fault.kind == FaultKind::Refused {
                // A signed address expires.
                remote.url = self.describe(name)?.url;
            }
            thread::sleep(fault.delay(failures + 1));
        }
    }

    /// Sends one request for the bytes from `start`, and writes them until the file is complete.
    fn append(
        &self,
        remote: &RemoteFile,
        file: &mut File,
        mut start: u64,
        on_progress: &mut impl FnMut(u64, u64),
    ) -> Result<(), Interruption> {
        if remote.bytes.is_some_and(|bytes| start > bytes) {
            file.set_len(0)?;
            start = 0;
        }
        if remote.bytes == Some(start) && start > 0 {
            return Ok(());
        }
        let range = format!("bytes={start}-");
        let mut response = self.client.get(remote.url.clone(), Some(&range), |_, _| ())?;
        let size = response.size_of_range();
        let range = response.header("content-range").unwrap_or_default();
        let mut done = match response.status() {
            206 if range.starts_with(&format!("bytes {start}-")) => start,
            // The file is complete, or has a wrong end. The digest decides.
            416 if size == Some(start) => return Ok(()),
            // The server ignores the range, or the part is longer than the file.
            status => {
                file.set_len(0)?;
                if status != 200 {
                    return Err(interrupted(&response, "it does not send the requested range"));
                }
                0
            }
        };
        let length = response.number("content-length").map(|length| length.saturating_add(done));
        // Without a size the body is read to its end, and the digest decides.
        let total = size.or(remote.bytes).or(length);
        on_progress(done, total.unwrap_or_default());
        while let Some(chunk) = response.next_chunk()? {
            done += chunk.len() as u64;
            if total.is_some_and(|total| done > total) {
                file.set_len(0)?;
                let reason = "it sends more bytes than the file has";
                return Err(RequestFault::new(response.url(), FaultKind::Permanent, reason).into());
            }
            file.write_all(&chunk)?;
            on_progress(done, total.unwrap_or_default());
        }
        if total.is_some_and(|total| done < total) {
            return Err(interrupted(&response, "the connection ends early"));
        }
        Ok(())
    }
}

/// The description of a file, gathered from all responses of the Hub on the way to its bytes.
#[derive(Default)]
struct HubHeaders {
    /// The digest of a file that is stored elsewhere.
    linked_digest: Option<String>,
    /// The digest in the entity tag of the last response.
    own_digest: Option<String>,
    bytes: Option<u64>,
    /// True if a response named the commit.
    is_of_commit: bool,
}

impl HubHeaders {
    fn read(&mut self, response: &HubResponse<'_>, commit: &str) {
        let digest = |name| response.header(name).and_then(digest_of_etag);
        self.linked_digest = digest("x-linked-etag").or(self.linked_digest.take());
        self.own_digest = digest("etag").or(self.own_digest.take());
        self.bytes = response.number("x-linked-size").or(self.bytes);
        self.is_of_commit |= response.header("x-repo-commit") == Some(commit);
    }
}

fn interrupted(response: &HubResponse<'_>, reason: &str) -> Interruption {
    let kind = FaultKind::Transient { retry_after: None };
    RequestFault::new(response.url(), kind, reason).into()
}

/// Returns the digest in an entity tag, or `None` if the tag is not one. Proxies that compress make
/// tags weak and append the compression.
fn digest_of_etag(etag: &str) -> Option<String> {
    let tag = Etag::parse(etag)?.opaque.to_ascii_lowercase();
    let digest = match tag.split_once(['-', ';']) {
        Some((digest, suffix)) => {
            let suffix = suffix.trim_start_matches('-');
            COMPRESSIONS.contains(&suffix).then_some(digest)?
        }
        None => &tag,
    };
    is_digest(digest).then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_a_digest_whatever_a_proxy_appends() {
        let digest = "0123456789abcdef0123456789abcdef01234567";
        for tag in ["", "-gzip", "--gzip", ";gzip", "-br", "-zstd"] {
            for weak in ["", "W/"] {
                let etag = format!("{weak}\"{digest}{tag}\"");
                assert_eq!(digest_of_etag(&etag).as_deref(), Some(digest), "{etag}");
            }
        }
        for etag in ["", "\"\"", "\"x\"", &format!("\"{digest}-2\""), &format!("\"{digest}0\"")] {
            assert_eq!(digest_of_etag(etag), None, "{etag}");
        }
    }
}
