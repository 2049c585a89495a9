//! The HTTP transport beneath `object_store`: our clients, and a note of the response.
//!
//! The errors of `object_store` hide the response of the store. So each request carries a
//! [`ResponseNote`], on which the transport writes the error that the store sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpService,
};
use reqwest::Client;

use crate::storage::backends::body;
use crate::storage::backends::http_client;
use crate::storage::backends::object_store::opaque_key::KeyRewrite;
use crate::storage::backends::object_store::raw_client::RawClient;
use crate::storage::error::StorageError;
use crate::storage::error_response::{ErrorResponse, SentSecrets};
use crate::storage::limits::Limits;

/// Connects every bucket through the same clients.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// For `https:`. Uses the proxy that the environment names, if any.
    outbound: Client,
    /// For `http:`, which only custom endpoints and the clouds' metadata services use. Never uses a
    /// proxy.
    direct: Client,
    /// For keys that the other two would change.
    raw: Arc<RawClient>,
}

impl Connector {
    /// Builds the clients. `allow_http` is true if any store may be read without TLS.
    pub(crate) fn new(limits: &Limits, allow_http: bool) -> Result<Self, StorageError> {
        let builder = || http_client::builder(limits.time);
        Ok(Self {
            outbound: http_client::build(builder, allow_http)?,
            direct: http_client::build(|| builder().no_proxy(), true)?,
            raw: Arc::new(RawClient::new(limits, allow_http)?),
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
    error: Option<ErrorResponse>,
}

impl ResponseNote {
    /// Returns true if the request for the object itself was sent, not only one for credentials.
    pub(crate) fn is_request_sent(&self) -> bool {
        self.lock().is_request_sent
    }

    /// Returns the response without the object, if there was one.
    pub(crate) fn error(&self) -> Option<ErrorResponse> {
        self.lock().error.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let rewrite = request.extensions().get::<Arc<KeyRewrite>>().cloned();
        if let Some(rewrite) = &rewrite {
            let rewritten = rewrite.apply(&mut request).await;
            rewritten.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        }
        let note = request.extensions().get::<Arc<ResponseNote>>().cloned().unwrap_or_default();
        note.lock().is_request_sent = true;
        let sent = SentSecrets::of(request.headers(), request.uri().query());
        let client = match request.uri().scheme_str() {
            Some("https") => &self.connector.outbound,
            _ if self.allow_http => &self.connector.direct,
            _ => return Err(HttpError::new(HttpErrorKind::Unknown, PlainHttp)),
        };
        let response = if rewrite.is_some_and(|rewrite| rewrite.needs_raw_url()) {
            self.connector.raw.send(request).await?
        } else {
            client.call(request).await?
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, content) = response.into_parts();
        let text = body::error_text(content.bytes_stream()).await;
        let status = parts.status.as_u16();
        note.lock().error = Some(ErrorResponse::read(status, &parts.headers, &text, &sent));
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
