//! The error response of a store: its status, and the code, message and region that it names.
//!
//! S3, the web stores and expired presigned URLs answer in XML, Google in XML or JSON, Azure with a
//! header. Only these fields are read, because the rest of a body may repeat the signed request.
//! Secrets that the request sent are removed from the message: a store may repeat them.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use serde_json::Value;
use url::form_urlencoded;

use crate::backoff::retry_after;
use crate::redact;

/// Longest message of a store that is repeated, in bytes.
const MESSAGE_BYTES_MAX: usize = 160;
/// Longest name of an error.
const CODE_BYTES_MAX: usize = 64;
/// Longest name of a region.
const REGION_BYTES_MAX: usize = 32;
/// Shortest part of a request that is hidden. Shorter parts are numbers and words.
const SECRET_BYTES_MIN: usize = 8;
/// Shortest word of letters and digits that is hidden in a message: a signature, key or token.
const TOKEN_BYTES_MIN: usize = 32;

/// The error response of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorResponse {
    pub(crate) status: u16,
    /// The store's name of the error: `NoSuchKey`, `SlowDown`, …
    pub(crate) code: Option<String>,
    /// The store's explanation, shortened and without secrets.
    pub(crate) message: Option<String>,
    /// The region that the store names as that of the bucket.
    pub(crate) region: Option<String>,
    /// The time that the store demands before the next request.
    pub(crate) retry_after: Option<Duration>,
}

/// The secrets that a request sent.
#[derive(Debug, Default)]
pub(crate) struct SentSecrets(Vec<String>);

impl SentSecrets {
    /// Collects the secrets of a request: its credentials, and the values of its query.
    pub(crate) fn of(headers: &HeaderMap, query: Option<&str>) -> Self {
        let mut secrets = Vec::new();
        for name in [AUTHORIZATION.as_str(), "x-amz-security-token"] {
            let Some(Ok(value)) = headers.get(name).map(|value| value.to_str()) else { continue };
            secrets.push(value.to_owned());
            // `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, or `Bearer …`.
            let parts = value.split([' ', ',']).skip(1);
            let value_of = |part: &str| part.split_once('=').map_or(part, |pair| pair.1).to_owned();
            secrets.extend(parts.map(value_of));
        }
        let query = query.unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        secrets.extend(pairs.map(|(_, value)| value.to_owned()));
        let decoded = form_urlencoded::parse(query.as_bytes());
        secrets.extend(decoded.map(|(_, value)| value.into_owned()));
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        // A longer secret may contain a shorter one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// Removes the secrets from a text, and every word that looks like one.
    fn remove_from(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "***");
        }
        let text = redact::uris_in(&text);
        let words = text.split(' ').map(|word| if is_token(word) { "***" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }
}

impl ErrorResponse {
    /// Reads the headers and the beginning of the body of a response without the object.
    pub(crate) fn read(status: u16, headers: &HeaderMap, body: &str, sent: &SentSecrets) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let xml = |tag| element(body, tag);
        let json = JsonError::parse(body);
        let code = header("x-ms-error-code").map(str::to_owned).or_else(|| xml("Code"));
        let region = header("x-amz-bucket-region").map(str::to_owned).or_else(|| xml("Region"));
        Self {
            status,
            code: code.or(json.code).filter(|code| is_name(code, CODE_BYTES_MAX, sent)),
            message: xml("Message").or(json.message).and_then(|text| shown(&text, sent)),
            region: region.filter(|region| is_name(region, REGION_BYTES_MAX, sent)),
            retry_after: header(RETRY_AFTER.as_str()).and_then(retry_after),
        }
    }

    /// Returns true if the store names the error by one of these codes.
    pub(crate) fn is_one_of(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Returns true if the store's explanation contains this text.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.message.as_deref().is_some_and(|message| message.contains(text))
    }
}

impl fmt::Display for ErrorResponse {
    /// Writes `403 AccessDenied "Access Denied", region eu-west-1`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(formatter, "{} {code}", self.status)?,
            None => write!(formatter, "status {}", self.status)?,
        }
        if let Some(message) = &self.message {
            write!(formatter, " \"{message}\"")?;
        }
        match &self.region {
            Some(region) => write!(formatter, ", region {region}"),
            None => Ok(()),
        }
    }
}

/// An error in Google's JSON: `{"error": {"message": …, "errors": [{"reason": …}]}}`.
#[derive(Default)]
struct JsonError {
    code: Option<String>,
    message: Option<String>,
}

impl JsonError {
    fn parse(body: &str) -> Self {
        if !body.trim_start().starts_with('{') {
            return Self::default();
        }
        let Ok(body) = serde_json::from_str::<Value>(body) else { return Self::default() };
        let error = &body["error"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            // OAuth servers send a name only: `{"error": "invalid_grant"}`.
            code: text(&error["errors"][0]["reason"])
                .or_else(|| text(&error["status"]))
                .or_else(|| text(error)),
            message: text(&error["message"]).or_else(|| text(&body["error_description"])),
        }
    }
}

/// Returns the text of the first element with this name. The body may be cut off or not be XML, so
/// no parser is used.
fn element(body: &str, tag: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Some(text.replace("&apos;", "'").replace("&amp;", "&"))
}

/// Returns the first line of a store's message without secrets, or `None` if it is empty.
fn shown(text: &str, sent: &SentSecrets) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line = redact::excerpt(&sent.remove_from(line), MESSAGE_BYTES_MAX);
    Some(line.replace('"', "'"))
}

/// Returns true for the name of an error or of a region.
fn is_name(text: &str, bytes_max: usize, sent: &SentSecrets) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=bytes_max).contains(&text.len())
        && text.bytes().all(is_part)
        && sent.remove_from(text) == text
}

/// Returns true for a long word in the alphabets of keys, signatures and tokens.
fn is_token(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_.%".contains(&byte);
    word.len() >= TOKEN_BYTES_MIN
        && word.bytes().all(is_part)
        && word.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn read(status: u16, pairs: &[(&'static str, &str)], body: &str) -> String {
        let sent = SentSecrets::default();
        ErrorResponse::read(status, &headers(pairs), body, &sent).to_string()
    }

    #[test]
    fn the_error_of_every_cloud_is_shown_with_code_message_and_region() {
        let s3 = "<?xml version=\"1.0\"?>\n<Error><Code>AuthorizationHeaderMalformed</Code>\
                  <Message>The region &apos;us-east-1&apos; is wrong; expecting 'eu-west-1'\
                  </Message><Region>eu-west-1</Region><RequestId>1</RequestId></Error>";
        assert_eq!(
            read(400, &[], s3),
            "400 AuthorizationHeaderMalformed \"The region 'us-east-1' is wrong; expecting \
             'eu-west-1'\", region eu-west-1"
        );
        let moved = [("x-amz-bucket-region", "ap-south-1")];
        assert_eq!(read(301, &moved, ""), "status 301, region ap-south-1");
        let azure = [("x-ms-error-code", "AuthenticationFailed")];
        let body = "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>\
                    Server failed to authenticate.\nRequestId:1\nTime:2</Message></Error>";
        assert_eq!(
            read(403, &azure, body),
            "403 AuthenticationFailed \"Server failed to authenticate.\""
        );
        let google = r#"{"error": {"code": 403, "message": "Rate limit exceeded.",
                         "errors": [{"reason": "rateLimitExceeded"}]}}"#;
        assert_eq!(read(403, &[], google), "403 rateLimitExceeded \"Rate limit exceeded.\"");
        let oauth = r#"{"error": "invalid_grant", "error_description": "Invalid JWT"}"#;
        assert_eq!(read(400, &[], oauth), "400 invalid_grant \"Invalid JWT\"");
    }

    #[test]
    fn a_body_that_is_no_error_shows_only_the_status() {
        for body in ["", "nothing", "<Code></Code>", "<Code>NoSuchKey", "{", "[1]", "{\"a\": 1}"] {
            assert_eq!(read(404, &[], body), "status 404", "{body}");
        }
        assert_eq!(read(404, &[], "<Code>no such key</Code>"), "status 404");
        let long = format!("<Code>{}</Code>", "x".repeat(65));
        assert_eq!(read(404, &[], &long), "status 404");
    }

    #[test]
    fn a_message_repeats_no_secret_of_the_request_and_no_token() {
        let sent = headers(&[
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIA1234/s3, Signature=planted-signature",
            ),
            ("x-amz-security-token", "planted-token"),
        ]);
        let sent = SentSecrets::of(&sent, Some("X-Amz-Signature=planted%2Fquery&w=200"));
        let check = |text: &str, expected: &str| {
            let body = format!("<Message>{text}</Message>");
            let response = ErrorResponse::read(403, &HeaderMap::new(), &body, &sent);
            assert_eq!(response.message.as_deref(), Some(expected), "{text}");
        };
        check("got planted-token.", "got ***.");
        check("Signature planted-signature is wrong", "Signature *** is wrong");
        check("query planted/query or planted%2Fquery, 200", "query *** or ***, 200");
        check("see https://a.com/b?sig=1 for \"more\"", "see https://a.com/b… for 'more'");
        check(&format!("key {}1 is unknown", "aB+/".repeat(10)), "key *** is unknown");
        let plain = "The AWS Access Key Id you provided does not exist in our records.";
        check(plain, plain);
        let long = "word ".repeat(100);
        let body = format!("<Message>{long}</Message>");
        let response = ErrorResponse::read(403, &HeaderMap::new(), &body, &sent);
        assert!(response.message.unwrap().len() <= MESSAGE_BYTES_MAX);
        let body = "<Code>planted-token</Code>";
        assert_eq!(ErrorResponse::read(403, &HeaderMap::new(), body, &sent).code, None);
    }

    #[test]
    fn the_time_before_the_next_request_is_a_number_or_a_date_and_has_a_limit() {
        let after = |text: &str| {
            let headers = headers(&[("retry-after", text)]);
            ErrorResponse::read(503, &headers, "", &SentSecrets::default()).retry_after
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("99999999"), Some(Duration::from_hours(1)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("Wed, 21 Oct 2099 07:28:00 GMT"), Some(Duration::from_hours(1)));
        assert_eq!(after("soon"), None);
    }
}
