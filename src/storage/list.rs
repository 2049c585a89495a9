//! Lists the objects of a bucket below a prefix.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::ObjectMeta;
use object_store::path::Path as ObjectKey;

use crate::storage::backends::object_store::Bucket;
use crate::storage::error::{FetchError, FetchFault, UriFault};
use crate::storage::limits::Limits;
use crate::storage::stores::Stores;
use crate::storage::uri;

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Key of the object.
    pub key: String,
    /// URI of the object, as a reference names it.
    pub uri: String,
    /// Entity tag as the store writes it, if it has one.
    pub etag: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
}

/// A listing and its position.
struct Listing {
    bucket: Bucket,
    /// `s3://photos`.
    bucket_uri: String,
    prefix: Option<ObjectKey>,
    limits: Limits,
    /// The last key that was returned.
    after: Option<ObjectKey>,
    page: Option<BoxStream<'static, object_store::Result<ObjectMeta>>>,
    /// Failures since the last object.
    failures: u32,
}

impl Stores {
    /// Lists the objects below `s3://bucket/folder/` or `s3://bucket/`, and likewise for `gs:` and
    /// `az:`, in the order of their keys. Starts after the key `after`.
    ///
    /// Retries transient faults like a fetch. The stream ends after its first error.
    ///
    /// # Errors
    /// Fails if the prefix is malformed or its bucket not allowed.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<BoxStream<'static, Result<ListedObject, FetchError>>, UriFault> {
        let (scheme, bucket, folder) = uri::parse_prefix(prefix)?;
        // Any valid path may be a position, even a key that references may not name.
        let after = after
            .map(ObjectKey::parse)
            .transpose()
            .map_err(|_| UriFault::UnsupportedKey("is not a valid path"))?;
        let listing = Listing {
            bucket: self.bucket(scheme, bucket)?.clone(),
            bucket_uri: uri::bucket_uri(scheme, bucket),
            prefix: folder,
            limits: self.limits,
            after,
            page: None,
            failures: 0,
        };
        Ok(stream::unfold(Some(listing), Listing::step).boxed())
    }
}

impl Listing {
    /// Returns the next object and the rest, or an error and no rest.
    async fn step(this: Option<Self>) -> Option<(Result<ListedObject, FetchError>, Option<Self>)> {
        let mut this = this?;
        match this.next().await {
            Ok(None) => None,
            Ok(Some(object)) => Some((Ok(object), Some(this))),
            Err(fault) => {
                let error = FetchError::new(this.bucket_uri.clone(), fault, this.failures);
                Some((Err(error), None))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<ListedObject>, FetchFault> {
        loop {
            let page = self
                .page
                .get_or_insert_with(|| self.bucket.list(self.prefix.as_ref(), self.after.as_ref()));
            let fault = match page.next().await {
                None => return Ok(None),
                Some(Ok(object)) => {
                    self.failures = 0;
                    let listed = ListedObject {
                        key: object.location.to_string(),
                        uri: format!("{}/{}", self.bucket_uri, object.location),
                        etag: object.e_tag,
                        bytes: object.size,
                    };
                    self.after = Some(object.location);
                    return Ok(Some(listed));
                }
                Some(Err(error)) => Bucket::listing_fault(&error, self.limits.time),
            };
            self.failures += 1;
            if !fault.is_transient() || self.failures >= self.limits.attempts_max {
                return Err(fault);
            }
            // Drop the page: the next one starts after the last object that was returned.
            self.page = None;
            tokio::time::sleep(self.limits.backoff.delay(self.failures)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::settings::Settings;
    use crate::storage::uri::Scheme;

    async fn stores(keys: &[&str]) -> Stores {
        let memory = InMemory::new();
        for key in keys {
            memory.put(&ObjectKey::parse(key).unwrap(), "x".into()).await.unwrap();
        }
        let stores = Stores::new(&Settings::default()).unwrap();
        stores.with_store(Scheme::S3, "photos", Arc::new(memory))
    }

    async fn uris(stores: &Stores, prefix: &str, after: Option<&str>) -> Vec<String> {
        let objects = stores.list(prefix, after).unwrap();
        objects.map_ok(|object| object.uri).try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn a_listing_stays_in_its_folder_and_starts_behind_a_key() {
        let stores = stores(&["a/1%20.jpg", "a/2 +ä?.jpg", "a/b/3#.jpg", "ab.jpg", "c.jpg"]).await;
        let all = ["s3://photos/a/1%20.jpg", "s3://photos/a/2 +ä?.jpg", "s3://photos/a/b/3#.jpg"];
        assert_eq!(uris(&stores, "s3://photos/a/", None).await, all);
        assert_eq!(uris(&stores, "s3://photos/a/", Some("a/1%20.jpg")).await, all[1..]);
        assert_eq!(uris(&stores, "s3://photos/", None).await.len(), 5);
        for uri in all {
            assert_eq!(stores.admit(uri), Ok(()), "a listed object can be fetched");
        }
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_allowed_is_not_listed() {
        let refused = stores(&[]).await.list("s3://other/", None).err().unwrap();
        assert_eq!(refused.code(), "uri.forbidden_bucket");
    }
}
