//! An external dependency of an attempt: the store of an image, or the scoring server.

use crate::telemetry::metrics;

/// A store or a scoring server, which fails for all references alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Dependency {
    /// Scheme and bucket or host of a URI: `s3://photos`.
    Store(String),
    /// Scheme and host of the server's address.
    ScoringServer(String),
}

impl Dependency {
    /// Returns the store of an image.
    pub(crate) fn store_of(uri: &str) -> Self {
        Self::Store(origin_of(uri).to_owned())
    }

    /// Returns the scoring server at an address.
    pub(crate) fn scoring_server(address: &str) -> Self {
        Self::ScoringServer(origin_of(address).to_owned())
    }

    /// Returns the name in metrics.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Store(store) => store.clone(),
            Self::ScoringServer(server) => format!("{}{server}", metrics::SCORING_SERVER),
        }
    }

    /// Returns true for a store that the worker reads without credentials of its own.
    pub(crate) fn is_web(&self) -> bool {
        matches!(self, Self::Store(store) if store.starts_with("http"))
    }
}

/// Returns the scheme and the bucket or host of a URI: objects below them fail together.
fn origin_of(uri: &str) -> &str {
    let rest = uri.find("://").map_or(0, |at| at + 3);
    let end = uri.bytes().skip(rest).position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    uri.get(..end.map_or(uri.len(), |end| rest + end)).unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_its_scheme_and_bucket_or_host() {
        for (uri, store, is_web) in [
            ("s3://photos/2026/a.jpg", "s3://photos", false),
            ("https://cdn.example/a?x=/y", "https://cdn.example", true),
            ("https://cdn.example?x", "https://cdn.example", true),
            ("file:///srv/a.jpg", "file://", false),
            ("gs://photos", "gs://photos", false),
            ("nonsense", "nonsense", false),
            ("s3://fotos-é/a", "s3://fotos-é", false),
            ("", "", false),
        ] {
            let dependency = Dependency::store_of(uri);
            assert_eq!((dependency.label(), dependency.is_web()), (store.to_owned(), is_web));
        }
    }

    #[test]
    fn a_scoring_server_is_no_store_even_at_the_same_address() {
        let server = Dependency::scoring_server("http://gpu-7:8000/v1");
        assert_eq!((&*server.label(), server.is_web()), ("scorer+http://gpu-7:8000", false));
        assert_ne!(server, Dependency::store_of("http://gpu-7:8000/v1"));
    }
}
