//! Keys that the paths of `object_store` cannot hold: `a//b`, `/a`, `a/`.
//!
//! For a store they are names like any other. The request is built for a placeholder; then the
//! transport replaces it in the URL and signs the request again. So conditions, versions and the
//! responses are those of every other read. Only the path below the bucket is replaced.

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use reqwest::header::AUTHORIZATION;

/// The key that the request is built for.
pub(crate) const PLACEHOLDER: &str = "dogiqa-opaque-key";

const HEX_DIGITS: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

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
        Self { encoded: percent_encoded(key), signer }
    }

    /// Replaces the placeholder in the URL of a request, and signs it again if it was signed.
    pub(crate) async fn apply(&self, request: &mut HttpRequest) -> Result<(), RewriteError> {
        let failed = |error: &dyn std::error::Error| RewriteError(error.to_string());
        let uri = request.uri().to_string();
        let (before, after) = uri
            .rsplit_once(PLACEHOLDER)
            .ok_or_else(|| RewriteError("it has no placeholder".to_owned()))?;
        let uri = format!("{before}{}{after}", self.encoded);
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

/// Encodes a key like S3 does for its signatures: everything but letters, digits, `-._~` and `/`.
fn percent_encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |half: u8| HEX_DIGITS[usize::from(half)];
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_encoded_once_and_keeps_its_slashes() {
        assert_eq!(percent_encoded("/a//b c+é%2F?#/"), "/a//b%20c%2B%C3%A9%252F%3F%23/");
    }
}
