//! The commit that a revision of a repository points to, and the names of its files.

use serde::Deserialize;

use crate::checkpoints::hub::client::{HubClient, HubResponse, REDIRECTS_MAX};
use crate::checkpoints::hub::error::HubError;
use crate::checkpoints::hub::name::HubModel;
use crate::checkpoints::weights::{GIT_DIGITS, is_digest};

/// Largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: usize = 10 << 20;

/// A revision, resolved by the Hub.
pub(crate) struct Revision {
    /// Forty hexadecimal digits.
    pub(crate) commit: String,
    /// Paths of all files in the repository.
    pub(crate) files: Vec<String>,
}

/// The used fields of the Hub's document about a revision.
#[derive(Deserialize)]
struct RevisionDocument {
    sha: String,
    siblings: Vec<RepositoryFile>,
}

#[derive(Deserialize)]
struct RepositoryFile {
    rfilename: String,
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
    Ok(Revision { commit: sha, files: siblings.into_iter().map(|file| file.rfilename).collect() })
}

fn fetch_document(client: &HubClient, model: &HubModel) -> Result<Vec<u8>, HubError> {
    let HubModel { repo, revision, .. } = model;
    let request_error = |error: std::io::Error| HubError::request(model, &error);
    let path = format!("api/models/{repo}/revision/{}", revision.replace('/', "%2F"));
    let mut url = client.url(&path).map_err(request_error)?;
    for _ in 0..=REDIRECTS_MAX {
        let response = client.get(&url, None).map_err(request_error)?;
        match response.status() {
            status @ (401 | 403 | 404) => {
                return Err(HubError::Refused { model: model.clone(), status });
            }
            _ if response.is_success() => return read_body(response).map_err(request_error),
            _ if response.is_redirection() => {
                url = response.redirect_target(&url).map_err(request_error)?;
            }
            status => {
                return Err(HubError::request(model, &format!("the server answers {status}")));
            }
        }
    }
    Err(HubError::request(model, &"its page is redirected endlessly"))
}

fn read_body(mut response: HubResponse<'_>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.next_chunk()? {
        if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
            let message = format!("it sends more than {DOCUMENT_BYTES_MAX} bytes of metadata");
            return Err(std::io::Error::other(message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
