//! The commit that a revision of a repository points to, and the names of its files.

use serde::Deserialize;
use url::Url;

use crate::checkpoints::hub::client::HubClient;
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::fault::{FaultKind, RequestFault, retry};
use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::weights::{GIT_DIGITS, is_digest};

/// Largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: usize = 10 << 20;

/// A revision, resolved by the Hub.
pub(crate) struct Revision {
    /// Forty hexadecimal digits.
    pub(crate) commit: String,
    /// All files in the repository.
    pub(crate) files: Vec<RepositoryFile>,
}

impl Revision {
    /// Returns a file of the repository, or `None` if it has none of this name.
    pub(crate) fn file(&self, name: &str) -> Option<&RepositoryFile> {
        self.files.iter().find(|file| file.rfilename == name)
    }
}

/// The used fields of the Hub's document about a revision.
#[derive(Deserialize)]
struct RevisionDocument {
    sha: String,
    siblings: Vec<RepositoryFile>,
}

/// A file of a repository. A mirror may leave out everything but its path.
#[derive(Deserialize)]
pub(crate) struct RepositoryFile {
    /// Path in the repository.
    pub(crate) rfilename: String,
    /// Size in bytes.
    pub(crate) size: Option<u64>,
    #[serde(rename = "blobId")]
    git_digest: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
}

impl RepositoryFile {
    /// Returns the digest that names the file's blob: SHA-256 for a large file, else git's SHA-1.
    pub(crate) fn digest(&self) -> Option<&str> {
        let digest = match &self.lfs {
            Some(large) => large.sha256.as_deref(),
            None => self.git_digest.as_deref(),
        };
        digest.filter(|digest| is_digest(digest))
    }
}

/// Requests a revision from the Hub.
///
/// # Errors
/// Fails if the Hub refuses the request, cannot be reached, or names no commit.
pub(crate) fn resolve(client: &HubClient, model: &HubModel) -> Result<Revision, HubError> {
    let document = fetch_document(client, model)?;
    let RevisionDocument { sha, siblings } =
        serde_json::from_slice(&document).map_err(|error| {
            HubError::request(
                model,
                &format!("its response does not describe a repository: {error}"),
            )
        })?;
    if sha.len() != GIT_DIGITS || !is_digest(&sha) {
        return Err(HubError::request(model, &"its response has no commit; is it a Hub?"));
    }
    Ok(Revision { commit: sha, files: siblings })
}

fn fetch_document(client: &HubClient, model: &HubModel) -> Result<Vec<u8>, HubError> {
    let HubModel { repo, revision, .. } = model;
    let path = format!("api/models/{repo}/revision/{}", revision.replace('/', "%2F"));
    let mut url = client.url(&path);
    // Asks for the sizes and digests of the files.
    url.set_query(Some("blobs=true"));
    retry(|| read_body(client, &url))
        .map_err(|fault| HubError::from_fault(model, "the list of files", fault))
}

fn read_body(client: &HubClient, url: &Url) -> Result<Vec<u8>, RequestFault> {
    let mut response = client.get(url.clone(), None, |_, _| ())?;
    let mut body = Vec::new();
    while let Some(chunk) = response.next_chunk()? {
        if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
            let reason = format!("it sends more than {DOCUMENT_BYTES_MAX} bytes of metadata");
            return Err(RequestFault::new(response.url(), FaultKind::Permanent, reason));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
