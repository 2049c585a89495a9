//! Keys that the paths of `object_store` cannot hold: `a//b`, `/a`, `a/`.
//!
//! For a store they are names like any other. The request is built for a placeholder; then the
//! transport replaces it in the URL and signs the request again. So conditions, versions and the
//! responses are those of every other read. Only the path below the bucket is replaced.

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use reqwest::header::AUTHORIZATION;

use crate::storage::uri;

/// The key that the request is built for.
pub(crate) const PLACEHOLDER: &str = "dogiqa-opaque-key";

/// The key that replaces the placeholder of a request.
#[derive(Debug)]
pub(crate) struct KeyRewrite {
    /// The percent-encoded key.
    encoded: String,
    /// Signs the rewritten request, if its signature covers the path.
    signer: Option<S3Signer>,
}

/// The credentials and the region of an S3 bucket.
#[derive(Debug, Clone)]
pub(crate) struct S3Signer {
    pub(crate) credentials: AwsCredentialProvider,
    pub(crate) region: String,
}

/// The request cannot be rewritten.
#[derive(Debug, thiserror::Error)]
#[error("the request for an unusual key cannot be built: {0}")]
pub(crate) struct RewriteError(String);

impl KeyRewrite {
    pub(crate) fn new(key: &str, signer: Option<S3Signer>) -> Self {
        Self { encoded: uri::encoded_key(key), signer }
    }

    /// Replaces the placeholder in the URL of a request, and signs it again if it was signed.
    pub(crate) async fn apply(&self, request: &mut HttpRequest) -> Result<(), RewriteError> {
        let failed = |error: &dyn std::error::Error| RewriteError(error.to_string());
        let uri = request.uri().to_string();
        let (path, query) = uri.split_at(uri.find('?').unwrap_or(uri.len()));
        let (before, after) = path
            .rsplit_once(PLACEHOLDER)
            .ok_or_else(|| RewriteError("it has no placeholder".to_owned()))?;
        let uri = format!("{before}{}{after}{query}", self.encoded);
        *request.uri_mut() = uri.parse().map_err(|_| RewriteError("its URL is bad".to_owned()))?;
        let (Some(signer), true) = (&self.signer, request.headers().contains_key(AUTHORIZATION))
        else {
            return Ok(());
        };
        request.headers_mut().remove(AUTHORIZATION);
        let credential =
            signer.credentials.get_credential().await.map_err(|error| failed(&error))?;
        AwsAuthorizer::new(&credential, "s3", &signer.region)
            .try_authorize(request, None)
            .map_err(|error| failed(&error))
    }
}
