//! The transport of the object stores: our client, and a note of what the store answered.
//!
//! The errors of `object_store` hide the status of an answer. The request carries a [`Note`]
//! along, and the service writes status and error name on it as they pass.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::Client;

use crate::storage::http::{self, TimeLimits};
use crate::storage::stores::StorageError;

/// How much of an error's body is read; the stores' own have less than 1 KiB.
const ERROR_BODY_BYTES_MAX: usize = 8 * 1024;

/// Makes the transport of every bucket from the same two clients.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// For `https:`, through the proxy that the environment names, if any.
    outbound: Client,
    /// For `http:`, never through a proxy: own endpoints and the clouds' metadata services.
    direct: Client,
}

impl Connector {
    /// Builds the clients; `allow_http` tells whether any store may be read without TLS.
    pub(crate) fn new(limits: TimeLimits, allow_http: bool) -> Result<Self, StorageError> {
        Ok(Self {
            outbound: http::build(|| http::builder(limits), allow_http)?,
            direct: http::build(|| http::builder(limits).no_proxy(), true)?,
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(HttpClient::new(Service { connector: self.clone(), allow_http }))
    }
}

/// What a store answered to one read.
#[derive(Debug, Default)]
pub(crate) struct Note(Mutex<Answer>);

#[derive(Debug, Default)]
struct Answer {
    was_asked: bool,
    failed_status: Option<u16>,
    detail: Option<String>,
}

impl Note {
    /// Tells whether the request for the object itself was sent.
    pub(crate) fn was_asked(&self) -> bool {
        self.read(|answer| answer.was_asked)
    }

    /// Returns the status of an answer without the object.
    pub(crate) fn failed_status(&self) -> Option<u16> {
        self.read(|answer| answer.failed_status)
    }

    /// Returns the store's name of the error: `NoSuchKey`, `SlowDown`, …
    pub(crate) fn detail(&self) -> Option<String> {
        self.read(|answer| answer.detail.clone())
    }

    /// Writes status and name for a message.
    pub(crate) fn answer(&self) -> String {
        self.read(|answer| match (answer.failed_status, &answer.detail) {
            (Some(status), Some(detail)) => format!("{status} {detail}"),
            (Some(status), None) => format!("status {status}"),
            (None, _) => "no status".to_owned(),
        })
    }

    fn read<T>(&self, pick: impl FnOnce(&Answer) -> T) -> T {
        pick(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the endpoint is without TLS, which is not allowed; set allow_http beside it")]
struct PlainHttp;

#[derive(Debug)]
struct Service {
    connector: Connector,
    allow_http: bool,
}

impl Service {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let note = request.extensions().get::<Arc<Note>>().cloned().unwrap_or_default();
        note.write(|answer| answer.was_asked = true);
        let client = match request.uri().scheme_str() {
            Some("https") => &self.connector.outbound,
            _ if self.allow_http => &self.connector.direct,
            _ => return Err(HttpError::new(HttpErrorKind::Unknown, PlainHttp)),
        };
        let response = client.call(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let text = error_text(body).await?;
        note.write(|answer| {
            answer.failed_status = Some(parts.status.as_u16());
            answer.detail = error_name(&text);
        });
        Ok(HttpResponse::from_parts(parts, text.into()))
    }
}

impl HttpService for Service {
    // The form that `async_trait` gives to the method.
    fn call<'service, 'call>(
        &'service self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'service: 'call,
        Self: 'call,
    {
        Box::pin(self.answer(request))
    }
}

/// Reads the beginning of an error's body; a hostile store could make it endless.
async fn error_text(body: HttpResponseBody) -> Result<String, HttpError> {
    let mut pieces = body.bytes_stream();
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece?);
        if text.len() >= ERROR_BODY_BYTES_MAX {
            text.truncate(ERROR_BODY_BYTES_MAX);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Finds the name of the error, `<Code>NoSuchKey</Code>`, in the XML that all three clouds send.
fn error_name(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (name, _) = rest.split_once("</Code>")?;
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::error_name;

    #[test]
    fn the_name_of_an_error_is_a_word() {
        let check = |text: &str, name: Option<&str>| assert_eq!(error_name(text).as_deref(), name);
        check("<Error><Code>NoSuchKey</Code><Message>m</Message></Error>", Some("NoSuchKey"));
        check("<Code>no such key</Code>", None);
        check("<Code></Code>", None);
        check("<Code>NoSuchKey", None);
        check("nothing", None);
    }
}
