//! Completes references and refuses those that the worker would refuse, with the worker's own
//! checks.

use std::collections::BTreeMap;

use crate::event::reference::{self, ReferenceError};
use crate::event::{Headers, ImageReference, Metadata};
use crate::method::Policies;
use crate::storage::Stores;

/// The reason that a reference is not sent: code and message of the dead letter that it would
/// become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReferenceRefusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl From<&ReferenceError> for ReferenceRefusal {
    fn from(error: &ReferenceError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

/// The fields to add to references, and the rules to check them against.
pub(crate) struct ReferenceCheck {
    /// Policy of references that name none.
    pub(crate) policy: Option<String>,
    /// Metadata of references that do not set the key.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) policies: Policies,
    pub(crate) stores: Stores,
    /// True if the worker has another configuration, so that policies and allow-lists of this one
    /// do not apply.
    pub(crate) is_unchecked: bool,
}

impl ReferenceCheck {
    /// Adds missing fields to the reference, then checks it.
    pub(crate) fn complete(
        &self,
        mut reference: ImageReference,
    ) -> Result<ImageReference, ReferenceRefusal> {
        if reference.policy.is_none() {
            reference.policy.clone_from(&self.policy);
        }
        if !self.metadata.is_empty() {
            reference.metadata.get_or_insert_with(Metadata::empty).add_missing(&self.metadata);
        }
        let payload = serde_json::to_vec(&reference).expect("a reference is plain data");
        let reference = reference::parse(&Headers::default(), &payload)
            .map_err(|error| ReferenceRefusal::from(&error))?;
        if !self.is_unchecked {
            self.policies.find(reference.policy.as_deref()).map_err(|error| ReferenceRefusal {
                code: error.code(),
                message: error.to_string(),
            })?;
            self.stores.admit(&reference.uri).map_err(|error| ReferenceRefusal {
                code: error.code(),
                message: error.to_string(),
            })?;
        }
        Ok(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Settings;

    fn check(is_unchecked: bool) -> ReferenceCheck {
        let settings =
            Settings { allow_buckets: vec!["s3://photos".to_owned()], ..Settings::default() };
        ReferenceCheck {
            policy: None,
            metadata: BTreeMap::from([("batch".to_owned(), "7".to_owned())]),
            policies: Policies::default(),
            stores: Stores::new(&settings).unwrap(),
            is_unchecked,
        }
    }

    fn code(check: &ReferenceCheck, reference: ImageReference) -> Option<&'static str> {
        check.complete(reference).err().map(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn a_reference_is_refused_with_the_code_that_the_worker_would_use() {
        let check = check(false);
        assert_eq!(code(&check, ImageReference::new("s3://photos/a.jpg")), None);
        let refused = [
            ("s3://other/a.jpg", "uri.forbidden_bucket"),
            ("photos/a.jpg", "uri.invalid"),
            ("file:///etc/passwd", "uri.outside_roots"),
            ("", "reference.invalid_field"),
        ];
        for (uri, expected) in refused {
            assert_eq!(code(&check, ImageReference::new(uri)), Some(expected), "{uri}");
        }
        let policy = Some("no-such".to_owned());
        let reference = ImageReference { policy, ..ImageReference::new("s3://photos/a.jpg") };
        assert_eq!(code(&check, reference), Some("policy.unknown"));
    }

    #[tokio::test]
    async fn an_unchecked_reference_must_still_be_valid() {
        let check = check(true);
        assert_eq!(code(&check, ImageReference::new("s3://other/a.jpg")), None);
        assert_eq!(code(&check, ImageReference::new("")), Some("reference.invalid_field"));
    }

    #[tokio::test]
    async fn metadata_of_the_reference_takes_precedence() {
        let mut reference = ImageReference::new("s3://photos/a.jpg");
        reference.metadata = serde_json::from_str(r#"{"batch": 8}"#).unwrap();
        let metadata = check(false).complete(reference).unwrap().metadata.unwrap();
        assert_eq!(metadata.as_str(), r#"{"batch":8}"#);
        let plain = ImageReference::new("s3://photos/a.jpg");
        let metadata = check(false).complete(plain).unwrap().metadata.unwrap();
        assert_eq!(metadata.as_str(), r#"{"batch":"7"}"#);
    }
}
