//! Builds the clients of buckets from the settings and the environment.

use std::error::Error;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::{Host, Url};

use crate::redact;
use crate::storage::backends::object_store::connector::Connector;
use crate::storage::error::{StorageError, root_cause};
use crate::storage::settings::{AzureSettings, GcsSettings, S3Settings};
use crate::storage::uri::{self, Scheme};

/// Builds the client of an S3 bucket.
pub(crate) fn open_s3(
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
            prepend_to_host(&mut url, bucket)?;
        }
        builder = builder.with_endpoint(url.as_str().trim_end_matches('/'));
    } else if let Some(endpoint) = builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
        // The client would panic if this is not a URL.
        service_url("AWS_ENDPOINT_URL", &endpoint)?;
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

/// Builds the client of a bucket of Google Cloud Storage.
pub(crate) fn open_gcs(
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

/// Builds the client of an Azure container.
pub(crate) fn open_azure(
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

/// Prepends the bucket to the host of an endpoint.
fn prepend_to_host(url: &mut Url, bucket: &str) -> Result<(), StorageError> {
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
        why: "has no host name to prepend a bucket to; set virtual_hosted = false",
    })
}

/// Turns off the retries of `object_store`, because the fetch counts the attempts.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn client_options(allow_http: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(allow_http)
}

fn built<S: ObjectStore>(
    scheme: Scheme,
    bucket: &str,
    store: object_store::Result<S>,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(StorageError::Bucket {
            bucket: uri::bucket_uri(scheme, bucket),
            why: setup_problem(&error),
        }),
    }
}

/// Describes why a client cannot be built. For a malformed key file, reports only the position,
/// because the parser's message would repeat its content.
fn setup_problem(error: &object_store::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(json) = inner.downcast_ref::<serde_json::Error>() {
            let (line, column) = (json.line(), json.column());
            return format!("its key is not valid JSON, line {line} column {column}");
        }
        cause = inner.source();
    }
    root_cause(error)
}

/// Parses the URL of a service. Refuses credentials and queries in it.
fn service_url(setting: &'static str, endpoint: &str) -> Result<Url, StorageError> {
    let refuse = |why| StorageError::Setting { setting, value: redact::uri(endpoint), why };
    let url = Url::parse(endpoint).map_err(|_| refuse("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(refuse("holds more than an address; set keys in their own settings"));
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
    let url = service_url(setting, endpoint)?;
    if url.scheme() == "http" && !allow_http {
        return Err(refuse("is without TLS; use https or set allow_http next to it"));
    }
    Ok(url)
}
