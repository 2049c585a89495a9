//! One request to a server, and the fault of a response without a rating.
//!
//! The client follows no redirects, so that key and images reach only the configured server. It
//! uses the proxies of the environment, and the system's certificate authorities or those of
//! `SSL_CERT_FILE`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response};
use serde_json::Value;
use url::Url;

use crate::backoff::retry_after;
use crate::engine::server::completion::Completion;
use crate::engine::server::error::RequestFault;
use crate::engine::server::settings::HttpSettings;
use crate::outbound_http;
use crate::redact;
use crate::telemetry::metrics;

/// Time limit for a connection, or less if the whole request has less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes. One of 20 tokens has a few thousand.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest text of a server that a message repeats, in bytes.
const EXCERPT_BYTES_MAX: usize = 160;
/// Longest key that is read from a file, in bytes.
const KEY_BYTES_MAX: usize = 16 << 10;

/// A client of one server.
#[derive(Debug)]
pub(crate) struct ServerClient {
    http: Client,
    url: Url,
    /// The address of the API without secrets.
    pub(crate) name: Arc<str>,
    /// The server in metrics, next to the stores.
    pub(crate) label: String,
    settings: HttpSettings,
    /// Texts that no message may repeat.
    secrets: Vec<String>,
}

impl ServerClient {
    /// Builds a client. Sends nothing.
    ///
    /// # Errors
    /// Returns the sentence to show if the settings cannot be used.
    pub(crate) fn new(settings: HttpSettings) -> Result<Self, String> {
        let url = settings.check()?;
        let connect_timeout = CONNECT_TIMEOUT.min(settings.timeout);
        let idle_max = settings.concurrency.get();
        let builder = || {
            outbound_http::builder()
                .connect_timeout(connect_timeout)
                .pool_max_idle_per_host(idle_max)
        };
        let http = outbound_http::build(builder, url.scheme() == "http");
        let http =
            http.map_err(|error| format!("no HTTP client: {}", redact::root_cause(&error)))?;
        let secrets = secrets(&settings, &url);
        let name = shown(&settings).into();
        let origin = url.origin().ascii_serialization();
        let label = format!("{}{origin}", metrics::SCORING_SERVER);
        Ok(Self { http, url, name, label, settings, secrets })
    }

    /// Sends one request within the time limit and reads its answer.
    ///
    /// Cancel safe: dropping the future ends the request.
    ///
    /// # Errors
    /// Fails with the fault of the request.
    pub(crate) async fn complete(&self, body: Bytes) -> Result<Completion, RequestFault> {
        let limit = self.settings.timeout;
        let answered = tokio::time::timeout(limit, self.exchange(body)).await;
        answered.unwrap_or_else(|_| {
            let message = format!(
                "no answer within {} (engine.dog_iqa.http.timeout)",
                humantime::format_duration(limit)
            );
            Err(failed(message))
        })
    }

    async fn exchange(&self, body: Bytes) -> Result<Completion, RequestFault> {
        let mut request =
            self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let key = self.key().await?;
        if let Some(key) = &key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.connection_fault(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = self.read(response).await;
        if !(200..300).contains(&status) {
            // The status is the fault, even if the explanation is cut off.
            let answer = answer.unwrap_or_default();
            let text = self.without_secrets(&explanation(&answer), key.as_deref());
            return Err(status_fault(status, &headers, &text));
        }
        Completion::parse(&answer?).map_err(|reason| RequestFault::Failed {
            code: "score.unexpected_answer",
            message: format!("the answer is no chat completion: {}", self.hide(&reason)),
        })
    }

    /// Returns the key of the settings or of its file.
    async fn key(&self) -> Result<Option<String>, RequestFault> {
        let Some(path) = &self.settings.api_key_file else {
            return Ok(self.settings.api_key.as_ref().map(|key| key.expose().to_owned()));
        };
        let refused = |reason: String| RequestFault::Refused {
            code: "score.credentials",
            message: format!("engine.dog_iqa.http.api_key_file {}: {reason}", path.display()),
        };
        let key =
            tokio::fs::read_to_string(path).await.map_err(|error| refused(error.to_string()))?;
        let key = key.trim();
        let is_key = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !is_key(key) {
            return Err(refused("it holds no key".to_owned()));
        }
        Ok(Some(key.to_owned()))
    }

    /// Reads a body up to its limit.
    async fn read(&self, mut response: Response) -> Result<Vec<u8>, RequestFault> {
        let mut body = Vec::new();
        while let Some(part) =
            response.chunk().await.map_err(|error| self.connection_fault(&error))?
        {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(RequestFault::Failed {
                    code: "score.unexpected_answer",
                    message: format!("the answer has more than {ANSWER_BYTES_MAX} bytes"),
                });
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    fn connection_fault(&self, error: &reqwest::Error) -> RequestFault {
        let cause = self.hide(&redact::innermost(error).to_string());
        if error.is_connect() {
            return RequestFault::Unreachable(format!("the server cannot be reached ({cause})"));
        }
        if error.is_builder() {
            return RequestFault::Refused {
                code: "score.misconfigured",
                message: format!("the request cannot be formed ({cause})"),
            };
        }
        failed(format!("the connection was lost ({cause})"))
    }

    fn hide(&self, text: &str) -> String {
        self.without_secrets(text, None)
    }

    fn without_secrets(&self, text: &str, key: Option<&str>) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().map(String::as_str).chain(key) {
            text = text.replace(secret, "***");
        }
        redact::excerpt(&redact::uris_in(&text), EXCERPT_BYTES_MAX)
    }
}

/// Returns the address of the API without user and password.
fn shown(settings: &HttpSettings) -> String {
    let mut url = settings.url.parse::<Url>().ok();
    if let Some(url) = &mut url {
        // An address that has no place for them has none.
        url.set_username("").ok();
        url.set_password(None).ok();
    }
    let text = url.map_or_else(|| redact::uri(&settings.url), String::from);
    text.trim_end_matches('/').to_owned()
}

fn failed(message: String) -> RequestFault {
    RequestFault::Failed { code: "score.unavailable", message }
}

/// Collects the secrets that a server could repeat.
fn secrets(settings: &HttpSettings, url: &Url) -> Vec<String> {
    let mut secrets = Vec::new();
    secrets.extend(settings.api_key.as_ref().map(|key| key.expose().to_owned()));
    if let Some(password) = url.password() {
        let decoded = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
        let user = percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy();
        secrets.push(BASE64_STANDARD.encode(format!("{user}:{decoded}")));
        secrets.push(password.to_owned());
        secrets.push(decoded.into_owned());
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

/// Maps a response without a completion.
fn status_fault(status: u16, headers: &HeaderMap, text: &str) -> RequestFault {
    let answer = if text.is_empty() {
        format!("status {status}")
    } else {
        format!("status {status} \"{text}\"")
    };
    let pause = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let refused = |code, cure| RequestFault::Refused {
        code,
        message: format!("the server refuses this worker ({answer}); {cure}"),
    };
    match status {
        429 => RequestFault::Throttled {
            message: format!("the server throttles requests ({answer}); lower the concurrency"),
            retry_after: pause,
        },
        503 if pause.is_some() => RequestFault::Throttled {
            message: format!("the server is busy ({answer})"),
            retry_after: pause,
        },
        400 | 413 | 415 | 422 => RequestFault::Content(answer),
        408 | 425 | 500.. => failed(format!("the server fails ({answer})")),
        401 | 403 => refused("score.credentials", "check engine.dog_iqa.http.api_key"),
        407 => refused("score.credentials", "set the proxy's credentials in its variable"),
        404 => refused(
            "score.misconfigured",
            "check url and model in engine.dog_iqa.http: the path or the model does not exist",
        ),
        300..400 => refused(
            "score.misconfigured",
            "redirects are not followed: set engine.dog_iqa.http.url to the target",
        ),
        _ => refused("score.misconfigured", "check engine.dog_iqa.http"),
    }
}

/// Returns a server's explanation of an error: OpenAI's `error.message`, TGI's `error`, the
/// `message` of older vLLM, FastAPI's `detail`, or the text itself.
fn explanation(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(answer) = serde_json::from_str::<Value>(&text) else { return text.into_owned() };
    let places = ["/error/message", "/error", "/message", "/detail"];
    let found = places.into_iter().find_map(|place| answer.pointer(place));
    match found {
        Some(Value::String(message)) => message.clone(),
        Some(other) => other.to_string(),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_on_the_party_at_fault() {
        let fault = |status| status_fault(status, &HeaderMap::new(), "why");
        for status in [400, 413, 415, 422] {
            assert!(matches!(fault(status), RequestFault::Content(_)), "{status}");
        }
        for status in [408, 425, 500, 502, 503, 504, 529] {
            assert!(matches!(fault(status), RequestFault::Failed { .. }), "{status}");
        }
        for (status, expected) in [
            (401, "score.credentials"),
            (403, "score.credentials"),
            (407, "score.credentials"),
            (404, "score.misconfigured"),
            (405, "score.misconfigured"),
            (301, "score.misconfigured"),
            (308, "score.misconfigured"),
        ] {
            let RequestFault::Refused { code, message } = fault(status) else {
                panic!("{status} is no refusal")
            };
            assert_eq!(code, expected, "{status}");
            assert!(message.contains(&status.to_string()) && message.contains("why"), "{message}");
        }
    }

    #[test]
    fn a_pause_is_demanded_with_429_or_503() {
        let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        for status in [429, 503] {
            let fault = status_fault(status, &headers("7"), "");
            assert_eq!(fault.retry_after(), Some(Duration::from_secs(7)), "{status}");
        }
        let fault = status_fault(429, &headers("soon"), "");
        assert!(matches!(fault, RequestFault::Throttled { retry_after: None, .. }), "{fault:?}");
    }

    #[test]
    fn the_explanations_of_all_servers_are_found() {
        for (body, expected) in [
            (
                r#"{"error":{"message":"The model `x` does not exist.","code":404}}"#,
                "The model `x`",
            ),
            (r#"{"error":"Input validation error","error_type":"validation"}"#, "Input validation"),
            (r#"{"object":"error","message":"max_logprobs is 5","code":400}"#, "max_logprobs is 5"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":[{"loc":["body"]}]}"#, "body"),
            ("<html>bad gateway</html>", "<html>bad gateway"),
        ] {
            assert!(explanation(body.as_bytes()).contains(expected), "{body}");
        }
    }

    #[test]
    fn no_secret_of_a_request_is_repeated() {
        let client = ServerClient::new(HttpSettings {
            url: "http://me:s3%2Fcret@gpu-7/v1".to_owned(),
            model: "m".to_owned(),
            ..HttpSettings::default()
        });
        let client = client.unwrap();
        assert_eq!(&*client.name, "http://gpu-7/v1");
        let basic = BASE64_STANDARD.encode("me:s3/cret");
        let text = client.without_secrets(
            &format!("got Basic {basic} s3/cret s3%2Fcret k3y https://h/a?sig=k3y"),
            Some("k3y"),
        );
        for secret in ["s3", "k3y", &basic] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
