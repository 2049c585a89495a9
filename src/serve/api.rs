//! The handler of `POST /v1/score`, and the state that all requests share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::event::QualityEvent;
use crate::event::reference::PAYLOAD_BYTES_MAX;
use crate::pipeline::{Journey, Priority};
use crate::priority::{Permit, PrioritySemaphore};
use crate::serve::admission::{Admission, QueueFull};
use crate::serve::api_keys::NO_CLIENT;
use crate::serve::error::ServeError;
use crate::serve::key_file::KeyFile;
use crate::serve::problem::Refusal;
use crate::serve::request::{BodyKind, ScoreRequest, keys_of};
use crate::serve::request_body::RequestBody;
use crate::serve::request_context::RequestContext;
use crate::serve::settings::{Access, Settings};
use crate::telemetry::metrics;

/// The state of the API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) settings: Settings,
    pub(crate) journey: Journey,
    /// True if only this machine may connect, and without a key.
    pub(crate) is_local: bool,
    /// The keys, or `None` if requests need none.
    pub(crate) keys: Option<KeyFile>,
    admission: Admission,
    arriving: Arriving,
    /// Counts the requests that are not answered yet.
    pub(crate) in_flight: TaskTracker,
    /// Cancelled when the server begins to stop: further requests are refused.
    pub(crate) draining: CancellationToken,
    /// Cancelled at the end of the drain: all requests are refused.
    pub(crate) abort: CancellationToken,
    pub(crate) events: AtomicU64,
    pub(crate) problems: AtomicU64,
}

/// The share of the pipeline's bytes that bodies on their way may reserve: half. Clients decide
/// how fast a body arrives, and the backlog must not wait for them.
#[derive(Debug)]
struct Arriving {
    units: PrioritySemaphore,
    bytes: u64,
}

impl Api {
    /// Reads the keys and sets up the limits.
    ///
    /// # Errors
    /// Fails if the settings are refused or the keys cannot be read.
    pub(crate) fn new(settings: Settings, journey: &Journey) -> Result<Self, ServeError> {
        let is_local = settings.access()? == Access::ThisMachine;
        let keys = settings.api_keys()?;
        let keys = settings.api_keys_file.as_deref().zip(keys);
        let keys = keys.map(|(path, keys)| KeyFile::new(path, keys));
        Ok(Self {
            admission: Admission::new(&settings),
            arriving: Arriving::new(journey.parts().settings.bytes_budget.as_u64()),
            settings,
            journey: journey.with_priority(Priority::Request),
            is_local,
            keys,
            in_flight: TaskTracker::new(),
            draining: CancellationToken::new(),
            abort: CancellationToken::new(),
            events: AtomicU64::new(0),
            problems: AtomicU64::new(0),
        })
    }

    /// Returns the client of a request, or `None` if it needs a key and has no valid one.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let Some(keys) = &self.keys else { return Some(NO_CLIENT.into()) };
        let keys = keys.keys();
        keys_of(headers).find_map(|key| keys.client_of(key))
    }

    /// Answers a request within its deadline and the drain.
    async fn answer(
        &self,
        parts: &Parts,
        body: &mut RequestBody,
        context: &RequestContext,
    ) -> Result<QualityEvent, Refusal> {
        let _in_flight = self.in_flight.token();
        if self.draining.is_cancelled() {
            return Err(Refusal::stopping());
        }
        let request = ScoreRequest::parse(parts, &self.settings)?;
        // Before the body is sent in vain. A reference may name another one.
        self.journey.find_policy(request.policy.as_deref())?;
        // A panic fails this request only.
        let work = AssertUnwindSafe(self.assess(&request, body, context)).catch_unwind();
        let assessed = tokio::select! {
            // The end of the drain takes precedence: it ends this request in any case.
            biased;
            () = self.abort.cancelled() => return Err(Refusal::stopping()),
            assessed = timeout(request.time_max, work) => assessed,
        };
        match assessed {
            Ok(Ok(assessed)) => assessed,
            Ok(Err(_)) => {
                let detail = "assessing the image panicked; please report it as a bug";
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Err(Refusal::new(status, "pipeline.panicked", detail))
            }
            Err(_) => {
                let limit = humantime::format_duration(request.time_max);
                let detail = format!("the request was not answered within its {limit}");
                Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "request.deadline", detail))
            }
        }
    }

    /// Waits for a slot, then for memory, then reads the body and assesses the image.
    ///
    /// Cancel safe: a dropped future withdraws everything from the queues.
    async fn assess(
        &self,
        request: &ScoreRequest,
        body: &mut RequestBody,
        context: &RequestContext,
    ) -> Result<QualityEvent, Refusal> {
        let (limit, hint) = match request.body {
            BodyKind::Reference(_) => (PAYLOAD_BYTES_MAX as u64, "shorten the metadata"),
            BodyKind::Image => {
                let limit = self.journey.parts().stores.bytes_max();
                (limit, "raise storage.bytes_max or resize the image")
            }
        };
        let bytes_max = body.bytes_max(limit, hint)?;
        let _slot = self.admission.admit().await.map_err(queue_full)?;
        match &request.body {
            BodyKind::Reference(content_type) => {
                let bytes = body.read(limit, hint).await?;
                let reference = request.reference(content_type, &bytes, context)?;
                reference.mistaken_fields.iter().copied().for_each(metrics::field_ignored);
                Ok(self.journey.assess(reference, None).await?)
            }
            BodyKind::Image => {
                let arriving = self.arriving.enter(bytes_max).await;
                let started = Instant::now();
                let space = self.journey.reserve_upload(bytes_max).await;
                let bytes = body.read(limit, hint).await?;
                drop(arriving);
                let upload = space.filled(bytes, started).await;
                let uri = digest_uri(upload.sha256());
                let reference = request.upload_reference(uri, context);
                Ok(self.journey.assess_upload(upload, reference).await?)
            }
        }
    }
}

impl Arriving {
    /// Creates the share of a budget of fetched bytes.
    fn new(bytes_budget: u64) -> Self {
        let bytes = (bytes_budget / 2).max(1);
        Self { units: PrioritySemaphore::new(bytes), bytes }
    }

    /// Waits until a body of this size may arrive. One above the whole share arrives alone.
    ///
    /// Cancel safe.
    async fn enter(&self, bytes: u64) -> Permit {
        self.units.acquire(bytes.min(self.bytes), Priority::Request).await
    }
}

/// Answers `POST /v1/score`. If the client disconnects, the future is dropped, and its work with
/// it.
pub(crate) async fn score(
    State(api): State<Arc<Api>>,
    Extension(context): Extension<RequestContext>,
    request: Request,
) -> Response {
    let client = context.client.clone().unwrap_or_else(|| NO_CLIENT.into());
    let timer = metrics::request_received(Arc::clone(&client));
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::new(&parts.headers, body, api.settings.body_timeout);
    let answered = match &context.client {
        Some(_) => api.answer(&parts, &mut body, &context).await,
        None => Err(unauthorized()),
    };
    let request_id = &context.id;
    let response = match answered {
        Ok(event) => {
            api.events.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(request_id, client = &*client, score = event.score, "request answered");
            let body = serde_json::to_string(&event).expect("an event is plain data");
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(refusal) => {
            api.problems.fetch_add(1, Ordering::Relaxed);
            body.discard().await;
            let (status, code) = (refusal.status.as_u16(), refusal.code);
            tracing::debug!(request_id, client = &*client, status, code, "request refused");
            refusal.into_response(&context)
        }
    };
    timer.answered(response.status().as_u16());
    response
}

fn unauthorized() -> Refusal {
    let detail = "the request has no valid key; send `authorization: Bearer KEY` or `x-api-key: \
                  KEY`";
    Refusal::new(StatusCode::UNAUTHORIZED, "request.unauthorized", detail)
}

fn queue_full(full: QueueFull) -> Refusal {
    let detail = "too many requests wait for their turn; try again later, or send fewer at once";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "request.queue_full", detail)
        .with_retry_after(full.retry_after)
}

/// Returns the name of bytes by their SHA-256, as RFC 6920 writes it.
fn digest_uri(sha256: [u8; 32]) -> String {
    format!("ni:///sha-256;{}", BASE64_URL_SAFE_NO_PAD.encode(sha256))
}
