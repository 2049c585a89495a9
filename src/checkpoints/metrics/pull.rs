//! Fetches the parameters of a metric from the authors' repository.

use std::io::Write;
use std::path::{Path, PathBuf};

use url::Url;

use crate::checkpoints::atomic_file::temporary_file_for;
use crate::checkpoints::hub::{Environment, FaultKind, HubClient, PullScope, RequestFault, retry};
use crate::checkpoints::metrics::error::MetricFilesError;
use crate::checkpoints::metrics::load::{digest, folder_of};
use crate::checkpoints::metrics::published::{PublishedFile, PublishedParameters};
use crate::redact;

/// The server of the authors' files.
pub const GITHUB_RAW: &str = "https://raw.githubusercontent.com";

/// Fetches the files of a metric from `source`, which is [`GITHUB_RAW`] or a mirror of it, and
/// returns their folder in the cache. Intact files are kept, unless `scope` says otherwise. A file
/// is stored only if it has the published digest.
///
/// Follows the variables of the Hub for the cache, for time limits and `HF_HUB_OFFLINE`, and those
/// of proxies. Sends no token. Blocks; must not be called from async code.
///
/// # Errors
/// Fails if the server does not send a file, or sends another one, or if it cannot be stored.
pub fn pull_parameters(
    published: &PublishedParameters,
    source: &str,
    scope: PullScope,
) -> Result<PathBuf, MetricFilesError> {
    let metric = published.metric;
    let request = |message: String| MetricFilesError::Request { metric, message };
    let folder = folder_of(metric, None);
    let wanted: Vec<&PublishedFile> = published
        .files
        .iter()
        .filter(|file| scope == PullScope::Everything || !is_intact(file, &folder))
        .collect();
    let Some(first) = wanted.first() else { return Ok(folder) };
    let environment = Environment::read();
    if environment.is_offline {
        return Err(MetricFilesError::Offline { metric, file: first.name });
    }
    Url::parse(source)
        .map_err(|error| request(format!("the source {}: {error}", redact::uri(source))))?;
    let endpoint = source.trim_end_matches('/').to_owned();
    let client = HubClient::new(&Environment { endpoint, token: None, ..environment })
        .map_err(|error| request(error.to_string()))?;
    let file_error = |reason| MetricFilesError::File { path: folder.clone(), reason };
    std::fs::create_dir_all(&folder).map_err(file_error)?;
    for file in wanted {
        let bytes =
            fetch(&client, published, file).map_err(|RequestFault { host, reason, .. }| {
                request(format!("{} from {host}: {reason}", file.name))
            })?;
        let found = digest(&bytes);
        if found != file.sha256 {
            let expected = file.sha256;
            return Err(MetricFilesError::Damaged { metric, file: file.name, found, expected });
        }
        let path = folder.join(file.name);
        let write = || {
            let mut temporary = temporary_file_for(&path)?;
            temporary.write_all(&bytes)?;
            temporary.persist(&path)?;
            Ok(())
        };
        write().map_err(|reason| MetricFilesError::File { path: path.clone(), reason })?;
    }
    Ok(folder)
}

fn is_intact(file: &PublishedFile, folder: &Path) -> bool {
    std::fs::read(folder.join(file.name)).is_ok_and(|bytes| digest(&bytes) == file.sha256)
}

/// Reads a file of known size into memory.
fn fetch(
    client: &HubClient,
    published: &PublishedParameters,
    file: &PublishedFile,
) -> Result<Vec<u8>, RequestFault> {
    let PublishedParameters { repo, commit, path, .. } = published;
    let url = client.url(&format!("{repo}/{commit}/{path}{}", file.name));
    retry(|| {
        let mut response = client.get(url.clone(), None, |_, _| ())?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.next_chunk()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > file.bytes {
                let reason = format!("it sends more than the file's {} bytes", file.bytes);
                return Err(RequestFault::new(&url, FaultKind::Permanent, reason));
            }
        }
        if (bytes.len() as u64) < file.bytes {
            let kind = FaultKind::Transient { retry_after: None };
            return Err(RequestFault::new(&url, kind, "the connection ends early"));
        }
        Ok(bytes)
    })
}
