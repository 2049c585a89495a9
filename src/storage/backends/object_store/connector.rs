//! The HTTP transport beneath `object_store`: our clients, and a note of the response.
//!
//! The errors of `object_store` hide the status of a response. So each request carries a
//! [`ResponseNote`], on which the transport writes the status and the name of the error.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::Client;

use crate::storage::backends::http_client;
use crate::storage::error::StorageError;
use crate::storage::limits::TimeLimits;

/// Maximum bytes to read of an error's body. Errors of real stores have less than 1 KiB.
const ERROR_BODY_BYTES_MAX: usize = 8 * 1024;

/// Connects every bucket through the same two clients.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// For `https:`. Uses the proxy that the environment names, if any.
    outbound: Client,
    /// For `http:`, which only custom endpoints and the clouds' metadata services use. Never uses a
    /// proxy.
    direct: Client,
}

impl Connector {
    /// Builds the clients. `allow_http` is true if any store may be read without TLS.
    pub(crate) fn new(limits: TimeLimits, allow_http: bool) -> Result<Self, StorageError> {
        Ok(Self {
            outbound: http_client::build(|| http_client::builder(limits), allow_http)?,
            direct: http_client::build(|| http_client::builder(limits).no_proxy(), true)?,
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(HttpClient::new(Transport { connector: self.clone(), allow_http }))
    }
}

/// A note of the response to one read.
#[derive(Debug, Default)]
pub(crate) struct ResponseNote(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    is_request_sent: bool,
    failed_status: Option<u16>,
    detail: Option<String>,
}

impl ResponseNote {
    /// Returns true if the request for the object itself was sent, not only one for credentials.
    pub(crate) fn is_request_sent(&self) -> bool {
        self.read(|noted| noted.is_request_sent)
    }

    /// Returns the status of a response without the object.
    pub(crate) fn failed_status(&self) -> Option<u16> {
        self.read(|noted| noted.failed_status)
    }

    /// Returns the store's name of the error: `NoSuchKey`, `SlowDown`, …
    pub(crate) fn detail(&self) -> Option<String> {
        self.read(|noted| noted.detail.clone())
    }

    /// Returns the status and the name of the error for a message.
    pub(crate) fn summary(&self) -> String {
        self.read(|noted| match (noted.failed_status, &noted.detail) {
            (Some(status), Some(detail)) => format!("{status} {detail}"),
            (Some(status), None) => format!("status {status}"),
            (None, _) => "no status".to_owned(),
        })
    }

    fn read<T>(&self, pick: impl FnOnce(&Noted) -> T) -> T {
        pick(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the endpoint is without TLS, which is not allowed; set allow_http next to it")]
struct PlainHttp;

#[derive(Debug)]
struct Transport {
    connector: Connector,
    allow_http: bool,
}

impl Transport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let note = request.extensions().get::<Arc<ResponseNote>>().cloned().unwrap_or_default();
        note.write(|noted| noted.is_request_sent = true);
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
        note.write(|noted| {
            noted.failed_status = Some(parts.status.as_u16());
            noted.detail = error_name(&text);
        });
        Ok(HttpResponse::from_parts(parts, text.into()))
    }
}

impl HttpService for Transport {
    // The signature that `async_trait` generates.
    fn call<'service, 'call>(
        &'service self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'service: 'call,
        Self: 'call,
    {
        Box::pin(self.send(request))
    }
}

/// Reads the beginning of an error's body, which a hostile store could make endless.
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

/// Returns the name of the error, `<Code>NoSuchKey</Code>`, from the XML of all three clouds.
fn error_name(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (name, _) = rest.split_once("</Code>")?;
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
