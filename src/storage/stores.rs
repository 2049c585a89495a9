//! The clients of all allowed locations, for the life of the process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use reqwest::dns::Resolve;

use crate::storage::access::buckets;
use crate::storage::access::hosts::SystemResolver;
use crate::storage::access::roots::FileRoots;
use crate::storage::backends::object_store::{Bucket, Connector};
use crate::storage::backends::web::WebClient;
use crate::storage::error::{StorageError, UriFault};
use crate::storage::key_rules::{KeyRules, KeyVerdict};
use crate::storage::limits::Limits;
use crate::storage::settings::Settings;
use crate::storage::traffic::{StoreTraffic, Traffic, Turn};
use crate::storage::uri::{self, Location, Scheme};

/// Longest bucket name that a message repeats, in characters.
const BUCKET_CHARS_MAX: usize = 128;

/// Reads images from the locations that the settings allow, and from no other location.
///
/// A clone is cheap and shares the clients.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::sync::Arc;
/// use dog_iqa::storage::{FetchRequest, Scheme, Settings, Stores};
/// use object_store::{ObjectStoreExt, memory::InMemory};
///
/// let memory = InMemory::new();
/// memory.put(&"cat.jpg".into(), "not a cat".into()).await?;
/// let stores = Stores::new(&Settings::default())?;
/// let stores = stores.with_store(Scheme::S3, "photos", Arc::new(memory));
///
/// let image = stores.fetch(&FetchRequest::new("s3://photos/cat.jpg")).await?;
/// assert_eq!(image.bytes, "not a cat");
/// let refused = stores.fetch(&FetchRequest::new("s3://other/cat.jpg")).await;
/// assert_eq!(refused.unwrap_err().code(), "uri.forbidden_bucket");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stores {
    buckets: Arc<Buckets>,
    pub(crate) web: WebClient,
    pub(crate) roots: FileRoots,
    pub(crate) limits: Limits,
    pub(crate) key_rules: Arc<KeyRules>,
    /// The storage account of Azure, if it is configured.
    account: Option<String>,
    traffic: Arc<Traffic>,
}

type Buckets = HashMap<Scheme, HashMap<String, Bucket>>;

impl fmt::Debug for Stores {
    // The clients would print their credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stores")
            .field("buckets", &self.bucket_names())
            .field("roots", &self.roots)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Builds the client of every allowed location. Connects to none of them yet.
    ///
    /// # Errors
    /// Fails if an entry of an allow-list is malformed, a root is not a folder, a limit is out of
    /// range, or configured credentials cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, StorageError> {
        let limits = Limits::new(settings)?;
        let resolver: Arc<dyn Resolve> = Arc::new(SystemResolver);
        Ok(Self {
            buckets: Arc::new(open_buckets(settings, &limits)?),
            web: WebClient::new(settings, &limits, &resolver)?,
            roots: FileRoots::open(&settings.file_roots)?,
            limits,
            key_rules: Arc::new(KeyRules::new(&settings.keys)?),
            account: settings.azure.account.clone(),
            traffic: Arc::default(),
        })
    }

    /// Adds a store of the embedding program, such as one in memory, as a bucket that references
    /// may name. It replaces a configured bucket of the same name.
    #[must_use]
    pub fn with_store(
        mut self,
        scheme: Scheme,
        bucket: impl Into<String>,
        store: Arc<dyn ObjectStore>,
    ) -> Self {
        let buckets = Arc::make_mut(&mut self.buckets).entry(scheme).or_default();
        buckets.insert(bucket.into(), Bucket::injected(store));
        self
    }

    /// Checks a URI like [`Stores::fetch`], without reading anything.
    ///
    /// # Errors
    /// Fails if the URI is malformed or its location not allowed.
    pub fn admit(&self, uri: &str) -> Result<(), UriFault> {
        self.locate(uri).map(drop)
    }

    /// Decides by `storage.keys` if an object of a notification is an image.
    pub fn judge_key(&self, key: &str, content_type: Option<&str>) -> KeyVerdict {
        self.key_rules.judge(key, content_type)
    }

    /// Checks that containers of a storage account of Azure are those that this process reads.
    ///
    /// # Errors
    /// Fails if another account is configured: its containers may have the same names.
    pub fn admit_account(&self, account: &str) -> Result<(), UriFault> {
        match &self.account {
            Some(configured) if configured != account => {
                let account = account.chars().take(BUCKET_CHARS_MAX).collect();
                Err(UriFault::ForbiddenAccount(account))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the store of a URI may be sent another request. Returns at once unless the store
    /// throttles, and if the URI is not allowed.
    ///
    /// Cancel safe.
    pub async fn turn(&self, uri: &str) -> Turn {
        let location = self.locate(uri).ok();
        match location.and_then(|location| self.traffic_of(&location)) {
            Some(traffic) => traffic.turn().await,
            None => Turn::unlimited(),
        }
    }

    /// Returns the traffic of an allowed location, or `None` for files.
    pub(crate) fn traffic_of(&self, location: &Location) -> Option<Arc<StoreTraffic>> {
        location.store().map(|store| self.traffic.of(store))
    }

    /// Returns the location of a URI.
    ///
    /// # Errors
    /// Fails if the URI is malformed or its location not allowed.
    pub(crate) fn locate(&self, uri: &str) -> Result<Location, UriFault> {
        let location = uri::parse(uri)?;
        match &location {
            Location::Object { scheme, bucket, .. } => {
                self.bucket(*scheme, bucket)?;
            }
            Location::Web(url) => self.web.admit(url)?,
            Location::File(path) => self.roots.admit(path)?,
        }
        Ok(location)
    }

    /// Returns the client of an allowed bucket.
    pub(crate) fn bucket(&self, scheme: Scheme, name: &str) -> Result<&Bucket, UriFault> {
        self.buckets.get(&scheme).and_then(|buckets| buckets.get(name)).ok_or_else(|| {
            let name: String = name.chars().take(BUCKET_CHARS_MAX).collect();
            UriFault::ForbiddenBucket(uri::bucket_uri(scheme, &name))
        })
    }

    /// Returns the allowed buckets in order.
    pub(crate) fn bucket_names(&self) -> Vec<(Scheme, String)> {
        let mut names: Vec<_> = self
            .buckets
            .iter()
            .flat_map(|(scheme, buckets)| buckets.keys().map(|name| (*scheme, name.clone())))
            .collect();
        names.sort();
        names
    }
}

fn open_buckets(settings: &Settings, limits: &Limits) -> Result<Buckets, StorageError> {
    let mut buckets = Buckets::new();
    let allowed = buckets::allowed(settings)?;
    if allowed.is_empty() {
        return Ok(buckets);
    }
    let allow_http = settings.s3.allow_http
        || settings.gcs.allow_http
        || settings.azure.allow_http
        || settings.s3_buckets.values().any(|s3| s3.allow_http);
    let connector = Connector::new(limits, allow_http)?;
    for (scheme, name) in allowed {
        let bucket = Bucket::open(scheme, name, settings, &connector)?;
        buckets.entry(scheme).or_default().insert(name.to_owned(), bucket);
    }
    Ok(buckets)
}
