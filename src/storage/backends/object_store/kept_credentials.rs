//! Credentials of a role that outlive a failure of their provider.
//!
//! `object_store` asks the provider again five minutes before the credentials expire, but a failed
//! answer then fails the request, although the old credentials are still valid. Here the last ones
//! are used until the provider answers again. If they expire before that, the store refuses them,
//! and the client is opened again without them.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use object_store::CredentialProvider;

use crate::redact::root_cause;

/// Longest wait for a provider while the last credentials may still be used.
const PROVIDER_WAIT: Duration = Duration::from_secs(2);
/// Time before a failed provider is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A provider whose last credentials are kept.
pub(crate) struct KeptCredentials<T> {
    provider: Arc<dyn CredentialProvider<Credential = T>>,
    /// `s3://photos`, for the log.
    bucket: String,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    last: Option<Arc<T>>,
    /// The provider failed and is not asked before this time.
    retry_at: Option<Instant>,
}

impl<T> fmt::Debug for KeptCredentials<T> {
    // The credentials would be printed.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeptCredentials")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync> KeptCredentials<T> {
    pub(crate) fn new(
        provider: Arc<dyn CredentialProvider<Credential = T>>,
        bucket: String,
    ) -> Self {
        Self { provider, bucket, kept: Mutex::new(Kept { last: None, retry_at: None }) }
    }

    async fn get(&self) -> object_store::Result<Arc<T>> {
        let (last, is_failing) = {
            let kept = self.lock();
            let is_waiting = kept.retry_at.is_some_and(|at| Instant::now() < at);
            if let (true, Some(last)) = (is_waiting, &kept.last) {
                return Ok(Arc::clone(last));
            }
            (kept.last.clone(), kept.retry_at.is_some())
        };
        let asking = self.provider.get_credential();
        let Some(last) = last else {
            let first = asking.await?;
            self.lock().last = Some(Arc::clone(&first));
            return Ok(first);
        };
        let reason = match tokio::time::timeout(PROVIDER_WAIT, asking).await {
            Ok(Ok(current)) => {
                *self.lock() = Kept { last: Some(Arc::clone(&current)), retry_at: None };
                return Ok(current);
            }
            Ok(Err(error)) => root_cause(&error),
            Err(_) => format!("no answer within {PROVIDER_WAIT:?}"),
        };
        self.lock().retry_at = Some(Instant::now() + RETRY_AFTER);
        if !is_failing {
            tracing::warn!(
                store = self.bucket,
                reason,
                "the credentials cannot be renewed; the last ones are used until the store refuses \
                 them"
            );
        }
        Ok(last)
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug + Send + Sync> CredentialProvider for KeptCredentials<T> {
    type Credential = T;

    // The signature that `async_trait` generates.
    fn get_credential<'provider, 'get>(
        &'provider self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<T>>> + Send + 'get>>
    where
        'provider: 'get,
        Self: 'get,
    {
        Box::pin(self.get())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// Counts its calls. Answers the first, and fails or hangs afterwards.
    #[derive(Debug)]
    struct Provider {
        calls: AtomicU32,
        hangs: bool,
    }

    #[async_trait]
    impl CredentialProvider for Provider {
        type Credential = u32;

        async fn get_credential(&self) -> object_store::Result<Arc<u32>> {
            match self.calls.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(Arc::new(7_u32)),
                _ if self.hangs => std::future::pending().await,
                _ => Err(object_store::Error::Generic { store: "t", source: "down".into() }),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_credentials_outlive_a_provider_that_fails_or_hangs() {
        for hangs in [false, true] {
            let provider = Arc::new(Provider { calls: AtomicU32::new(0), hangs });
            let kept = KeptCredentials::new(Arc::clone(&provider) as _, "s3://photos".to_owned());
            for _ in 0..10 {
                assert_eq!(*kept.get_credential().await.unwrap(), 7_u32);
            }
            let calls = provider.calls.load(Ordering::Relaxed);
            assert_eq!(calls, 2, "a failed provider is not asked for every fetch");
        }
    }

    #[tokio::test]
    async fn without_earlier_credentials_the_failure_is_reported() {
        let provider = Arc::new(Provider { calls: AtomicU32::new(1), hangs: false });
        let kept = KeptCredentials::new(provider, "s3://photos".to_owned());
        assert!(kept.get_credential().await.is_err());
    }
}
