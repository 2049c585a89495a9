//! The headers of a record, independent of Kafka types.

/// Headers in the order of the record. A name may repeat; the last one counts. A value may be null
/// and holds any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, Option<Vec<u8>>)>);

impl Headers {
    /// Wraps names and values in the order of the record.
    pub fn new(headers: Vec<(String, Option<Vec<u8>>)>) -> Self {
        Self(headers)
    }

    /// Returns the value of the last header of this name, or `None` if it is missing or null. Names
    /// are case-sensitive.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rev().find(|(candidate, _)| candidate == name)?;
        value.as_deref()
    }

    /// Returns the value of the last header of this name, or `None` if it is not UTF-8.
    pub fn get_text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// Returns names and values in the order of the record.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name, Some(value.into_bytes()))).collect())
    }
}
