//! What every reference gets, and whether the worker would take it: the worker's own code decides.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::event::reference::{self, ReferenceError};
use crate::event::{Headers, ImageReference};
use crate::method::Policies;
use crate::storage::Stores;

/// Why a reference is not sent, as its dead letter would say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl From<&ReferenceError> for Refusal {
    fn from(error: &ReferenceError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

/// What is added to references and what they are held to.
pub(super) struct Check {
    pub(super) policy: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) policies: Policies,
    pub(super) stores: Stores,
    /// Whether the worker's configuration is another one, so that this one's says nothing.
    pub(super) unchecked: bool,
}

impl Check {
    /// Fills in what the reference leaves open, and judges it.
    pub(super) fn complete(
        &self,
        mut reference: ImageReference,
    ) -> Result<ImageReference, Refusal> {
        if reference.policy.is_none() {
            reference.policy.clone_from(&self.policy);
        }
        if !self.metadata.is_empty() {
            let metadata = reference.metadata.get_or_insert_default();
            for (name, value) in &self.metadata {
                metadata.entry(name.as_str()).or_insert_with(|| Value::from(value.as_str()));
            }
        }
        let payload = serde_json::to_vec(&reference).expect("a reference is plain data");
        let reference = reference::parse(&Headers::default(), &payload)
            .map_err(|error| Refusal::from(&error))?;
        if !self.unchecked {
            let policy = self.policies.find(reference.policy.as_deref());
            policy.map_err(|error| Refusal { code: error.code(), message: error.to_string() })?;
            let place = self.stores.admit(&reference.uri);
            place.map_err(|fault| Refusal { code: fault.code(), message: fault.to_string() })?;
        }
        Ok(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Settings;

    fn check(unchecked: bool) -> Check {
        let settings =
            Settings { allow_buckets: vec!["s3://photos".to_owned()], ..Settings::default() };
        Check {
            policy: None,
            metadata: BTreeMap::from([("batch".to_owned(), "7".to_owned())]),
            policies: Policies::default(),
            stores: Stores::new(&settings).unwrap(),
            unchecked,
        }
    }

    fn code(check: &Check, reference: ImageReference) -> Option<&'static str> {
        check.complete(reference).err().map(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn what_the_worker_would_refuse_is_refused_under_the_same_code() {
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
    async fn unchecked_references_must_still_be_some() {
        let check = check(true);
        assert_eq!(code(&check, ImageReference::new("s3://other/a.jpg")), None);
        assert_eq!(code(&check, ImageReference::new("")), Some("reference.invalid_field"));
    }

    #[tokio::test]
    async fn what_a_reference_says_itself_is_kept() {
        let mut reference = ImageReference::new("s3://photos/a.jpg");
        reference.metadata = serde_json::from_str(r#"{"batch": 8}"#).unwrap();
        let metadata = check(false).complete(reference).unwrap().metadata.unwrap();
        assert_eq!(metadata["batch"], 8);
        let plain = ImageReference::new("s3://photos/a.jpg");
        let metadata = check(false).complete(plain).unwrap().metadata.unwrap();
        assert_eq!(metadata["batch"], "7");
    }
}
