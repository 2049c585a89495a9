//! Settings of storage: the allow-lists, the limits, and the access to the object stores.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize, Serializer};

use crate::redact;
use crate::secret::Secret;
use crate::storage::error::UriFault;
use crate::storage::uri::{self, Location};

/// Settings for reading images. By default, nothing may be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Allows references to these buckets and containers. Each entry has its scheme: `s3://photos`,
    /// `gs://photos`, `az://photos`. Names are compared as a whole; there are no patterns.
    pub allow_buckets: Vec<String>,
    /// Allows `https:` references to these hosts: `images.example.com` on the scheme's default
    /// port, `images.example.com:8443` on another. Names are compared as a whole. A name that
    /// resolves to a loopback, private, link-local or other non-public address is still refused. So
    /// is a redirect to a host that is not in the list.
    pub allow_hosts: Vec<String>,
    /// Allows references to image servers in your own network, in the format of `allow_hosts`:
    /// `images.internal:8080`, `10.1.2.3`. Their addresses are not checked. List only servers that
    /// everyone who can write a reference may read.
    pub allow_private_hosts: Vec<String>,
    /// Allows `http:` references too, which have no TLS. Applies to `allow_hosts` and
    /// `allow_private_hosts`.
    pub allow_http: bool,
    /// Allows `file:` references below these folders. Symbolic links are followed as long as they
    /// are relative and stay below the folder.
    pub file_roots: Vec<PathBuf>,
    /// Refuses images above this size. The transfer stops at this size, regardless of the headers.
    pub bytes_max: ByteSize,
    /// Limits the time to connect, including the TLS handshake.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Limits the time that a server stays silent before or within a response.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
    /// Limits the total time of a fetch, with all its attempts and the delays between them.
    #[serde(with = "humantime_serde")]
    pub fetch_timeout: Duration,
    /// Limits the attempts of a fetch. Only transient failures are retried: timeouts, lost
    /// connections and the status codes 408, 425 and 5xx. Throttled requests do not count.
    pub attempts_max: NonZeroU32,
    /// Sets the delays between attempts. Each is random, between zero and a ceiling. The first
    /// ceiling is twice this value, and every later one is twice the one before.
    #[serde(with = "humantime_serde")]
    pub backoff_base: Duration,
    /// Limits the ceiling of the delays between attempts.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// Limits the redirects of an `http(s):` reference. Each target is checked like the reference
    /// itself.
    pub redirects_max: u32,
    /// Selects the objects of notifications that are images. References are not affected.
    pub keys: KeySettings,
    /// Access to `s3:` references.
    pub s3: S3Settings,
    /// Access to buckets in S3 systems other than that of `s3`, by bucket name. Values that are not
    /// set here are read from the environment, not from `s3`.
    pub s3_buckets: BTreeMap<String, S3Settings>,
    /// Access to `gs:` references.
    pub gcs: GcsSettings,
    /// Access to `az:` references.
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
            keys: KeySettings::default(),
            s3: S3Settings::default(),
            s3_buckets: BTreeMap::new(),
            gcs: GcsSettings::default(),
            azure: AzureSettings::default(),
        }
    }
}

impl Settings {
    /// Allows the location of a URI from the command line: its bucket, its host with any address,
    /// or its folder.
    ///
    /// # Errors
    /// Fails if the URI is malformed.
    pub fn allow(&mut self, uri: &str) -> Result<(), UriFault> {
        match uri::parse(uri)? {
            Location::Object { scheme, bucket, .. } => {
                add(&mut self.allow_buckets, uri::bucket_uri(scheme, &bucket));
            }
            Location::Web(url) => {
                self.allow_http |= url.scheme() == "http";
                add(&mut self.allow_private_hosts, uri::host_and_port(&url));
            }
            Location::File(path) => {
                let parent = if path.is_dir() { None } else { path.parent() };
                let folder = parent.map(Path::to_owned).unwrap_or(path);
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

/// Hides keys in an endpoint. They are refused, but the effective configuration is shown before.
#[expect(clippy::ref_option, reason = "serde's signature")]
fn without_secrets<S: Serializer>(
    endpoint: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    endpoint.as_deref().map(redact::uri).serialize(serializer)
}

/// The objects of notifications that are images. Others are skipped and counted. An object must
/// still be in an allowed bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeySettings {
    /// Patterns of keys to assess: `["uploads/*.jpg", "*.png"]`. `*` matches any characters, `/`
    /// included; `?` matches one, `[a-z]` one of a range. There are no braces: write a pattern for
    /// each alternative. Empty: every key.
    pub include: Vec<String>,
    /// Patterns of keys to skip, even if `include` matches.
    pub exclude: Vec<String>,
    /// Matches upper and lower case alike, so that `*.jpg` includes `IMG_0001.JPG`. Letters outside
    /// of ASCII differ.
    pub ignore_case: bool,
    /// Media types to assess: `image/*` matches all of a kind. The type is that of the
    /// notification, else that of the store's response. Stores without the uploader's type use an
    /// `octet-stream`. Empty: every type.
    pub content_types: Vec<String>,
}

impl Default for KeySettings {
    fn default() -> Self {
        let content_types = ["image/*", "application/octet-stream", "binary/octet-stream"];
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            ignore_case: false,
            content_types: content_types.map(str::to_owned).to_vec(),
        }
    }
}

/// Amazon S3 and compatible stores.
///
/// Values that are not set are read from the usual variables (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …). Without
/// keys, the profile of `AWS_PROFILE`, the web identity, the container's role, the default profile
/// and the instance's role are tried, in this order. If the store refuses the credentials, files
/// and roles are read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Settings {
    /// URL of the service, without a bucket: `https://s3.example.com`. Default: that of Amazon.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_secrets")]
    pub endpoint: Option<String>,
    /// Region of the buckets. Default: from the environment, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Accepts an endpoint without TLS.
    pub allow_http: bool,
    /// Puts the bucket into the host name (`https://photos.s3.example.com`) instead of the path.
    pub virtual_hosted: bool,
    /// Sends unsigned requests, for public buckets.
    pub anonymous: bool,
    /// Profile in AWS's shared files (`~/.aws/credentials`) that has the access keys. Read again if
    /// the store refuses the keys. Profiles with a role, single sign-on or a process are refused.
    /// Default: `AWS_PROFILE`, unless keys are set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Id of the access key. Default: from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Secret of the access key `access_key_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// Session token of a temporary access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// Google Cloud Storage.
///
/// Values that are not set are read from the usual variables (`GOOGLE_APPLICATION_CREDENTIALS`, …),
/// the application default credentials and the metadata server, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GcsSettings {
    /// URL of the service. Default: that of Google.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_secrets")]
    pub endpoint: Option<String>,
    /// Accepts an endpoint without TLS.
    pub allow_http: bool,
    /// Sends unsigned requests, for public buckets.
    pub anonymous: bool,
    /// Path of a service account's key file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_path: Option<PathBuf>,
}

/// Azure Blob Storage: `az://container/path`.
///
/// Values that are not set are read from the usual variables (`AZURE_STORAGE_ACCOUNT_NAME`,
/// `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_CLIENT_ID`, …). Without a key, the workload identity and the
/// managed identity are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureSettings {
    /// Storage account that holds the containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Access key of the account. Default: from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<Secret>,
    /// URL of the service. Default: `https://<account>.blob.core.windows.net`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_secrets")]
    pub endpoint: Option<String>,
    /// Accepts an endpoint without TLS.
    pub allow_http: bool,
    /// Sends unsigned requests, for public containers.
    pub anonymous: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_by_default() {
        let settings = Settings::default();
        assert!(settings.allow_buckets.is_empty() && settings.allow_hosts.is_empty());
        assert!(settings.allow_private_hosts.is_empty() && settings.file_roots.is_empty());
        assert!(!settings.allow_http && !settings.s3.allow_http);
    }

    #[test]
    fn a_uri_allows_its_own_location() {
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
    fn values_have_units_and_unknown_names_are_refused() {
        let settings: Settings = toml::from_str(
            "fetch_timeout = \"45s\"\nbytes_max = \"16 MiB\"\n[s3_buckets.archive]\nregion = \"eu\"",
        )
        .unwrap();
        assert_eq!(settings.fetch_timeout.as_secs(), 45);
        assert_eq!(settings.bytes_max.as_u64(), 16 << 20);
        assert_eq!(settings.s3_buckets["archive"].region.as_deref(), Some("eu"));
        assert!(toml::from_str::<Settings>("fetch_timout = \"45s\"").is_err());
        assert!(toml::from_str::<Settings>("[s3]\nprofil = \"me\"").is_err());
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
