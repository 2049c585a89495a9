//! The buckets and containers that references may name.

use crate::redact;
use crate::storage::error::StorageError;
use crate::storage::settings::Settings;
use crate::storage::uri::{self, Scheme};

/// Parses the allow-list of buckets.
///
/// # Errors
/// Fails on an entry that names no bucket, and on a bucket with its own S3 settings that is not
/// allowed.
pub(crate) fn allowed(settings: &Settings) -> Result<Vec<(Scheme, &str)>, StorageError> {
    let mut buckets = Vec::new();
    for entry in &settings.allow_buckets {
        let bucket = uri::parse_bucket(entry).ok_or_else(|| StorageError::Setting {
            setting: "storage.allow_buckets",
            value: redact::uri(entry),
            why: "is not of the form s3://bucket, gs://bucket or az://container",
        })?;
        buckets.push(bucket);
    }
    let is_allowed = |name: &str| buckets.contains(&(Scheme::S3, name));
    match settings.s3_buckets.keys().find(|name| !is_allowed(name)) {
        Some(name) => Err(StorageError::Setting {
            setting: "storage.s3_buckets",
            value: name.clone(),
            why: "is not in storage.allow_buckets; add it there or remove it here",
        }),
        None => Ok(buckets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::settings::S3Settings;

    #[test]
    fn a_bucket_with_settings_must_be_allowed() {
        let mut settings =
            Settings { allow_buckets: vec!["gs://photos".to_owned()], ..Settings::default() };
        settings.s3_buckets.insert("photos".to_owned(), S3Settings::default());
        assert!(allowed(&settings).unwrap_err().to_string().contains("storage.s3_buckets"));
        settings.allow_buckets.push("s3://photos".to_owned());
        assert_eq!(allowed(&settings).unwrap(), [(Scheme::Gs, "photos"), (Scheme::S3, "photos")]);
    }
}
