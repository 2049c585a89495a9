//! Keys that the paths of `object_store` cannot hold: `a//b`, `/a`, `a/`, `a/./b`, `a/../b`.
//!
//! For a store they are names like any other. The request is built for a placeholder; then the
//! transport replaces it in the URL and signs the request again. So conditions, versions and the
//! responses are those of every other read. Only the path below the bucket is replaced.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::HttpRequest;
use reqwest::header::AUTHORIZATION;

use crate::storage::uri;

/// The key that the request is built for.
pub(crate) const PLACEHOLDER: &str = "dogiqa-opaque-key";

/// The service in the scope of a signature.
const SERVICE: &str = "s3";
/// The digest of the body, which the first signature has set.
const CONTENT_SHA256: &str = "x-amz-content-sha256";
/// Headers that each signature sets.
const SIGNATURE_HEADERS: [&str; 4] =
    ["authorization", "x-amz-date", CONTENT_SHA256, "x-amz-security-token"];

/// The key that replaces the placeholder of a request.
#[derive(Debug)]
pub(crate) struct KeyRewrite {
    /// The percent-encoded key.
    encoded: String,
    /// True if the usual client would change the URL.
    needs_raw_url: bool,
    signer: Option<KeySigner>,
}

/// Signs a request if its signature covers the path.
#[derive(Debug, Clone)]
pub(crate) enum KeySigner {
    S3(S3Signer),
    Azure(AzureSigner),
}

/// The credentials and the region of an S3 bucket.
#[derive(Debug, Clone)]
pub(crate) struct S3Signer {
    pub(crate) credentials: AwsCredentialProvider,
    pub(crate) region: String,
}

/// The credentials and the storage account of an Azure container.
#[derive(Debug, Clone)]
pub(crate) struct AzureSigner {
    pub(crate) credentials: AzureCredentialProvider,
    pub(crate) account: String,
}

/// The request cannot be rewritten.
#[derive(Debug, thiserror::Error)]
#[error("the request for an unusual key cannot be built: {0}")]
pub(crate) struct RewriteError(String);

impl RewriteError {
    fn new(error: &dyn std::error::Error) -> Self {
        Self(error.to_string())
    }
}

impl KeyRewrite {
    pub(crate) fn new(key: &str, signer: Option<KeySigner>) -> Self {
        let needs_raw_url = uri::has_relative_segment(key);
        Self { encoded: uri::encoded_key(key), needs_raw_url, signer }
    }

    /// Returns true if only [`RawClient`](super::raw_client::RawClient) sends the URL unchanged.
    pub(crate) fn needs_raw_url(&self) -> bool {
        self.needs_raw_url
    }

    /// Replaces the placeholder in the URL of a request, and signs it again if it was signed.
    pub(crate) async fn apply(&self, request: &mut HttpRequest) -> Result<(), RewriteError> {
        let uri = request.uri().to_string();
        let (path, query) = uri.split_at(uri.find('?').unwrap_or(uri.len()));
        let (before, after) = path
            .rsplit_once(PLACEHOLDER)
            .ok_or_else(|| RewriteError("it has no placeholder".to_owned()))?;
        let uri = format!("{before}{}{after}{query}", self.encoded);
        *request.uri_mut() = uri.parse().map_err(|_| RewriteError("its URL is bad".to_owned()))?;
        if !request.headers().contains_key(AUTHORIZATION) {
            return Ok(());
        }
        match &self.signer {
            Some(KeySigner::S3(signer)) => signer.sign(request).await,
            Some(KeySigner::Azure(signer)) => signer.sign(request).await,
            None => Ok(()),
        }
    }
}

impl S3Signer {
    async fn sign(&self, request: &mut HttpRequest) -> Result<(), RewriteError> {
        let credential =
            self.credentials.get_credential().await.map_err(|error| RewriteError::new(&error))?;
        sign_v4(request, &credential, &self.region)
    }
}

impl AzureSigner {
    /// Signs with the account's key. Other credentials do not cover the path.
    async fn sign(&self, request: &mut HttpRequest) -> Result<(), RewriteError> {
        let credential =
            self.credentials.get_credential().await.map_err(|error| RewriteError::new(&error))?;
        if !matches!(&*credential, AzureCredential::AccessKey(_)) {
            return Ok(());
        }
        request.headers_mut().remove(AUTHORIZATION);
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(request)
            .map_err(|error| RewriteError::new(&error))
    }
}

/// Signs a request like S3 expects it: over the path as it is sent. The signature of `object_store`
/// covers the path of a URL, which has no `.` and `..`.
fn sign_v4(
    request: &mut HttpRequest,
    credential: &AwsCredential,
    region: &str,
) -> Result<(), RewriteError> {
    let digest = request.headers().get(CONTENT_SHA256).and_then(|value| value.to_str().ok());
    let body = digest.map_or(SignableBody::UnsignedPayload, |digest| {
        SignableBody::Precomputed(digest.to_owned())
    });
    for name in SIGNATURE_HEADERS {
        request.headers_mut().remove(name);
    }
    let (id, secret, token) =
        (&credential.key_id, &credential.secret_key, credential.token.clone());
    let identity = Credentials::new(id, secret, token, None, "dogiqa").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|error| RewriteError::new(&error))?
        .into();
    let (method, url) = (request.method().to_string(), request.uri().to_string());
    let headers = request.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(&method, url, headers, body)
        .map_err(|error| RewriteError::new(&error))?;
    let signed = sign(signable, &parameters).map_err(|error| RewriteError::new(&error))?;
    signed.into_parts().0.apply_to_request_http1x(request);
    Ok(())
}
