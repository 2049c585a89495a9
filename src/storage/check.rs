//! Checks before the start that every allowed location can be read.

use std::path::PathBuf;

use futures::StreamExt;
use futures::stream;
use object_store::path::Path as ObjectKey;
use url::Url;

use crate::storage::backends::file;
use crate::storage::backends::object_store::ObjectRead;
use crate::storage::error::{FetchFault, Overrun};
use crate::storage::stores::Stores;
use crate::storage::uri::{self, Key, Scheme};

/// Maximum number of locations checked at once.
const CHECKS_AT_ONCE: usize = 8;

/// The object that is requested from a bucket. It need not exist.
const CHECK_KEY: &str = "dogiqa-check";

/// The result of a check of one location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The location: `s3://photos`, `images.example.com` or a folder.
    pub location: String,
    /// The reason why it cannot be read, or `None` if it answered.
    pub problem: Option<String>,
}

enum Target {
    Bucket(Scheme, String),
    Host(String, Vec<Url>),
    Root(PathBuf),
}

impl Stores {
    /// Probes every allowed location once, within the time limits. Probes several at a time.
    pub async fn check(&self) -> Vec<Finding> {
        let buckets = self.bucket_names().into_iter();
        let hosts = self.web.hosts().into_iter();
        let checks: Vec<_> = buckets
            .map(|(scheme, name)| Target::Bucket(scheme, name))
            .chain(hosts.map(|(host, urls)| Target::Host(host, urls)))
            .chain(self.roots.folders().into_iter().map(Target::Root))
            .map(|target| self.clone().check_target(target))
            .collect();
        stream::iter(checks).buffered(CHECKS_AT_ONCE).collect().await
    }

    async fn check_target(self, target: Target) -> Finding {
        let limit = self.limits.time.fetch;
        let probe = async {
            match &target {
                Target::Bucket(scheme, name) => self.probe_bucket(*scheme, name).await,
                Target::Host(_, urls) => self.web.probe(urls, &self.limits).await,
                Target::Root(folder) => file::probe(&self.roots, folder),
            }
        };
        let outcome = tokio::time::timeout(limit, probe)
            .await
            .unwrap_or(Err(FetchFault::Timeout(Overrun::Fetch(limit))));
        let location = match target {
            Target::Bucket(scheme, name) => uri::bucket_uri(scheme, &name),
            Target::Host(host, _) => host,
            Target::Root(folder) => folder.display().to_string(),
        };
        Finding { location, problem: outcome.err().map(|fault| fault.to_string()) }
    }

    /// Requests an object from a bucket. A missing object passes the check, a missing bucket does
    /// not.
    async fn probe_bucket(&self, scheme: Scheme, name: &str) -> Result<(), FetchFault> {
        let key = Key::Path(ObjectKey::from(CHECK_KEY));
        let read = ObjectRead { key: &key, etag: None, version_id: None, content_types: None };
        match self.bucket(scheme, name)?.read(read, &self.limits).await {
            Ok(_)
            | Err(
                FetchFault::TooLarge { .. }
                | FetchFault::NotFound(_)
                | FetchFault::Throttled { .. },
            ) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}
