//! Rates crops by a server: slots, attempts, the test picture, and the breaker.
//!
//! A request that has failed in all its attempts says little: the server may be unavailable, or may
//! fail on this crop only. So the server is asked about a small picture of our own. If that fails
//! too, it is an outage; otherwise the crop is at fault.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::backoff::Backoff;
use crate::engine::server::breaker::{Admission, Breaker};
use crate::engine::server::client::ServerClient;
use crate::engine::server::completion::{Completion, NoRating};
use crate::engine::server::error::{OutageKind, RequestFault, ServerError, ServerOutage};
use crate::engine::server::level_tokens::LevelTokens;
use crate::engine::server::request::RequestForm;
use crate::engine::server::settings::HttpSettings;
use crate::imaging::Crop;
use crate::method::{LevelDistribution, ServedBy, Standard, fingerprint, short};
use crate::priority::{Priority, PrioritySemaphore};
use crate::telemetry::metrics;

/// Increased whenever the same answer of a server may lead to another rating.
const VERSION: &str = "1";
/// Delays between the attempts for one crop.
const RETRIES: Backoff =
    Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(5), jitter: 0.5 };
/// Longest pause that a request waits for in its slot. A longer one is an outage.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request for each pixel of its image while it is prepared: samples, PNG, its text in
/// base64, and the body.
const BYTES_PER_PIXEL: u64 = 16;

/// A scorer that asks a server with OpenAI's API.
#[derive(Debug)]
pub struct HttpScorer {
    client: ServerClient,
    settings: HttpSettings,
    form: RequestForm,
    levels: LevelTokens,
    slots: PrioritySemaphore,
    breaker: Breaker,
    /// Start of the latest request that was rated.
    last_rated: Mutex<Option<Instant>>,
    version: String,
}

/// A server's answer to the test picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerReport {
    /// Address of the server, without secrets.
    pub server: Arc<str>,
    /// The server as its answer describes it.
    pub served_by: ServedBy,
    /// Number of tokens with a probability, or `None` if the server reports none.
    pub tokens: Option<usize>,
    /// Share of the probability on levels, if the server reports any.
    pub on_levels: Option<f64>,
    /// Time to the complete answer.
    pub latency: Duration,
}

impl HttpScorer {
    /// Creates a scorer. Sends nothing: the server may be started later.
    ///
    /// # Errors
    /// Returns the sentence to show if the settings cannot be used.
    pub fn new(settings: &HttpSettings, standard: &Standard) -> Result<Self, String> {
        let answers = serde_json::to_string(&settings.of_answers())
            .map_err(|error| format!("body: {error}"))?;
        let version = format!("{VERSION}-http-{}", short(&fingerprint([answers])));
        Ok(Self {
            client: ServerClient::new(settings.clone())?,
            form: RequestForm::new(settings.clone(), standard),
            levels: LevelTokens::new(standard),
            slots: PrioritySemaphore::new(settings.concurrency.get() as u64),
            breaker: Breaker::default(),
            last_rated: Mutex::new(None),
            settings: settings.clone(),
            version,
        })
    }

    /// Returns the address of the server, without secrets.
    pub fn server(&self) -> &Arc<str> {
        &self.client.name
    }

    /// Returns the name of the model.
    pub(crate) fn model(&self) -> &str {
        &self.settings.model
    }

    /// Returns a text that changes whenever the settings of answers do.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Returns an upper bound of the memory of all requests, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let side = u64::from(self.settings.side_max);
        side * side * BYTES_PER_PIXEL * self.settings.concurrency.get() as u64
    }

    /// Returns the outage if the server is known to rate nothing now. Sends nothing.
    pub fn outage(&self) -> Option<Arc<ServerOutage>> {
        self.breaker.outage(Instant::now())
    }

    /// Rates a crop. Waits for one of the slots, then for the server.
    ///
    /// Cancel safe: dropping the future ends its request.
    ///
    /// # Errors
    /// [`ServerError::Outage`] if the server rates nothing now; all others concern this crop only.
    pub(crate) async fn rate(
        self: Arc<Self>,
        crop: Crop,
        priority: Priority,
    ) -> Result<LevelDistribution, ServerError> {
        let _slot = self.slots.acquire(1, priority).await;
        let admission = self.breaker.admit().await.map_err(ServerError::Outage)?;
        let form = self.form.clone();
        let prepared = spawn_blocking(move || form.for_pixels(&crop.pixels)).await;
        let body = match prepared {
            Ok(Ok(body)) => body,
            Ok(Err(reason)) => return Err(ServerError::Preparation(reason)),
            Err(_) => return Err(ServerError::Preparation("its preparation panicked".to_owned())),
        };
        let (fault, attempts) = match self.attempt(&body, &admission).await {
            Ok(rating) => return Ok(rating),
            Err(failed) => failed,
        };
        drop(body);
        let error = self.explain(fault, attempts).await;
        if let ServerError::Outage(outage) = &error {
            self.breaker.failed(outage, Instant::now());
        }
        Err(error)
    }

    /// Sends a request until it is answered, or up to the limit of attempts. Returns the last fault
    /// and the number of attempts.
    async fn attempt(
        &self,
        body: &Bytes,
        admission: &Admission<'_>,
    ) -> Result<LevelDistribution, (RequestFault, u32)> {
        let attempts_max = if admission.is_trial { 1 } else { self.settings.attempts_max.get() };
        let mut attempts = 0;
        loop {
            let fault = match self.rate_once(body).await {
                Ok((rating, _)) => return Ok(rating),
                Err(fault) => fault,
            };
            attempts += 1;
            let pause = fault.retry_after().unwrap_or_default();
            if !fault.is_transient() || attempts >= attempts_max || pause > PAUSE_MAX {
                return Err((fault, attempts));
            }
            tracing::debug!(?fault, attempts, "a request to the scoring server is repeated");
            tokio::time::sleep(RETRIES.delay(attempts).max(pause)).await;
        }
    }

    /// Sends one request and records its outcome.
    async fn rate_once(
        &self,
        body: &Bytes,
    ) -> Result<(LevelDistribution, Completion), RequestFault> {
        let started = Instant::now();
        let completed = self.client.complete(body.clone()).await;
        let rated = completed.and_then(|completion| {
            let rating = completion.rating(&self.levels).map_err(|error| match error {
                NoRating::NoLevel(_) => RequestFault::NoLevel(error.to_string()),
                NoRating::Probabilities(_) => RequestFault::Failed {
                    code: "score.unexpected_answer",
                    message: error.to_string(),
                },
            })?;
            Ok((rating, completion))
        });
        let outcome = match &rated {
            Ok(_) | Err(RequestFault::NoLevel(_)) => "accepted",
            Err(RequestFault::Throttled { .. }) => "throttled",
            Err(RequestFault::Refused { .. } | RequestFault::Content(_)) => "refused",
            Err(RequestFault::Unreachable(_) | RequestFault::Failed { .. }) => "failed",
        };
        metrics::store_requested(&self.client.label, outcome, None);
        if outcome == "accepted" {
            self.breaker.rated();
            let mut last_rated = self.last_rated.lock().unwrap_or_else(PoisonError::into_inner);
            *last_rated = (*last_rated).max(Some(started));
        }
        rated
    }

    /// Decides whether the crop or the server is at fault, by the test picture if necessary.
    async fn explain(&self, fault: RequestFault, attempts: u32) -> ServerError {
        match fault {
            RequestFault::NoLevel(message) => return ServerError::NoLevel(message),
            RequestFault::Unreachable(_)
            | RequestFault::Throttled { .. }
            | RequestFault::Refused { .. } => return self.outage_of(&fault, attempts),
            RequestFault::Failed { .. } | RequestFault::Content(_) => {}
        }
        let tested = match self.form.for_test_picture() {
            Ok(body) => self.rate_once(&body).await.map(drop),
            Err(reason) => return ServerError::Preparation(reason),
        };
        match (tested, fault) {
            // The server has answered, though not with a level.
            (Ok(()) | Err(RequestFault::NoLevel(_)), RequestFault::Content(message)) => {
                ServerError::Refused(message)
            }
            (Ok(()) | Err(RequestFault::NoLevel(_)), fault) => {
                let (_, code, message) = fault.as_outage();
                let message = format!("{message}; the server rates another picture");
                let of_crop = self.outage_with(OutageKind::OnThisCrop, (code, message), attempts);
                ServerError::Outage(Arc::new(of_crop))
            }
            (Err(tested), _) => self.outage_of(&tested, attempts),
        }
    }

    fn outage_of(&self, fault: &RequestFault, attempts: u32) -> ServerError {
        let (kind, code, message) = fault.as_outage();
        let retry_after = fault.retry_after();
        let outage = self.outage_with(kind, (code, message), attempts);
        ServerError::Outage(Arc::new(ServerOutage { retry_after, ..outage }))
    }

    fn outage_with(
        &self,
        kind: OutageKind,
        (code, message): (&'static str, String),
        attempts: u32,
    ) -> ServerOutage {
        let last_rated = *self.last_rated.lock().unwrap_or_else(PoisonError::into_inner);
        let server = Arc::clone(self.server());
        ServerOutage { kind, code, server, message, attempts, last_rated, retry_after: None }
    }

    /// Asks the server about the test picture, once.
    ///
    /// # Errors
    /// [`ServerError::NoLevel`] if the answer names no level, otherwise [`ServerError::Outage`].
    pub async fn test(&self) -> Result<ServerReport, ServerError> {
        let body = self.form.for_test_picture().map_err(ServerError::Preparation)?;
        let started = Instant::now();
        match self.rate_once(&body).await {
            Ok((rating, completion)) => {
                let unreported = rating.served().and_then(|served| served.unreported);
                let off_level = rating.off_level().unwrap_or_default();
                Ok(ServerReport {
                    server: Arc::clone(self.server()),
                    tokens: completion.tokens.map(|tokens| tokens.len()),
                    on_levels: unreported.map(|unreported| 1.0 - unreported - off_level),
                    served_by: completion.served_by,
                    latency: started.elapsed(),
                })
            }
            Err(RequestFault::NoLevel(message)) => Err(ServerError::NoLevel(message)),
            Err(fault) => Err(self.outage_of(&fault, 1)),
        }
    }
}
