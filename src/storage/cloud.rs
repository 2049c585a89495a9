//! Clients for S3, Google Cloud Storage and Azure, one per bucket, and what their errors mean.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpError;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as ObjectKey;
use object_store::{
    Attribute, ClientOptions, Error, GetOptions, ObjectMeta, ObjectStore, RetryConfig,
};
use url::{Host, Url};

use crate::redact;
use crate::storage::body;
use crate::storage::connector::{Connector, Note};
use crate::storage::etag::Etag;
use crate::storage::failure::{FetchFault, root_cause};
use crate::storage::fetch::{Content, Limits};
use crate::storage::http::{self, TimeLimits};
use crate::storage::settings::{AzureSettings, GcsSettings, S3Settings, Settings};
use crate::storage::stores::StorageError;
use crate::storage::uri::{Scheme, UriFault};

/// One bucket and the client that reads it.
#[derive(Clone)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Built from the settings: it goes through our connector and knows `If-Match`.
    Configured,
    /// Given by the embedding program. It may spell its tags otherwise, so the tag of the answer
    /// alone decides.
    Injected,
}

impl Bucket {
    /// Builds the client of a configured bucket.
    pub(crate) fn open(
        scheme: Scheme,
        name: &str,
        settings: &Settings,
        connector: &Connector,
    ) -> Result<Self, StorageError> {
        let store = match scheme {
            Scheme::S3 => {
                let s3 = settings.s3_buckets.get(name).unwrap_or(&settings.s3);
                open_s3(name, s3, connector)
            }
            Scheme::Gs => open_gcs(name, &settings.gcs, connector),
            Scheme::Az => open_azure(name, &settings.azure, connector),
        };
        store.map(|store| Self { store, origin: Origin::Configured })
    }

    /// Takes a store of the embedding program.
    pub(crate) fn injected(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, origin: Origin::Injected }
    }

    /// Reads an object.
    pub(crate) async fn read(
        &self,
        key: &ObjectKey,
        etag: Option<&Etag>,
        limits: &Limits,
    ) -> Result<Content, FetchFault> {
        let note = Arc::new(Note::default());
        let mut options = GetOptions::default();
        options.extensions.insert(Arc::clone(&note));
        if self.origin == Origin::Configured {
            options.if_match = etag.and_then(Etag::if_match);
        }
        let answer = self
            .store
            .get_opts(key, options)
            .await
            .map_err(|error| self.fault_from(&error, &note, limits.time))?;
        if let Some(expected) = etag {
            expected.verify(answer.meta.e_tag.as_deref())?;
        }
        let size = answer.meta.size;
        let etag = answer.meta.e_tag.clone();
        let media_type =
            answer.attributes.get(&Attribute::ContentType).map(|value| value.as_ref().to_owned());
        let stream =
            answer.into_stream().map_err(|error| self.fault_from(&error, &note, limits.time));
        let bytes = body::collect(stream, Some(size), limits.bytes_max).await?;
        Ok(Content { bytes, etag, media_type })
    }

    /// Lists the objects of a folder in the order of their keys, beginning behind one of them.
    pub(crate) fn list(
        &self,
        folder: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match after {
            Some(after) => self.store.list_with_offset(folder, after),
            None => self.store.list(folder),
        }
    }

    /// Judges an error of a listing, which carries no note along.
    pub(crate) fn listing_fault(error: &Error, limits: TimeLimits) -> FetchFault {
        match error {
            Error::NotFound { .. } => FetchFault::NotFound("of a listing".to_owned()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                FetchFault::Forbidden("a listing, which is a right of its own".to_owned())
            }
            Error::InvalidPath { .. } => {
                UriFault::UnsupportedKey("of a listed object is no path").into()
            }
            _ => transport_fault(error, limits)
                .unwrap_or_else(|| FetchFault::Unavailable(root_cause(error))),
        }
    }

    /// Judges every error of the object stores. Their own texts show URLs and the bodies of
    /// answers; only what is known to hold neither is passed on.
    fn fault_from(&self, error: &Error, note: &Note, limits: TimeLimits) -> FetchFault {
        match error {
            Error::NotFound { .. } => return FetchFault::NotFound(note.answer()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                return FetchFault::Forbidden(note.answer());
            }
            Error::Precondition { .. } => return FetchFault::EtagMismatch(note.answer()),
            _ => {}
        }
        if let Some(status) = note.failed_status() {
            return FetchFault::from_status(status, note.detail().as_deref());
        }
        let transport = transport_fault(error, limits);
        if note.was_asked() {
            return transport.unwrap_or_else(|| FetchFault::UnexpectedAnswer(root_cause(error)));
        }
        match self.origin {
            // The store was never asked: it was the credentials that could not be had.
            Origin::Configured => FetchFault::Unavailable(format!(
                "no credentials for it could be had: {}; set them in storage or the environment, \
                 or set anonymous for public buckets",
                transport.map_or_else(|| "refused".to_owned(), |fault| fault.to_string()),
            )),
            Origin::Injected => FetchFault::Unavailable(root_cause(error)),
        }
    }
}

/// Finds the fault of the connection or of a local file in the causes of an error.
fn transport_fault(error: &Error, limits: TimeLimits) -> Option<FetchFault> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut is_transport = false;
    while let Some(inner) = cause {
        if let Some(client_error) = inner.downcast_ref::<reqwest::Error>() {
            return Some(http::fault_from(client_error, limits));
        }
        is_transport |= inner.is::<HttpError>() || inner.is::<std::io::Error>();
        cause = inner.source();
    }
    is_transport.then(|| FetchFault::Unavailable(root_cause(error)))
}

/// One attempt at a time: the attempts are counted by the fetch.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn client_options(allow_http: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(allow_http)
}

fn open_s3(
    bucket: &str,
    settings: &S3Settings,
    connector: &Connector,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_http_connector(connector.clone());
    if let Some(endpoint) = &settings.endpoint {
        let mut url = endpoint_url("storage.s3.endpoint", endpoint, settings.allow_http)?;
        if settings.virtual_hosted {
            put_in_host(&mut url, bucket)?;
        }
        builder = builder.with_endpoint(url.as_str().trim_end_matches('/'));
    } else if let Some(endpoint) = builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
        // The client would panic where this is not a URL.
        bare_url("AWS_ENDPOINT_URL", &endpoint)?;
    }
    if settings.allow_http {
        builder = builder.with_allow_http(true);
    }
    if settings.virtual_hosted {
        builder = builder.with_virtual_hosted_style_request(true);
    }
    if settings.anonymous {
        builder = builder.with_skip_signature(true);
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(key) = &settings.access_key_id {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = &settings.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose());
    }
    if let Some(token) = &settings.session_token {
        builder = builder.with_token(token.expose());
    }
    built(Scheme::S3, bucket, builder.build())
}

/// Makes the bucket the first label of the host.
fn put_in_host(url: &mut Url, bucket: &str) -> Result<(), StorageError> {
    let host = match url.host() {
        Some(Host::Domain(host)) => Some(format!("{bucket}.{host}")),
        _ => None,
    };
    if host.is_some_and(|host| url.set_host(Some(&host)).is_ok()) {
        return Ok(());
    }
    Err(StorageError::Setting {
        setting: "storage.s3.endpoint",
        value: redact::uri(url.as_str()),
        why: "has no host name that a bucket can be put before; set virtual_hosted = false",
    })
}

fn open_gcs(
    bucket: &str,
    settings: &GcsSettings,
    connector: &Connector,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_client_options(client_options(settings.allow_http))
        .with_http_connector(connector.clone());
    if let Some(endpoint) = &settings.endpoint {
        let url = endpoint_url("storage.gcs.endpoint", endpoint, settings.allow_http)?;
        builder = builder.with_base_url(url.as_str().trim_end_matches('/'));
    }
    if settings.anonymous {
        builder = builder.with_skip_signature(true);
    }
    if let Some(path) = &settings.service_account_path {
        builder = builder.with_service_account_path(path.to_string_lossy());
    }
    built(Scheme::Gs, bucket, builder.build())
}

fn open_azure(
    container: &str,
    settings: &AzureSettings,
    connector: &Connector,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(no_retries())
        .with_client_options(client_options(settings.allow_http))
        .with_http_connector(connector.clone());
    if let Some(account) = &settings.account {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = &settings.endpoint {
        let url = endpoint_url("storage.azure.endpoint", endpoint, settings.allow_http)?;
        builder = builder.with_endpoint(url.as_str().trim_end_matches('/').to_owned());
    }
    if settings.anonymous {
        builder = builder.with_skip_signature(true);
    }
    if let Some(key) = &settings.access_key {
        builder = builder.with_access_key(key.expose());
    }
    built(Scheme::Az, container, builder.build())
}

fn built<S: ObjectStore>(
    scheme: Scheme,
    bucket: &str,
    store: object_store::Result<S>,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(StorageError::Bucket {
            bucket: format!("{}://{bucket}", scheme.as_str()),
            why: setup_problem(&error),
        }),
    }
}

/// Says why a client cannot be built. Where a file of keys is not what it should be, the parser's
/// own words would repeat what stands there.
fn setup_problem(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(json) = inner.downcast_ref::<serde_json::Error>() {
            let (line, column) = (json.line(), json.column());
            return format!("its key is not the JSON it should be, line {line} column {column}");
        }
        cause = inner.source();
    }
    root_cause(error)
}

/// Reads the URL of a service, which is a place and nothing more.
fn bare_url(setting: &'static str, endpoint: &str) -> Result<Url, StorageError> {
    let refuse = |why| StorageError::Setting { setting, value: redact::uri(endpoint), why };
    let url = Url::parse(endpoint).map_err(|_| refuse("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(refuse("holds more than a place; keys have settings of their own"));
    }
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(refuse("is neither http nor https")),
    }
}

fn endpoint_url(
    setting: &'static str,
    endpoint: &str,
    allow_http: bool,
) -> Result<Url, StorageError> {
    let refuse = |why| StorageError::Setting { setting, value: redact::uri(endpoint), why };
    let url = bare_url(setting, endpoint)?;
    if url.scheme() == "http" && !allow_http {
        return Err(refuse("is without TLS; use https or set allow_http beside it"));
    }
    Ok(url)
}
