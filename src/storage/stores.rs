//! Every place that images may be read from, each with one client for the life of the process.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path as ObjectKey;
use reqwest::dns::Resolve;
use url::Url;

use crate::redact;
use crate::storage::cloud::Bucket;
use crate::storage::connector::Connector;
use crate::storage::failure::{FetchFault, Overrun};
use crate::storage::fetch::Limits;
use crate::storage::guard::SystemResolver;
use crate::storage::http::TimeLimits;
use crate::storage::roots::FileRoots;
use crate::storage::settings::Settings;
use crate::storage::uri::{self, Location, Scheme, UriFault};
use crate::storage::web::WebClient;

/// How many places are checked at once.
const CHECKS_AT_ONCE: usize = 8;

/// Longest time limit that is accepted.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// An object that is asked for to see whether a bucket answers; it need not exist.
const CHECK_KEY: &str = "dogiqa-check";

/// The stores cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A setting has no usable value.
    #[error("{setting}: `{value}` {why}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A root for `file:` references cannot be used.
    #[error("storage.file_roots: `{}` cannot be used: {why}", path.display())]
    Root {
        /// The folder as configured.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The client of a bucket cannot be built.
    #[error("{bucket} cannot be set up: {why}")]
    Bucket {
        /// The bucket with its scheme.
        bucket: String,
        /// What is wrong.
        why: String,
    },
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be set up: {why}; install the certificate authorities")]
    Client {
        /// What is wrong.
        why: String,
    },
}

/// What the check before going live found out about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The place: `s3://photos`, `images.example.com` or a folder.
    pub place: String,
    /// What hinders reading from it; nothing when it answered.
    pub problem: Option<String>,
}

/// Reads images from the places that the settings allow, and from nowhere else.
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
    buckets: Arc<HashMap<Scheme, HashMap<String, Bucket>>>,
    pub(crate) web: WebClient,
    pub(crate) roots: FileRoots,
    pub(crate) limits: Limits,
}

/// A place to check.
enum Place {
    Bucket(Scheme, String),
    Host(String, Vec<Url>),
    Root(PathBuf),
}

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
    /// Builds the client of every place that the settings allow. Nothing is connected to yet.
    ///
    /// # Errors
    /// When an entry of an allow-list is malformed, a root is no folder, or credentials that are
    /// named cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, StorageError> {
        check_limits(settings)?;
        let resolver: Arc<dyn Resolve> = Arc::new(SystemResolver);
        Ok(Self {
            buckets: Arc::new(open_buckets(settings)?),
            web: WebClient::new(settings, &resolver)?,
            roots: FileRoots::open(&settings.file_roots)?,
            limits: Limits::new(settings),
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

    /// Judges a URI as [`Stores::fetch`] would, without reading anything.
    ///
    /// # Errors
    /// When the URI is malformed or names a place that is not allowed.
    pub fn admit(&self, uri: &str) -> Result<(), UriFault> {
        self.locate(uri).map(drop)
    }

    /// Tries every configured place, several at once, each once and within the time limits.
    pub async fn check(&self) -> Vec<Finding> {
        let places = self
            .bucket_names()
            .into_iter()
            .map(|(scheme, name)| Place::Bucket(scheme, name))
            .chain(self.web.hosts().into_iter().map(|(host, urls)| Place::Host(host, urls)))
            .chain(self.roots.folders().into_iter().map(Place::Root));
        let checks = places.map(|place| self.clone().check_place(place)).collect::<Vec<_>>();
        futures::stream::iter(checks).buffered(CHECKS_AT_ONCE).collect().await
    }

    async fn check_place(self, place: Place) -> Finding {
        let limit = self.limits.time.fetch;
        let probe = async {
            match &place {
                Place::Bucket(scheme, name) => self.probe_bucket(*scheme, name).await,
                Place::Host(_, urls) => self.web.probe(urls, &self.limits).await,
                Place::Root(folder) => self.roots.probe(folder),
            }
        };
        let outcome = tokio::time::timeout(limit, probe)
            .await
            .unwrap_or(Err(FetchFault::Timeout(Overrun::Fetch(limit))));
        let place = match place {
            Place::Bucket(scheme, name) => format!("{}://{name}", scheme.as_str()),
            Place::Host(host, _) => host,
            Place::Root(folder) => folder.display().to_string(),
        };
        Finding { place, problem: outcome.err().map(|fault| fault.to_string()) }
    }

    /// Asks a bucket for an object as a fetch does. That there is none is a good answer, too; that
    /// there is no bucket is not.
    async fn probe_bucket(&self, scheme: Scheme, name: &str) -> Result<(), FetchFault> {
        let key = ObjectKey::from(CHECK_KEY);
        match self.bucket(scheme, name)?.read(&key, None, &self.limits).await {
            Ok(_) | Err(FetchFault::TooLarge { .. }) => Ok(()),
            Err(FetchFault::NotFound(answer))
                if !answer.contains("Bucket") && !answer.contains("Container") =>
            {
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Finds the store, and refuses what is not allowed.
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
            let name: String = name.chars().take(128).collect();
            UriFault::ForbiddenBucket(format!("{}://{name}", scheme.as_str()))
        })
    }

    fn bucket_names(&self) -> Vec<(Scheme, String)> {
        let mut names: Vec<_> = self
            .buckets
            .iter()
            .flat_map(|(scheme, buckets)| buckets.keys().map(|name| (*scheme, name.clone())))
            .collect();
        names.sort();
        names
    }
}

fn open_buckets(
    settings: &Settings,
) -> Result<HashMap<Scheme, HashMap<String, Bucket>>, StorageError> {
    let mut buckets: HashMap<Scheme, HashMap<String, Bucket>> = HashMap::new();
    if !settings.allow_buckets.is_empty() {
        let allow_http = settings.s3.allow_http
            || settings.gcs.allow_http
            || settings.azure.allow_http
            || settings.s3_buckets.values().any(|s3| s3.allow_http);
        let connector = Connector::new(TimeLimits::new(settings), allow_http)?;
        for entry in &settings.allow_buckets {
            let Some((scheme, name)) = uri::parse_bucket(entry) else {
                return Err(StorageError::Setting {
                    setting: "storage.allow_buckets",
                    value: redact::uri(entry),
                    why: "is not of the form s3://bucket, gs://bucket or az://container",
                });
            };
            let bucket = Bucket::open(scheme, name, settings, &connector)?;
            buckets.entry(scheme).or_default().insert(name.to_owned(), bucket);
        }
    }
    let is_allowed = |name: &&String| {
        buckets.get(&Scheme::S3).is_some_and(|buckets| buckets.contains_key(*name))
    };
    match settings.s3_buckets.keys().find(|name| !is_allowed(name)) {
        Some(name) => Err(StorageError::Setting {
            setting: "storage.s3_buckets",
            value: name.clone(),
            why: "is not in storage.allow_buckets; add it there or remove it here",
        }),
        None => Ok(buckets),
    }
}

fn check_limits(settings: &Settings) -> Result<(), StorageError> {
    if settings.bytes_max.as_u64() == 0 {
        return Err(StorageError::Setting {
            setting: "storage.bytes_max",
            value: settings.bytes_max.to_string(),
            why: "lets no image through; choose a value above zero",
        });
    }
    let times = [
        ("storage.connect_timeout", settings.connect_timeout),
        ("storage.read_timeout", settings.read_timeout),
        ("storage.fetch_timeout", settings.fetch_timeout),
    ];
    match times.into_iter().find(|(_, time)| time.is_zero() || *time > TIMEOUT_MAX) {
        Some((setting, time)) => Err(StorageError::Setting {
            setting,
            value: format!("{time:?}"),
            why: "is no time to wait for; choose one between a millisecond and a day",
        }),
        None => Ok(()),
    }
}
