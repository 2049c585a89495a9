//! Builds the clients of buckets from the settings and the environment.

use std::error::Error;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::azure::{AzureConfigKey, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};
use object_store::{
    ClientOptions, CredentialProvider, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use url::{Host, Url};

use crate::redact::{self, root_cause};
use crate::storage::backends::object_store::connector::Connector;
use crate::storage::backends::object_store::kept_credentials::KeptCredentials;
use crate::storage::backends::object_store::opaque_key::{
    AzureSigner, KeyRewrite, KeySigner, S3Signer,
};
use crate::storage::backends::object_store::shared_profile::{SharedFiles, environment_profile};
use crate::storage::error::StorageError;
use crate::storage::settings::{AzureSettings, GcsSettings, S3Settings};
use crate::storage::uri::{self, Scheme};

/// The region that the client uses if none is configured.
const DEFAULT_REGION: &str = "us-east-1";
/// The storage account of Azure's emulator, the only one that needs no name.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";

/// The client of a bucket.
pub(crate) struct OpenedClient {
    pub(crate) store: Arc<dyn ObjectStore>,
    credentials: Credentials,
}

/// The provider of the credentials of a client.
enum Credentials {
    S3(S3Signer),
    Gcs(GcpCredentialProvider),
    Azure(AzureSigner),
    /// The requests are not signed.
    Anonymous,
}

impl OpenedClient {
    /// Returns true if credentials can be obtained, or none are needed.
    pub(crate) async fn has_credentials(&self) -> bool {
        match &self.credentials {
            Credentials::S3(signer) => signer.credentials.get_credential().await.is_ok(),
            Credentials::Gcs(provider) => provider.get_credential().await.is_ok(),
            Credentials::Azure(signer) => signer.credentials.get_credential().await.is_ok(),
            Credentials::Anonymous => true,
        }
    }

    /// Returns the rewrite of a request for a key that no path holds.
    pub(crate) fn rewrite(&self, key: &str) -> KeyRewrite {
        let signer = match &self.credentials {
            Credentials::S3(signer) => Some(KeySigner::S3(signer.clone())),
            Credentials::Azure(signer) => Some(KeySigner::Azure(signer.clone())),
            Credentials::Gcs(_) | Credentials::Anonymous => None,
        };
        KeyRewrite::new(key, signer)
    }
}

/// Builds the client of an S3 bucket.
pub(crate) fn open_s3(
    bucket: &str,
    settings: &S3Settings,
    connector: &Connector,
) -> Result<OpenedClient, StorageError> {
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
    let builder = with_access_keys(builder, settings)?;
    let scheme = Scheme::S3;
    let refused = |error| setup_error(scheme, bucket, &error);
    if settings.anonymous {
        let store = Arc::new(builder.build().map_err(refused)?);
        return Ok(OpenedClient { store, credentials: Credentials::Anonymous });
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let provider = Arc::clone(builder.clone().build().map_err(refused)?.credentials());
    let credentials: AwsCredentialProvider = kept(provider, scheme, bucket);
    let store = builder.with_credentials(Arc::clone(&credentials)).build().map_err(refused)?;
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let signer = S3Signer { credentials, region };
    Ok(OpenedClient { store: Arc::new(store), credentials: Credentials::S3(signer) })
}

/// Sets the access keys from the settings, else from a profile. Without either, the builder has
/// those of the environment, else the role's.
fn with_access_keys(
    mut builder: AmazonS3Builder,
    settings: &S3Settings,
) -> Result<AmazonS3Builder, StorageError> {
    let has_keys = settings.access_key_id.is_some() || settings.secret_access_key.is_some();
    if settings.anonymous || has_keys {
        if let Some(key) = &settings.access_key_id {
            builder = builder.with_access_key_id(key);
        }
        if let Some(secret) = &settings.secret_access_key {
            builder = builder.with_secret_access_key(secret.expose());
        }
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(token.expose());
        }
        return Ok(builder);
    }
    let is_set = |key: AmazonS3ConfigKey| builder.get_config_value(&key).is_some();
    let environment_has_keys =
        is_set(AmazonS3ConfigKey::AccessKeyId) || is_set(AmazonS3ConfigKey::SecretAccessKey);
    let has_role = is_set(AmazonS3ConfigKey::WebIdentityTokenFile)
        || is_set(AmazonS3ConfigKey::ContainerCredentialsRelativeUri)
        || is_set(AmazonS3ConfigKey::ContainerCredentialsFullUri);
    let named = settings
        .profile
        .clone()
        .or_else(|| environment_profile().filter(|_| !environment_has_keys));
    let files = SharedFiles::of_environment();
    let profile = match named {
        Some(name) => Some(files.read(&name)?),
        None if environment_has_keys || has_role => None,
        None => files.read_default(),
    };
    let Some(profile) = profile else { return Ok(builder) };
    if !is_set(AmazonS3ConfigKey::Region)
        && let Some(region) = profile.region
    {
        builder = builder.with_region(region);
    }
    // As a whole, because a profile without a token must not get that of the environment.
    let credential = AwsCredential {
        key_id: profile.access_key_id,
        secret_key: profile.secret_access_key,
        token: profile.session_token,
    };
    Ok(builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential))))
}

/// Builds the client of a bucket of Google Cloud Storage.
pub(crate) fn open_gcs(
    bucket: &str,
    settings: &GcsSettings,
    connector: &Connector,
) -> Result<OpenedClient, StorageError> {
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
    let scheme = Scheme::Gs;
    let refused = |error| setup_error(scheme, bucket, &error);
    if settings.anonymous {
        let store = Arc::new(builder.build().map_err(refused)?);
        return Ok(OpenedClient { store, credentials: Credentials::Anonymous });
    }
    let provider = Arc::clone(builder.clone().build().map_err(refused)?.credentials());
    let credentials: GcpCredentialProvider = kept(provider, scheme, bucket);
    let store = builder.with_credentials(Arc::clone(&credentials)).build().map_err(refused)?;
    Ok(OpenedClient { store: Arc::new(store), credentials: Credentials::Gcs(credentials) })
}

/// Builds the client of an Azure container.
pub(crate) fn open_azure(
    container: &str,
    settings: &AzureSettings,
    connector: &Connector,
) -> Result<OpenedClient, StorageError> {
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
    let scheme = Scheme::Az;
    let refused = |error| setup_error(scheme, container, &error);
    if settings.anonymous {
        let store = Arc::new(builder.build().map_err(refused)?);
        return Ok(OpenedClient { store, credentials: Credentials::Anonymous });
    }
    let account = builder.get_config_value(&AzureConfigKey::AccountName);
    let account = account.unwrap_or_else(|| EMULATOR_ACCOUNT.to_owned());
    let provider = Arc::clone(builder.clone().build().map_err(refused)?.credentials());
    let credentials: AzureCredentialProvider = kept(provider, scheme, container);
    let store = builder.with_credentials(Arc::clone(&credentials)).build().map_err(refused)?;
    let signer = AzureSigner { credentials, account };
    Ok(OpenedClient { store: Arc::new(store), credentials: Credentials::Azure(signer) })
}

fn kept<T: std::fmt::Debug + Send + Sync + 'static>(
    provider: Arc<dyn CredentialProvider<Credential = T>>,
    scheme: Scheme,
    bucket: &str,
) -> Arc<dyn CredentialProvider<Credential = T>> {
    Arc::new(KeptCredentials::new(provider, uri::bucket_uri(scheme, bucket)))
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

fn setup_error(scheme: Scheme, bucket: &str, error: &object_store::Error) -> StorageError {
    StorageError::Bucket { bucket: uri::bucket_uri(scheme, bucket), why: setup_problem(error) }
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
