//! The client of a configured bucket, opened again if the store refuses its credentials.
//!
//! A new client reads key files and shared profiles again and asks the role's provider again. So
//! credentials rotate without a restart, and revoked ones are not used until they expire.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::storage::backends::object_store::open_client::OpenedClient;
use crate::storage::error::StorageError;

/// Shortest time between two clients of a bucket.
const REOPEN_INTERVAL: Duration = Duration::from_secs(3);

type Open = dyn Fn() -> Result<OpenedClient, StorageError> + Send + Sync;

/// Opens the client of a bucket, again if necessary.
pub(crate) struct RotatingClient {
    open: Arc<Open>,
    state: Mutex<State>,
}

struct State {
    client: Arc<OpenedClient>,
    /// Time of the latest attempt to open a client.
    opened_at: Option<Instant>,
}

impl RotatingClient {
    /// Opens the first client.
    pub(crate) fn new(
        open: impl Fn() -> Result<OpenedClient, StorageError> + Send + Sync + 'static,
    ) -> Result<Self, StorageError> {
        let client = Arc::new(open()?);
        Ok(Self { open: Arc::new(open), state: Mutex::new(State { client, opened_at: None }) })
    }

    /// Returns the current client.
    pub(crate) fn current(&self) -> Arc<OpenedClient> {
        Arc::clone(&self.lock().client)
    }

    /// Returns a newer client than the refused one, or `None` if there is none. A client that
    /// cannot obtain credentials replaces no other.
    pub(crate) async fn newer_than(
        &self,
        refused: &Arc<OpenedClient>,
    ) -> Option<Arc<OpenedClient>> {
        {
            let mut state = self.lock();
            if !Arc::ptr_eq(&state.client, refused) {
                return Some(Arc::clone(&state.client));
            }
            let now = Instant::now();
            if state.opened_at.is_some_and(|at| now < at + REOPEN_INTERVAL) {
                return None;
            }
            state.opened_at = Some(now);
        }
        let open = Arc::clone(&self.open);
        let opened = match spawn_blocking(move || open()).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the credentials of a store cannot be read again");
                return None;
            }
            Err(_) => return None,
        };
        if !opened.has_credentials().await {
            return None;
        }
        let client = Arc::new(opened);
        self.lock().client = Arc::clone(&client);
        Some(client)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
