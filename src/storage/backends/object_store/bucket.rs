//! One bucket of S3, Google Cloud Storage or Azure: reads, lists, and maps errors.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::client::HttpError;
use object_store::path::Path as ObjectKey;
use object_store::{Attribute, Error, GetOptions, GetResult, ObjectMeta, ObjectStore};

use crate::etag::Etag;
use crate::redact::{self, root_cause};
use crate::storage::backends::body::{self, Content};
use crate::storage::backends::http_client;
use crate::storage::backends::object_store::connector::{Connector, ResponseNote};
use crate::storage::backends::object_store::opaque_key;
use crate::storage::backends::object_store::open_client::{self, OpenedClient};
use crate::storage::backends::object_store::rotating_client::RotatingClient;
use crate::storage::error::{FetchFault, Overrun, Signer, StorageError, UriFault};
use crate::storage::key_rules::KeyRules;
use crate::storage::limits::{Limits, TimeLimits};
use crate::storage::settings::Settings;
use crate::storage::uri::{Key, Scheme};

/// Longest media type that a message repeats, in bytes.
const MEDIA_TYPE_BYTES_MAX: usize = 128;

/// A request for one object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectRead<'request> {
    pub(crate) key: &'request Key,
    /// The etag that the object must have.
    pub(crate) etag: Option<&'request Etag>,
    /// The version to read instead of the current one.
    pub(crate) version_id: Option<&'request str>,
    /// The rules that its media type must pass.
    pub(crate) content_types: Option<&'request KeyRules>,
}

/// A bucket and its client.
#[derive(Clone)]
pub(crate) struct Bucket {
    client: Client,
}

#[derive(Clone)]
enum Client {
    /// Built from the settings. It uses our connector and supports `If-Match`.
    Configured(Arc<RotatingClient>),
    /// Passed in by the embedding program. It may write etags differently, so only the etag of the
    /// response is compared.
    Injected(Arc<dyn ObjectStore>),
}

impl Bucket {
    /// Builds the client of a configured bucket.
    pub(crate) fn open(
        scheme: Scheme,
        name: &str,
        settings: &Settings,
        connector: &Connector,
    ) -> Result<Self, StorageError> {
        let (name, connector) = (name.to_owned(), connector.clone());
        let client = match scheme {
            Scheme::S3 => {
                let s3 = settings.s3_buckets.get(&name).unwrap_or(&settings.s3).clone();
                RotatingClient::new(move || open_client::open_s3(&name, &s3, &connector))
            }
            Scheme::Gs => {
                let gcs = settings.gcs.clone();
                RotatingClient::new(move || open_client::open_gcs(&name, &gcs, &connector))
            }
            Scheme::Az => {
                let azure = settings.azure.clone();
                RotatingClient::new(move || open_client::open_azure(&name, &azure, &connector))
            }
        };
        Ok(Self { client: Client::Configured(Arc::new(client?)) })
    }

    /// Wraps a store of the embedding program.
    pub(crate) fn injected(store: Arc<dyn ObjectStore>) -> Self {
        Self { client: Client::Injected(store) }
    }

    /// Reads an object. Makes one attempt, and a second one if the store refuses the credentials
    /// and there are newer ones.
    pub(crate) async fn read(
        &self,
        request: ObjectRead<'_>,
        limits: &Limits,
    ) -> Result<Content, FetchFault> {
        let rotating = match &self.client {
            Client::Configured(rotating) => rotating,
            Client::Injected(store) => return read_injected(&**store, request, limits).await,
        };
        let client = rotating.current();
        let fault = match read_configured(&client, request, limits).await {
            Err(fault) if fault.needs_other_credentials() => fault,
            outcome => return outcome,
        };
        match rotating.newer_than(&client).await {
            Some(newer) => read_configured(&newer, request, limits).await,
            None => Err(fault),
        }
    }

    /// Lists the objects of a folder in the order of their keys, starting after the key `after`.
    pub(crate) fn list(
        &self,
        folder: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let store = match &self.client {
            Client::Configured(rotating) => Arc::clone(&rotating.current().store),
            Client::Injected(store) => Arc::clone(store),
        };
        match after {
            Some(after) => store.list_with_offset(folder, after),
            None => store.list(folder),
        }
    }

    /// Maps an error of a listing, whose requests carry no note.
    pub(crate) fn listing_fault(error: &Error, limits: TimeLimits) -> FetchFault {
        match error {
            Error::NotFound { .. } => FetchFault::NotFound("of a listing".to_owned()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                FetchFault::Denied("a listing, which needs a separate permission".to_owned())
            }
            Error::InvalidPath { .. } => {
                UriFault::UnsupportedKey("of a listed object is not a path").into()
            }
            _ => unanswered(error, limits),
        }
    }
}

async fn read_configured(
    client: &OpenedClient,
    request: ObjectRead<'_>,
    limits: &Limits,
) -> Result<Content, FetchFault> {
    let note = Arc::new(ResponseNote::default());
    let mut options = GetOptions::default();
    options.extensions.insert(Arc::clone(&note));
    options.if_match = request.etag.and_then(Etag::if_match);
    options.version = request.version_id.map(str::to_owned);
    let placeholder;
    let key = match request.key {
        Key::Path(key) => key,
        Key::Opaque(key) => {
            options.extensions.insert(Arc::new(client.rewrite(key)));
            placeholder = ObjectKey::from(opaque_key::PLACEHOLDER);
            &placeholder
        }
    };
    let fault = |error: &Error| configured_fault(error, &note, limits.time);
    let answer = client.store.get_opts(key, options).await.map_err(|error| fault(&error))?;
    read_body(answer, request, limits, fault).await
}

async fn read_injected(
    store: &dyn ObjectStore,
    request: ObjectRead<'_>,
    limits: &Limits,
) -> Result<Content, FetchFault> {
    let Key::Path(key) = request.key else {
        return Err(UriFault::UnsupportedKey("has an empty, `.` or `..` segment").into());
    };
    let version = request.version_id.map(str::to_owned);
    let options = GetOptions { version, ..GetOptions::default() };
    let fault = |error: &Error| injected_fault(error, limits.time);
    let answer = store.get_opts(key, options).await.map_err(|error| fault(&error))?;
    read_body(answer, request, limits, fault).await
}

async fn read_body(
    answer: GetResult,
    request: ObjectRead<'_>,
    limits: &Limits,
    fault: impl Fn(&Error) -> FetchFault,
) -> Result<Content, FetchFault> {
    let sent_etag = answer.meta.e_tag.clone();
    body::check_etag(request.etag, sent_etag.as_deref())?;
    let size = answer.meta.size;
    let media_type =
        answer.attributes.get(&Attribute::ContentType).map(|value| value.as_ref().to_owned());
    if let (Some(rules), Some(media_type)) = (request.content_types, &media_type)
        && !rules.includes_content_type(media_type)
    {
        let media_type = redact::excerpt(media_type, MEDIA_TYPE_BYTES_MAX);
        return Err(FetchFault::OtherContentType(media_type));
    }
    let stream = answer.into_stream().map_err(|error| fault(&error));
    let bytes = body::collect(stream, Some(size), limits.bytes_max).await?;
    Ok(Content { bytes, etag: sent_etag, media_type })
}

/// Maps an error of a read. The errors of `object_store` show URLs and the bodies of responses, so
/// only parts that hold neither are repeated.
fn configured_fault(error: &Error, note: &ResponseNote, limits: TimeLimits) -> FetchFault {
    if let Some(response) = note.error() {
        return FetchFault::from_response(&response, Signer::Worker);
    }
    let transport = transport_fault(error, limits);
    if note.is_request_sent() {
        return transport.unwrap_or_else(|| FetchFault::UnexpectedAnswer(root_cause(error)));
    }
    // The request was never sent, so the client failed to obtain credentials.
    let why = transport.map_or_else(|| "refused".to_owned(), |fault| fault.to_string());
    FetchFault::NoCredentials(why)
}

/// Maps an error of a store of the embedding program.
fn injected_fault(error: &Error, limits: TimeLimits) -> FetchFault {
    match error {
        Error::NotFound { .. } => FetchFault::NotFound("no status".to_owned()),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            FetchFault::Denied("no status".to_owned())
        }
        Error::Precondition { .. } => FetchFault::EtagMismatch("no status".to_owned()),
        _ => unanswered(error, limits),
    }
}

/// Maps an error that no response of the store explains.
fn unanswered(error: &Error, limits: TimeLimits) -> FetchFault {
    transport_fault(error, limits).unwrap_or_else(|| FetchFault::Unavailable(root_cause(error)))
}

/// Returns the fault if a connection or a local file is among the causes of an error.
fn transport_fault(error: &Error, limits: TimeLimits) -> Option<FetchFault> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut is_transport = false;
    while let Some(inner) = cause {
        if let Some(client_error) = inner.downcast_ref::<reqwest::Error>() {
            return Some(http_client::fault_from(client_error, limits));
        }
        if let Some(overrun) = inner.downcast_ref::<Overrun>() {
            return Some(FetchFault::Timeout(*overrun));
        }
        is_transport |= inner.is::<HttpError>() || inner.is::<std::io::Error>();
        cause = inner.source();
    }
    is_transport.then(|| FetchFault::Unavailable(root_cause(error)))
}
