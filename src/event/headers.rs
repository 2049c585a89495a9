//! The headers of a record, free of any Kafka type.

use super::reference::ReferenceError;

/// Headers in the order of the record: names may repeat (the last one counts), values may be null
/// and are any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, Option<Vec<u8>>)>);

impl Headers {
    /// Takes names and values in the order of the record.
    pub fn new(headers: Vec<(String, Option<Vec<u8>>)>) -> Self {
        Self(headers)
    }

    /// Takes names that may not be UTF-8, as Kafka allows them.
    ///
    /// # Errors
    /// [`ReferenceError::HeaderName`] for a name that is not UTF-8.
    pub fn from_raw<N: AsRef<[u8]>>(
        headers: impl IntoIterator<Item = (N, Option<Vec<u8>>)>,
    ) -> Result<Self, ReferenceError> {
        let mut named = Vec::new();
        for (name, value) in headers {
            let Ok(name) = str::from_utf8(name.as_ref()) else {
                let readable = name.as_ref().escape_ascii().to_string();
                return Err(ReferenceError::HeaderName {
                    name: readable.chars().take(64).collect(),
                });
            };
            named.push((name.to_owned(), value));
        }
        Ok(Self(named))
    }

    /// The value of the last header of this name; names are case-sensitive. A null value counts as
    /// no header.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rev().find(|(candidate, _)| candidate == name)?;
        value.as_deref()
    }

    /// The value of the last header of this name, if it is UTF-8.
    pub fn get_text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// Names and values in the order of the record.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name, Some(value.into_bytes()))).collect())
    }
}
