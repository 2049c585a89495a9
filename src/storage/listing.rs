//! What a bucket holds below a prefix, page by page.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path as ObjectKey;

use crate::storage::cloud::Bucket;
use crate::storage::failure::{FetchError, FetchFault};
use crate::storage::fetch::Limits;
use crate::storage::stores::Stores;
use crate::storage::uri::{self, Scheme, UriFault};

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// The URI that a reference names it by.
    pub uri: String,
    /// Entity tag as the store spells it, where it tells.
    pub etag: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Where a listing stands.
struct Listing {
    bucket: Bucket,
    /// `s3://photos`.
    place: String,
    prefix: Option<ObjectKey>,
    limits: Limits,
    after: Option<ObjectKey>,
    page: Option<BoxStream<'static, object_store::Result<object_store::ObjectMeta>>>,
    failed: u32,
}

impl Stores {
    /// Lists the objects below `s3://bucket/folder/`, `s3://bucket/` or alike, in the order of their keys,
    /// beginning behind the key `after`. What fails in passing is tried again as often as a fetch. The
    /// stream ends with its first error.
    ///
    /// # Errors
    /// When the prefix is malformed, or its bucket is not allowed.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<BoxStream<'static, Result<ListedObject, FetchError>>, UriFault> {
        let (scheme, bucket, folder) = uri::parse_prefix(prefix)?;
        // A place to go on from, not a key to read: it may be one that was refused.
        let after = after.map(ObjectKey::parse).transpose();
        let after = after.map_err(|_| UriFault::UnsupportedKey("is not a valid path"))?;
        let listing = Listing {
            bucket: self.bucket(scheme, bucket)?.clone(),
            place: place(scheme, bucket),
            prefix: folder,
            limits: self.limits,
            after,
            page: None,
            failed: 0,
        };
        Ok(stream::unfold(Some(listing), Listing::step).boxed())
    }
}

impl Listing {
    /// The next object with the rest, or an error with nothing behind it.
    async fn step(this: Option<Self>) -> Option<(Result<ListedObject, FetchError>, Option<Self>)> {
        let mut this = this?;
        match this.next().await {
            Ok(None) => None,
            Ok(Some(object)) => Some((Ok(object), Some(this))),
            Err(fault) => {
                let error = FetchError::new(this.place.clone(), fault, this.failed);
                Some((Err(error), None))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<ListedObject>, FetchFault> {
        loop {
            if self.page.is_none() {
                self.page = Some(self.bucket.list(self.prefix.as_ref(), self.after.as_ref()));
            }
            let page = self.page.as_mut().expect("it was opened above");
            let fault = match page.next().await {
                None => return Ok(None),
                Some(Ok(found)) => {
                    self.failed = 0;
                    let uri = format!("{}/{}", self.place, found.location);
                    let key = found.location.to_string();
                    self.after = Some(found.location);
                    return Ok(Some(ListedObject {
                        key,
                        uri,
                        etag: found.e_tag,
                        bytes: found.size,
                    }));
                }
                Some(Err(error)) => Bucket::listing_fault(&error, self.limits.time),
            };
            self.failed += 1;
            if !fault.is_transient() || self.failed >= self.limits.attempts_max {
                return Err(fault);
            }
            // It goes on behind the last object that was given.
            self.page = None;
            tokio::time::sleep(self.limits.backoff(self.failed)).await;
        }
    }
}

fn place(scheme: Scheme, bucket: &str) -> String {
    format!("{}://{bucket}", scheme.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::settings::Settings;

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
    async fn a_listing_keeps_to_its_folder_and_goes_on_behind_a_key() {
        let stores = stores(&["a/1%20.jpg", "a/2 +ä?.jpg", "a/b/3#.jpg", "ab.jpg", "c.jpg"]).await;
        let all = ["s3://photos/a/1%20.jpg", "s3://photos/a/2 +ä?.jpg", "s3://photos/a/b/3#.jpg"];
        assert_eq!(uris(&stores, "s3://photos/a/", None).await, all);
        assert_eq!(uris(&stores, "s3://photos/a/", Some("a/1%20.jpg")).await, all[1..]);
        assert_eq!(uris(&stores, "s3://photos/", None).await.len(), 5);
        for uri in all {
            assert_eq!(stores.admit(uri), Ok(()), "a listed object can be asked for");
        }
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_allowed_is_not_listed() {
        let refused = stores(&[]).await.list("s3://other/", None).err().unwrap();
        assert_eq!(refused.code(), "uri.forbidden_bucket");
    }
}
