//! The collector, as a warning names it: its address, and the cause of a failed request.

use std::time::Duration;

use crate::redact;

/// Time limit of the request that finds the cause.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A collector.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    pub(crate) client: reqwest::Client,
}

impl Collector {
    /// Returns the reason for a failed export. The exporter names no cause of a network error, so
    /// this asks the collector again, without headers and without data.
    pub(crate) async fn explain(&self, failure: String) -> String {
        if !failure.contains("network error") {
            return failure;
        }
        let probe = self.client.head(&self.endpoint).timeout(PROBE_TIMEOUT);
        match probe.send().await {
            Ok(_) => "the connection broke; the collector can be reached again".to_owned(),
            Err(error) => redact::root_cause(&error.without_url()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_cause_of_a_network_error_is_found_and_others_are_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let collector = Collector { endpoint, client: reqwest::Client::new() };
        let of_network = "HTTP export failed: network error".to_owned();
        let cause = collector.explain(of_network).await;
        assert!(cause.to_lowercase().contains("refused"), "{cause}");
        let of_status = "HTTP export failed with status code: 403".to_owned();
        assert_eq!(collector.explain(of_status.clone()).await, of_status);
    }
}
