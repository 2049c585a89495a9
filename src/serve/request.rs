//! The parts of a request besides its body: policy, id, deadline, key, and the kind of the body.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use percent_encoding::percent_decode_str;

use crate::event::reference::{ID_CHARS_MAX, POLICY_CHARS_MAX};
use crate::event::{Headers, ImageReference};
use crate::serve::problem::Refusal;
use crate::serve::request_context::RequestContext;
use crate::serve::settings::Settings;

/// Header with the time that the client gives the request, in milliseconds.
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("dogiqa-deadline-ms");
/// Header with the key, for clients that cannot set `authorization`.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A parsed request, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScoreRequest {
    pub(crate) policy: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) time_max: Duration,
    pub(crate) body: BodyKind,
}

/// The kind of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// A reference, with its content type.
    Reference(String),
    /// The bytes of an image.
    Image,
}

impl ScoreRequest {
    /// Parses query and headers.
    ///
    /// # Errors
    /// Fails if a parameter or a header has an unknown name or an unusable value.
    pub(crate) fn parse(parts: &Parts, settings: &Settings) -> Result<Self, Refusal> {
        let (mut policy, mut id) = (None, None);
        let query = parts.uri.query().unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let (target, limit) = match &*name {
                "policy" => (&mut policy, POLICY_CHARS_MAX),
                "id" => (&mut id, ID_CHARS_MAX),
                _ => return Err(bad_query("it has only the parameters `policy` and `id`")),
            };
            if value.is_empty() || value.chars().count() > limit || target.is_some() {
                return Err(bad_query(
                    "`policy` and `id` appear once and are not empty or too long",
                ));
            }
            *target = Some(value);
        }
        Ok(Self {
            policy,
            id,
            time_max: time_max(&parts.headers, settings)?,
            body: kind(&parts.headers)?,
        })
    }

    /// Parses the reference in a body. The parameters of the query take precedence.
    ///
    /// # Errors
    /// Fails as for a record with this value.
    pub(crate) fn reference(
        &self,
        content_type: &str,
        body: &[u8],
        context: &RequestContext,
    ) -> Result<ImageReference, Refusal> {
        let headers = [("content-type".to_owned(), content_type.to_owned())];
        let headers: Headers = headers.into_iter().collect();
        let reference = crate::event::reference::parse(&headers, body)?;
        let id = self.id.clone().unwrap_or_else(|| reference.id.clone());
        let policy = self.policy.clone().or_else(|| reference.policy.clone());
        Ok(ImageReference { id, policy, trace: Some(context.trace.clone()), ..reference })
    }

    /// Returns a reference for an image that arrived with its request. Its URI is the digest of its
    /// bytes (RFC 6920), so the same image has the same `event_id`.
    pub(crate) fn upload_reference(&self, uri: String, context: &RequestContext) -> ImageReference {
        let reference = ImageReference::new(uri);
        ImageReference {
            id: self.id.clone().unwrap_or_else(|| reference.id.clone()),
            policy: self.policy.clone(),
            trace: Some(context.trace.clone()),
            ..reference
        }
    }
}

/// Decodes a name or a value of the query. Nothing is replaced: two ids must not become one.
fn decoded(text: &str) -> Result<String, Refusal> {
    let mut parts = text.split('%');
    parts.next();
    let is_escape =
        |part: &str| part.len() >= 2 && part.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !parts.all(is_escape) {
        return Err(bad_query("a % is not followed by two hexadecimal digits; write it as %25"));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    Ok(decoded.map_err(|_| bad_query("its decoded bytes are not UTF-8"))?.into_owned())
}

/// Returns the keys of a request. `authorization` may be that of a proxy.
pub(crate) fn keys_of(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = text(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let bearer = authorization.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearer.map(|(_, key)| key).into_iter().chain(text(API_KEY)).map(str::trim)
}

fn time_max(headers: &HeaderMap, settings: &Settings) -> Result<Duration, Refusal> {
    let Some(text) = only(headers, &DEADLINE)? else { return Ok(settings.deadline) };
    let milliseconds = text.trim().parse::<u64>().ok();
    let Some(milliseconds) = milliseconds.filter(|milliseconds| *milliseconds > 0) else {
        return Err(bad_header(&DEADLINE, "must be a number of milliseconds above zero"));
    };
    Ok(Duration::from_millis(milliseconds).min(settings.deadline_max))
}

fn kind(headers: &HeaderMap) -> Result<BodyKind, Refusal> {
    let unsupported = |detail| {
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "request.unsupported_content", detail)
    };
    // Several codings are a list, on one line or on several.
    for line in headers.get_all(header::CONTENT_ENCODING) {
        let mut codings = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if !codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")) {
            return Err(unsupported(
                "a content-encoding is not supported; send the bytes as they are",
            ));
        }
    }
    let content_type = only(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let content_type = content_type.to_ascii_lowercase();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence {
        "multipart/form-data" => {
            Err(unsupported("forms are not supported; send the image itself as the body"))
        }
        "application/json" | "application/cloudevents+json" => {
            Ok(BodyKind::Reference(content_type.clone()))
        }
        _ => Ok(BodyKind::Image),
    }
}

/// Returns the value of a header that decides about the request.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_header(name, "appears more than once; send it once"));
    }
    let text = value.to_str().map_err(|_| bad_header(name, "must be printable ASCII"))?;
    Ok(Some(text))
}

fn bad_header(name: &HeaderName, detail: &str) -> Refusal {
    let detail = format!("{name} {detail}");
    Refusal::new(StatusCode::BAD_REQUEST, "request.invalid_header", detail)
}

fn bad_query(detail: &str) -> Refusal {
    let detail = format!("the query cannot be used: {detail}");
    Refusal::new(StatusCode::BAD_REQUEST, "request.invalid_query", detail)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parse(uri: &str, headers: &[(&str, &str)]) -> Result<ScoreRequest, Refusal> {
        let request = headers
            .iter()
            .fold(Request::post(uri), |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        ScoreRequest::parse(&parts, &Settings::default())
    }

    #[test]
    fn policy_id_and_deadline_are_read_and_the_deadline_has_a_maximum() {
        let headers = [("dogiqa-deadline-ms", "1500"), ("content-type", "image/png")];
        let request = parse("/v1/score?policy=a%20b&id=4711", &headers).unwrap();
        assert_eq!(request.policy.as_deref(), Some("a b"));
        assert_eq!(request.id.as_deref(), Some("4711"));
        assert_eq!(
            (request.time_max, request.body),
            (Duration::from_millis(1500), BodyKind::Image)
        );
        let settings = Settings::default();
        let long = parse("/", &[("dogiqa-deadline-ms", "18446744073709551615")]).unwrap();
        assert_eq!(long.time_max, settings.deadline_max);
        assert_eq!(parse("/", &[]).unwrap().time_max, settings.deadline);
    }

    #[test]
    fn unusable_parameters_headers_and_bodies_are_refused() {
        let refused = |uri: &str, headers: &[(&str, &str)]| {
            let refusal = parse(uri, headers).unwrap_err();
            (refusal.status.as_u16(), refusal.code)
        };
        for uri in ["/?Policy=a", "/?policy=", "/?policy", "/?policy=a&policy=b", "/?=a"] {
            assert_eq!(refused(uri, &[]), (400, "request.invalid_query"), "{uri}");
        }
        for id in ["%ff%fe", "a%C3", "%zz", "%4", "100%", "%%41", "%F0%9F%98", "%+1"] {
            assert_eq!(refused(&format!("/?id={id}"), &[]), (400, "request.invalid_query"), "{id}");
        }
        for value in ["0", "-1", "1.5", "soon", ""] {
            let header = [("dogiqa-deadline-ms", value)];
            assert_eq!(refused("/", &header), (400, "request.invalid_header"), "{value}");
        }
        for header in [
            ("content-encoding", "gzip"),
            ("content-encoding", "identity, gzip"),
            ("content-encoding", "\u{e9}"),
            ("content-type", "multipart/form-data; boundary=x"),
        ] {
            assert_eq!(refused("/", &[header]), (415, "request.unsupported_content"));
        }
        let encodings = [("content-encoding", "identity"), ("content-encoding", "gzip")];
        assert_eq!(refused("/", &encodings), (415, "request.unsupported_content"));
        for (name, first, second) in [
            ("content-type", "image/png", "application/json"),
            ("dogiqa-deadline-ms", "900000", "1"),
        ] {
            let twice = [(name, first), (name, second)];
            assert_eq!(refused("/", &twice), (400, "request.invalid_header"), "{name}");
            let foreign = [(name, "caf\u{e9}")];
            assert_eq!(refused("/", &foreign), (400, "request.invalid_header"), "{name}");
        }
    }

    #[test]
    fn a_query_is_decoded_once_and_a_content_without_coding_is_accepted() {
        let id = |query: &str| parse(&format!("/?{query}"), &[]).unwrap().id.unwrap();
        assert_eq!(id("id=caf%C3%A9+1%2B1%3D2&"), "caf\u{e9} 1+1=2");
        assert_eq!(id("&%69d=100%2525"), "100%25");
        assert_eq!(id("id=a=b"), "a=b");
        let identity = [("content-encoding", "identity"), ("content-encoding", " Identity ,")];
        assert_eq!(parse("/", &identity).unwrap().body, BodyKind::Image);
    }

    #[test]
    fn a_key_is_read_from_either_header_and_neither_hides_the_other() {
        let keys = |headers: &[(&str, &str)]| {
            let request = headers
                .iter()
                .fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            keys_of(&parts.headers).collect::<Vec<_>>().join(",")
        };
        assert_eq!(keys(&[("authorization", "Bearer abc")]), "abc");
        assert_eq!(keys(&[("authorization", "bearer  abc ")]), "abc");
        assert_eq!(keys(&[("authorization", "Basic abc")]), "");
        assert_eq!(keys(&[("x-api-key", "abc")]), "abc");
        assert_eq!(keys(&[("cookie", "abc")]), "");
        assert_eq!(keys(&[("authorization", "Basic abc"), ("x-api-key", "def")]), "def");
        assert_eq!(keys(&[("authorization", "Bearer abc"), ("x-api-key", "def")]), "abc,def");
    }
}
