//! A request without an event: its status, and the body of RFC 9457 with the stable code.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::event::ReferenceError;
use crate::pipeline::JourneyError;
use crate::redact;
use crate::serve::request_context::RequestContext;
use crate::telemetry::Stage;

/// Media type of a problem.
pub(crate) const PROBLEM_TYPE: &str = "application/problem+json";
/// Time after which a client should try again if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The reason why a request has no event, as RFC 9457 defines it, with the code of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells the problems apart.
    #[schemars(extend("const" = "about:blank"))]
    pub r#type: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// Description of the error, for people: the fact, the value, and what to do.
    pub detail: String,
    /// Stable name of the error, such as `decode.truncated`. The same as in dead letters.
    #[schemars(regex(pattern = r"^[a-z]+\.[a-z0-9_]+$"))]
    pub code: &'static str,
    /// Stage that failed. Absent if the request did not reach the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// Id of the request, as in `x-request-id`.
    pub request_id: String,
}

/// A problem before it knows its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    detail: String,
    stage: Option<Stage>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Creates the refusal of a request that has not reached the pipeline.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), stage: None, retry_after: None }
    }

    /// Adds the time after which the client should try again.
    pub(crate) fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Reports that a request names another host than this machine.
    pub(crate) fn foreign_host() -> Self {
        let detail = "serve.listen is an address of this machine only; send the request to \
                      localhost, or set serve.api_keys_file or serve.allow_anonymous";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "request.foreign_host", detail)
    }

    /// Reports that the server is stopping.
    pub(crate) fn stopping() -> Self {
        let detail = "the server is stopping; send the request to another one";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "request.stopping", detail)
            .with_retry_after(RETRY_AFTER)
    }

    /// Builds the response.
    pub(crate) fn into_response(self, context: &RequestContext) -> Response {
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: redact::uris_in(&self.detail),
            code: self.code,
            stage: self.stage.map(Stage::name),
            request_id: context.id.clone(),
        };
        let body = serde_json::to_string(&problem).expect("a problem is plain data") + "\n";
        let mut response =
            (self.status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(retry_after) = self.retry_after {
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ReferenceError> for Refusal {
    fn from(error: ReferenceError) -> Self {
        let status = match &error {
            ReferenceError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ReferenceError::UnsupportedContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::BAD_REQUEST,
        };
        let stage = Some(Stage::Reference);
        Self { stage, ..Self::new(status, error.code(), error.to_string()) }
    }
}

impl From<JourneyError> for Refusal {
    fn from(error: JourneyError) -> Self {
        let status = status_of(&error);
        let demanded = error.store.and_then(|store| store.retry_after);
        let retry_after =
            (status == StatusCode::SERVICE_UNAVAILABLE).then(|| demanded.unwrap_or(RETRY_AFTER));
        let refusal = Self::new(status, error.code, error.message);
        Self { stage: Some(error.stage), retry_after, ..refusal }
    }
}

/// Returns the status of an image without an event.
fn status_of(error: &JourneyError) -> StatusCode {
    match error.code {
        "policy.unknown" | "uri.invalid" | "uri.unsupported_scheme" | "fetch.unsupported_key" => {
            StatusCode::BAD_REQUEST
        }
        "fetch.not_found" => StatusCode::NOT_FOUND,
        "fetch.too_large" | "decode.too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "decode.unsupported_format" | "decode.unsupported_feature" => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
        // The stage's own limit; the request's deadline is answered elsewhere.
        code if code.ends_with(".timeout") => StatusCode::GATEWAY_TIMEOUT,
        _ if error.transient => StatusCode::SERVICE_UNAVAILABLE,
        _ => match error.stage {
            Stage::Reference | Stage::Fetch | Stage::Decode => StatusCode::UNPROCESSABLE_ENTITY,
            Stage::Segment | Stage::Score | Stage::Measure | Stage::Publish => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_the_pipeline_has_its_status() {
        for (stage, code, status) in [
            (Stage::Reference, "policy.unknown", 400),
            (Stage::Fetch, "uri.invalid", 400),
            (Stage::Fetch, "uri.forbidden_bucket", 422),
            (Stage::Fetch, "uri.forbidden_host", 422),
            (Stage::Fetch, "fetch.forbidden", 422),
            (Stage::Fetch, "fetch.not_found", 404),
            (Stage::Fetch, "fetch.too_large", 413),
            (Stage::Fetch, "fetch.etag_mismatch", 422),
            (Stage::Fetch, "fetch.timeout", 504),
            (Stage::Decode, "decode.too_large", 413),
            (Stage::Decode, "decode.unsupported_format", 415),
            (Stage::Decode, "decode.truncated", 422),
            (Stage::Decode, "decode.empty", 422),
            (Stage::Score, "score.timeout", 504),
            (Stage::Segment, "segment.failed", 500),
        ] {
            let refusal = Refusal::from(JourneyError::permanent(stage, code, String::new()));
            assert_eq!(refusal.status.as_u16(), status, "{code}");
            assert_eq!((refusal.code, refusal.stage), (code, Some(stage)));
        }
        let unavailable = JourneyError {
            transient: true,
            ..JourneyError::permanent(Stage::Fetch, "fetch.unavailable", String::new())
        };
        let refusal = Refusal::from(unavailable);
        assert_eq!(refusal.status.as_u16(), 503);
        assert_eq!(refusal.retry_after, Some(RETRY_AFTER));
    }
}
