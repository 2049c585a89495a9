//! What may be read, within which limits, and how the object stores are reached.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize, Serializer};

use crate::redact;
use crate::storage::guard;
use crate::storage::secret::Secret;
use crate::storage::uri::{self, Location, UriFault};

/// Where images may be read from. By default nothing is allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Buckets and containers that references may name, each with its scheme: `s3://photos`,
    /// `gs://photos`, `az://photos`. Names are compared as a whole; there are no patterns.
    pub allow_buckets: Vec<String>,
    /// Hosts that `https:` references may name: `images.example.com` for the scheme's own port,
    /// `images.example.com:8443` for another. Names are compared as a whole. A name that resolves
    /// to a loopback, private, link-local or otherwise not public address is refused all the same,
    /// and so is a redirect to a host that is not in the list.
    pub allow_hosts: Vec<String>,
    /// Image servers of your own network that references may name, in the form of `allow_hosts`:
    /// `images.internal:8080`, `10.1.2.3`. Their addresses are not checked. List only servers that
    /// anyone who can write a reference may read.
    pub allow_private_hosts: Vec<String>,
    /// Whether `http:` references, without TLS, are allowed too.
    pub allow_http: bool,
    /// Folders below which `file:` references may be read. Symbolic links are followed as long as
    /// they are relative and stay below the folder.
    pub file_roots: Vec<PathBuf>,
    /// Largest image that is fetched; the transfer is cut at this size, whatever its headers said.
    pub bytes_max: ByteSize,
    /// How long a connection, TLS included, may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a server may stay silent before or within an answer.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
    /// How long one fetch may take in all, with every attempt and every wait between them.
    #[serde(with = "humantime_serde")]
    pub fetch_timeout: Duration,
    /// How often a fetch is tried when it fails in passing: timeouts, lost connections and the
    /// answers 408, 425, 429 and 5xx. Other failures are final at once.
    pub attempts_max: NonZeroU32,
    /// The wait before an attempt is drawn evenly between nothing and a ceiling, which starts at
    /// twice this value and doubles with every attempt.
    #[serde(with = "humantime_serde")]
    pub backoff_base: Duration,
    /// Highest ceiling of the wait between two attempts.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// How many redirects of an `http(s):` reference are followed; each is checked like the
    /// reference itself.
    pub redirects_max: u32,
    /// How `s3:` references are read.
    pub s3: S3Settings,
    /// Buckets that live in another S3 system than `s3` describes, by name; what is not set here
    /// falls back to the environment, not to `s3`.
    pub s3_buckets: BTreeMap<String, S3Settings>,
    /// How `gs:` references are read.
    pub gcs: GcsSettings,
    /// How `az:` references are read.
    pub azure: AzureSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_buckets: Vec::new(),
            allow_hosts: Vec::new(),
            allow_private_hosts: Vec::new(),
            allow_http: false,
            file_roots: Vec::new(),
            bytes_max: ByteSize::mib(64),
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(30),
            attempts_max: NonZeroU32::MIN.saturating_add(2),
            backoff_base: Duration::from_millis(200),
            backoff_max: Duration::from_secs(5),
            redirects_max: 3,
            s3: S3Settings::default(),
            s3_buckets: BTreeMap::new(),
            gcs: GcsSettings::default(),
            azure: AzureSettings::default(),
        }
    }
}

impl Settings {
    /// Allows the place that a URI names: its bucket, its host with whatever address it has, or
    /// the folder that it is or is in. For URIs that the person at the keyboard gives.
    ///
    /// # Errors
    /// When the URI is malformed.
    pub fn allow(&mut self, uri: &str) -> Result<(), UriFault> {
        match uri::parse(uri)? {
            Location::Object { scheme, bucket, .. } => {
                add(&mut self.allow_buckets, format!("{}://{bucket}", scheme.as_str()));
            }
            Location::Web(url) => {
                self.allow_http |= url.scheme() == "http";
                add(&mut self.allow_private_hosts, guard::shown_host(&url));
            }
            Location::File(path) => {
                let folder = if path.is_dir() { None } else { path.parent() };
                let folder = folder.map(Path::to_owned).unwrap_or(path);
                if !self.file_roots.iter().any(|root| folder.starts_with(root)) {
                    self.file_roots.push(folder);
                }
            }
        }
        Ok(())
    }
}

fn add(list: &mut Vec<String>, entry: String) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}

/// An endpoint with keys in it is refused, but the effective configuration is shown before that.
#[expect(clippy::ref_option, reason = "serde's signature")]
fn without_secrets<S: Serializer>(
    endpoint: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    endpoint.as_deref().map(redact::uri).serialize(serializer)
}

/// Amazon S3 and what speaks its protocol.
///
/// What is not set is taken from the usual variables (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …). Without
/// keys, the web identity, the container's and the instance's role are tried, in this order;
/// profiles are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Settings {
    /// URL of the service, without a bucket: `https://s3.example.com`. Amazon's when not set.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_secrets")]
    pub endpoint: Option<String>,
    /// Region of the buckets; `us-east-1` when nothing names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether an endpoint without TLS is accepted.
    pub allow_http: bool,
    /// Whether the bucket is part of the host name (`https://photos.s3.example.com`) instead of
    /// the path.
    pub virtual_hosted: bool,
    /// Whether requests are sent unsigned, for public buckets.
    pub anonymous: bool,
    /// Access key, when it does not come from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Secret that belongs to `access_key_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// Token of temporary keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// Google Cloud Storage.
///
/// What is not set is taken from the usual variables (`GOOGLE_APPLICATION_CREDENTIALS`, …), the
/// application default credentials and the metadata server, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GcsSettings {
    /// URL of the service; Google's when not set.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_secrets")]
    pub endpoint: Option<String>,
    /// Whether an endpoint without TLS is accepted.
    pub allow_http: bool,
    /// Whether requests are sent unsigned, for public buckets.
    pub anonymous: bool,
    /// File with the key of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_path: Option<PathBuf>,
}

/// Azure Blob Storage: `az://container/path`.
///
/// What is not set is taken from the usual variables (`AZURE_STORAGE_ACCOUNT_NAME`,
/// `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_CLIENT_ID`, …); without a key, the workload's and the
/// managed identity are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureSettings {
    /// Storage account that holds the containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Key of the account, when it does not come from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<Secret>,
    /// URL of the service; `https://<account>.blob.core.windows.net` when not set.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_secrets")]
    pub endpoint: Option<String>,
    /// Whether an endpoint without TLS is accepted.
    pub allow_http: bool,
    /// Whether requests are sent unsigned, for public containers.
    pub anonymous: bool,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Settings;

    #[test]
    fn nothing_is_allowed_by_default() {
        let settings = Settings::default();
        assert!(settings.allow_buckets.is_empty() && settings.allow_hosts.is_empty());
        assert!(settings.allow_private_hosts.is_empty() && settings.file_roots.is_empty());
        assert!(!settings.allow_http && !settings.s3.allow_http);
    }

    #[test]
    fn a_place_is_allowed_by_a_uri_that_names_it() {
        let mut settings = Settings::default();
        for uri in [
            "s3://photos/a.jpg",
            "s3://photos/b.jpg",
            "http://127.0.0.1:8080/a.jpg?key=1",
            "https://images.example.com/a.jpg",
            "file:///no-such-folder/a.jpg",
            "file:///tmp",
            "file:///tmp/no-such-folder/a.jpg",
        ] {
            settings.allow(uri).unwrap();
        }
        assert_eq!(settings.allow_buckets, ["s3://photos"]);
        assert_eq!(settings.allow_private_hosts, ["127.0.0.1:8080", "images.example.com"]);
        assert_eq!(settings.file_roots, [Path::new("/no-such-folder"), Path::new("/tmp")]);
        assert!(settings.allow_http && settings.allow_hosts.is_empty());
        assert_eq!(settings.allow("photo.jpg").unwrap_err().code(), "uri.invalid");
    }

    #[test]
    fn values_carry_units_and_unknown_names_are_refused() {
        let settings: Settings = toml::from_str(
            "fetch_timeout = \"45s\"\nbytes_max = \"16 MiB\"\n[s3_buckets.archive]\nregion = \"eu\"",
        )
        .unwrap();
        assert_eq!(settings.fetch_timeout.as_secs(), 45);
        assert_eq!(settings.bytes_max.as_u64(), 16 << 20);
        assert_eq!(settings.s3_buckets["archive"].region.as_deref(), Some("eu"));
        assert!(toml::from_str::<Settings>("fetch_timout = \"45s\"").is_err());
        assert!(toml::from_str::<Settings>("[s3]\nprofile = \"me\"").is_err());
    }

    #[test]
    fn settings_survive_a_round_trip_through_toml() {
        let settings = Settings::default();
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn the_effective_configuration_shows_no_secret() {
        let settings: Settings =
            toml::from_str("[s3]\nsecret_access_key = \"hunter2\"\nsession_token = \"hunter3\"")
                .unwrap();
        assert!(!toml::to_string(&settings).unwrap().contains("hunter"));
        assert!(!format!("{settings:?}").contains("hunter"));
        let settings: Settings =
            toml::from_str("[s3]\nendpoint = \"https://me:hunter2@s3.example.com/\"").unwrap();
        let text = toml::to_string(&settings).unwrap();
        assert!(text.contains("s3.example.com") && !text.contains("hunter"), "{text}");
    }
}
