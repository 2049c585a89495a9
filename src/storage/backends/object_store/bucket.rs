//! One bucket of S3, Google Cloud Storage or Azure: reads, lists, and maps errors.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::client::HttpError;
use object_store::path::Path as ObjectKey;
use object_store::{Attribute, Error, GetOptions, ObjectMeta, ObjectStore};

use crate::etag::Etag;
use crate::storage::backends::body::{self, Content};
use crate::storage::backends::http_client;
use crate::storage::backends::object_store::connector::{Connector, ResponseNote};
use crate::storage::backends::object_store::open_client;
use crate::storage::error::{FetchFault, StorageError, UriFault, root_cause};
use crate::storage::limits::{Limits, TimeLimits};
use crate::storage::settings::Settings;
use crate::storage::uri::Scheme;

/// A bucket and its client.
#[derive(Clone)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Built from the settings. It uses our connector and supports `If-Match`.
    Configured,
    /// Passed in by the embedding program. It may write etags differently, so only the etag of the
    /// response is compared.
    Injected,
}

impl Bucket {
    /// Builds the client of a configured bucket.
    pub(crate) fn open(
        scheme: Scheme,
        name: &str,
        settings: &Settings,
        connector: &Connector,
    ) -> Result<Self, StorageError> {
        let store = match scheme {
            Scheme::S3 => {
                let s3 = settings.s3_buckets.get(name).unwrap_or(&settings.s3);
                open_client::open_s3(name, s3, connector)
            }
            Scheme::Gs => open_client::open_gcs(name, &settings.gcs, connector),
            Scheme::Az => open_client::open_azure(name, &settings.azure, connector),
        };
        store.map(|store| Self { store, origin: Origin::Configured })
    }

    /// Wraps a store of the embedding program.
    pub(crate) fn injected(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, origin: Origin::Injected }
    }

    /// Reads an object. Makes one attempt.
    pub(crate) async fn read(
        &self,
        key: &ObjectKey,
        etag: Option<&Etag>,
        limits: &Limits,
    ) -> Result<Content, FetchFault> {
        let note = Arc::new(ResponseNote::default());
        let mut options = GetOptions::default();
        options.extensions.insert(Arc::clone(&note));
        if self.origin == Origin::Configured {
            options.if_match = etag.and_then(Etag::if_match);
        }
        let answer = self
            .store
            .get_opts(key, options)
            .await
            .map_err(|error| self.fault_from(&error, &note, limits.time))?;
        let sent_etag = answer.meta.e_tag.clone();
        body::check_etag(etag, sent_etag.as_deref())?;
        let size = answer.meta.size;
        let media_type =
            answer.attributes.get(&Attribute::ContentType).map(|value| value.as_ref().to_owned());
        let stream =
            answer.into_stream().map_err(|error| self.fault_from(&error, &note, limits.time));
        let bytes = body::collect(stream, Some(size), limits.bytes_max).await?;
        Ok(Content { bytes, etag: sent_etag, media_type })
    }

    /// Lists the objects of a folder in the order of their keys, starting after the key `after`.
    pub(crate) fn list(
        &self,
        folder: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match after {
            Some(after) => self.store.list_with_offset(folder, after),
            None => self.store.list(folder),
        }
    }

    /// Maps an error of a listing, whose requests carry no note.
    pub(crate) fn listing_fault(error: &Error, limits: TimeLimits) -> FetchFault {
        match error {
            Error::NotFound { .. } => FetchFault::NotFound("of a listing".to_owned()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                FetchFault::Forbidden("a listing, which needs a separate permission".to_owned())
            }
            Error::InvalidPath { .. } => {
                UriFault::UnsupportedKey("of a listed object is not a path").into()
            }
            _ => transport_fault(error, limits)
                .unwrap_or_else(|| FetchFault::Unavailable(root_cause(error))),
        }
    }

    /// Maps an error of a read. The errors of `object_store` show URLs and the bodies of responses,
    /// so only parts that hold neither are repeated.
    fn fault_from(&self, error: &Error, note: &ResponseNote, limits: TimeLimits) -> FetchFault {
        match error {
            Error::NotFound { .. } => return FetchFault::NotFound(note.summary()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                return FetchFault::Forbidden(note.summary());
            }
            Error::Precondition { .. } => return FetchFault::EtagMismatch(note.summary()),
            _ => {}
        }
        if let Some(status) = note.failed_status() {
            return FetchFault::from_status(status, note.detail().as_deref());
        }
        let transport = transport_fault(error, limits);
        if note.is_request_sent() {
            return transport.unwrap_or_else(|| FetchFault::UnexpectedAnswer(root_cause(error)));
        }
        match self.origin {
            // The request was never sent, so the client failed to obtain credentials.
            Origin::Configured => FetchFault::Unavailable(format!(
                "no credentials for it could be obtained: {}; set them in storage or the \
                 environment, or set anonymous for public buckets",
                transport.map_or_else(|| "refused".to_owned(), |fault| fault.to_string()),
            )),
            Origin::Injected => FetchFault::Unavailable(root_cause(error)),
        }
    }
}

/// Returns the fault if a connection or a local file is among the causes of an error.
fn transport_fault(error: &Error, limits: TimeLimits) -> Option<FetchFault> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut is_transport = false;
    while let Some(inner) = cause {
        if let Some(client_error) = inner.downcast_ref::<reqwest::Error>() {
            return Some(http_client::fault_from(client_error, limits));
        }
        is_transport |= inner.is::<HttpError>() || inner.is::<std::io::Error>();
        cause = inner.source();
    }
    is_transport.then(|| FetchFault::Unavailable(root_cause(error)))
}
