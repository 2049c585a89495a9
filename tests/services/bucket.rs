//! Uploads images to the S3 server, as the root account.

use std::sync::OnceLock;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::images::{self, Sample};
use crate::services::Services;

/// The bucket that the worker may read.
pub(crate) const PHOTOS: &str = "S3_BUCKET";
/// The bucket that answers 403 to the worker.
pub(crate) const PRIVATE: &str = "S3_PRIVATE_BUCKET";

/// Returns the fifty images. Uploads them to the worker's bucket on the first call.
pub(crate) fn fifty_images(services: &Services) -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let samples = images::fifty_images();
        let objects = samples.iter().map(|sample| (sample.key.as_str(), sample.bytes.as_slice()));
        put_all(services, PHOTOS, objects);
        samples
    })
}

/// Returns the URI of an object in the worker's bucket.
pub(crate) fn uri(services: &Services, key: &str) -> String {
    format!("s3://{}/{key}", services.value(PHOTOS))
}

/// Uploads objects to one of the two buckets.
pub(crate) fn put_all<'a>(
    services: &Services,
    bucket: &str,
    objects: impl Iterator<Item = (&'a str, &'a [u8])>,
) {
    let store = AmazonS3Builder::new()
        .with_endpoint(services.value("S3_ENDPOINT"))
        .with_allow_http(true)
        .with_region(services.value("S3_REGION"))
        .with_access_key_id(services.value("S3_ROOT_KEY"))
        .with_secret_access_key(services.value("S3_ROOT_SECRET"))
        .with_bucket_name(services.value(bucket))
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (key, bytes) in objects {
        let (path, payload) = (Path::parse(key).unwrap(), PutPayload::from(bytes.to_vec()));
        runtime.block_on(store.put(&path, payload)).unwrap();
    }
}
