//! The filter of a page: a policy and values of metadata.

use std::collections::BTreeMap;

/// Prefix of the parameters that name metadata.
const METADATA_PREFIX: &str = "metadata.";

/// An event must have the policy and every value. An empty filter accepts all events.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    pub(crate) policy: Option<String>,
    /// Values by the position of their name in `monitor.metadata`.
    pub(crate) metadata: BTreeMap<usize, String>,
}

/// A parameter that no filter has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The parameter is unknown.
    #[error("unknown parameter `{0}`; use `policy` or `metadata.NAME`")]
    UnknownParameter(String),
    /// Metadata of this name are not counted.
    #[error("metadata `{0}` are not counted; add the name to monitor.metadata and restart")]
    UnknownName(String),
}

impl Filter {
    /// Creates a filter from the parameters of a request: `policy=NAME` and `metadata.NAME=VALUE`.
    /// An empty value does not filter.
    ///
    /// # Errors
    /// Fails if a parameter is unknown, or names metadata that are not in `names`.
    pub fn from_parameters(
        parameters: &[(String, String)],
        names: &[String],
    ) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (parameter, value) in parameters {
            let name = parameter.strip_prefix(METADATA_PREFIX);
            let position = name.map(|name| names.iter().position(|known| known == name));
            match position {
                _ if value.is_empty() => {}
                Some(Some(position)) => {
                    filter.metadata.insert(position, value.clone());
                }
                Some(None) => {
                    return Err(FilterError::UnknownName(name.unwrap_or_default().to_owned()));
                }
                None if parameter == "policy" => filter.policy = Some(value.clone()),
                None => return Err(FilterError::UnknownParameter(parameter.clone())),
            }
        }
        Ok(filter)
    }
}
